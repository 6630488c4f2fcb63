"""What passes did, as tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from leptonc.cli.console import bytes_text, wide_table

if TYPE_CHECKING:
    from leptonc.explain import Explanation
    from leptonc.passes.observers import Timing

SHOWN_NODES = 3
SHOWN_MISSES = 20


def print_explanation(explanation: Explanation, *, unused: Sequence[str] = ()) -> None:
    """What was applied where, then what nearly was and why not; long lists are capped."""
    wide_table(
        ("pass", "rule", "applied", "to"),
        [(row.step, row.rule, str(row.count), named(row.nodes)) for row in explanation.fired],
    )
    missed = explanation.missed
    if missed:
        wide_table(
            ("nearly applied", "times", "not because", "at"),
            [
                (row.rule, str(row.count), row.reason, named(row.nodes))
                for row in missed[:SHOWN_MISSES]
            ],
        )
    if len(missed) > SHOWN_MISSES:
        click.echo(f"and {len(missed) - SHOWN_MISSES} more reasons: --json lists them")
    print_unused(unused)


def print_unused(unused: Sequence[str]) -> None:
    """The inputs that nothing reads, where there are some."""
    if unused:
        click.echo(f"nothing reads the inputs {named(unused, 10)}")


def named(nodes: Sequence[str], most: int = SHOWN_NODES) -> str:
    """The first few names, and how many more there are."""
    from leptonc.ir.diagnostics import shown

    names = ", ".join(map(shown, nodes[:most]))
    return f"{names} and {len(nodes) - most} more" if len(nodes) > most else names


def print_timings(timings: Sequence[Timing]) -> None:
    """What each pass cost and changed; sizes that a pass leaves alone are shown once."""
    rows = [
        (
            row.step,
            str(row.changes),
            f"{row.seconds * 1000:.1f}",
            _change(str(row.before.nodes), str(row.after.nodes)),
            _change(bytes_text(row.before.constant_bytes), bytes_text(row.after.constant_bytes)),
            _change(flops_text(row.before.flops), flops_text(row.after.flops)),
        )
        for row in timings
    ]
    total = sum(row.seconds for row in timings)
    changes = sum(row.changes for row in timings)
    rows.append(("all", str(changes), f"{total * 1000:.1f}", "", "", ""))
    columns = ("pass", "changes", "ms", "nodes", "constants", "FLOPs")
    wide_table(columns, rows, "FLOPs: open extents count as 1")


def _change(before: str, after: str) -> str:
    return after if before == after else f"{before} -> {after}"


def flops_text(count: int) -> str:
    """Operations on numbers as people read them."""
    amount = float(count)
    for unit in ("", "k", "M", "G"):
        if amount < 1000:
            return f"{amount:.3g}{unit}"
        amount /= 1000
    return f"{amount:.3g}T"
