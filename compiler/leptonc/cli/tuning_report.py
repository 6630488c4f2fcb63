"""What tuning tried and gained, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from leptonc.cli.console import seconds_text, wide_table
from leptonc.cli.reports import named

if TYPE_CHECKING:
    from leptonc.tuning.tune import TuningReport

_SHOWN = 20
"""So many kernels are shown, those first that take most of the time."""


def print_tuning(report: TuningReport) -> None:
    """The kernels with what was decided, and the network with and without it."""
    document = report.as_json()
    kernels: list[dict[str, Any]] = document["kernels"]
    wide_table(
        ("kernel", "operations", "nodes", "share", "tried", "best", "saves", "taken"),
        [_row(each) for each in kernels[:_SHOWN] if each["tried"] or each["decision"]],
    )
    if report.outcome is None:
        click.echo(f"{len(report.decisions)} decisions taken over from {report.source}")
        return
    found, whole = report.outcome, report.outcome.whole
    click.echo(
        f"tuning took {seconds_text(found.seconds)}: {found.tried} candidates measured, "
        f"{found.known} known before, {found.left} left; kept in {report.source}"
    )
    if whole is not None:
        click.echo(
            f"the network: {seconds_text(whole.seconds)} by what won, "
            f"{seconds_text(whole.against)} without ({whole.seconds / whole.against:.3f} of it, "
            f"equal runs differed by {whole.noise:.3f})"
        )
    outputs = f"outputs differed by {report.largest_difference:.1e} of their size at most"
    click.echo(
        f"{len(report.decisions)} decisions taken; {outputs}"
        if report.decisions
        else f"nothing is decided: {found.reason}"
    )


def _row(kernel: dict[str, Any]) -> tuple[str, ...]:
    measured = {text: gain for text, gain in kernel["tried"].items() if isinstance(gain, float)}
    best = next(iter(measured), "")
    return (
        kernel["workload"][:8], kernel["operations"], named(tuple(kernel["nodes"]), 1),
        f"{kernel['share']:.1%}", str(len(kernel["tried"])), best,
        f"{measured[best]:.1%}" if best else "-", kernel["decision"] or "-",
    )  # fmt: skip
