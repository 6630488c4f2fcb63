"""The kernels of a model as a table, or as JSON, with what bounds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from leptonc.cli.console import seconds_text, wide_table
from leptonc.cli.reports import named

if TYPE_CHECKING:
    from leptonc.backends.base import Progress
    from leptonc.backends.cpu.choices import Choice
    from leptonc.backends.cpu.peaks import Peaks
    from leptonc.ir.graph import Graph
    from leptonc.runtime import Session
    from leptonc.tools.bench_kernels import KernelRow
    from leptonc.tools.bench_profile import Profile

SHARE = 0.95
"""How much of the time of all kernels those in the table take."""


def explained(
    graph: Graph, session: Session, feeds: Mapping[str, Any], seconds: float, report: Progress
) -> tuple[Profile, Peaks, list[KernelRow]]:
    """The run of a prepared graph, what the core can do, and the kernels."""
    from leptonc.backends.cpu.peaks import measure_peaks
    from leptonc.backends.cpu.target import by_name
    from leptonc.tools.bench_kernels import kernel_rows
    from leptonc.tools.bench_profile import profile

    report("kernels' times", 0, 2)
    run = profile(session, feeds, seconds)
    report("peaks of this core", 1, 2)
    cpu = by_name("native")
    peaks = measure_peaks(cpu)
    return run, peaks, kernel_rows(graph, run.calls, cpu, peaks, session.threads)


def print_kernels(run: Profile, peaks: Peaks, rows: Sequence[KernelRow]) -> None:
    """The kernels that take most of the time, and what they are held against."""
    total = sum(row.seconds for row in rows) or 1.0
    shown: list[KernelRow] = []
    for row in rows:
        if sum(each.seconds for each in shown) >= SHARE * total:
            break
        shown.append(row)
    wide_table(
        ("kernel", "operations", "nodes", "calls", "us", "share", "GFLOP/s", "bound", "reached",
         "chosen"),
        [
            (
                row.name[:8], row.operations, named(row.nodes, 1), str(row.calls),
                f"{row.seconds * 1e6:.1f}", f"{row.seconds / total:.0%}",
                f"{row.flops / row.seconds / 1e9:.3g}" if row.seconds else "-",
                row.bound, f"{row.reached:.0%}", _chosen(row.choice),
            )
            for row in shown
        ],
    )  # fmt: skip
    click.echo(
        f"the fastest run took {seconds_text(run.seconds)}; its {len(run.calls)} calls of "
        f"{len(rows)} kernels, each at its fastest, {seconds_text(total)}"
    )
    levels = ", ".join(f"{level.name} {level.bandwidth / 1e9:.0f} GB/s" for level in peaks.levels)
    click.echo(f"one core: {peaks.flops / 1e9:.0f} GFLOP/s of fp32; reading {levels}")


def _chosen(choice: Choice) -> str:
    """The algorithm, its tile, and how much more the next best would take."""
    if not choice.candidates:
        return choice.algorithm
    first, *others = choice.candidates
    over = ", ".join(f"{each.name} ({each.cycles / first.cycles:.2f}x)" for each in others[:2])
    return f"{choice.algorithm}, {first.name}" + (f" over {over}" if over else "")


def kernels_json(run: Profile, peaks: Peaks, rows: Sequence[KernelRow]) -> dict[str, Any]:
    """All of it for machines."""
    return {
        "seconds": run.seconds,
        "kernels": [
            {**asdict(row), "bound": row.bound, "reached": row.reached} for row in rows
        ],
        "peaks": asdict(peaks),
    }  # fmt: skip
