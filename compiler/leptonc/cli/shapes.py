"""The shapes of a model on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from leptonc.cli.console import wide_table

if TYPE_CHECKING:
    from leptonc.shape_report import ShapeReport


def print_shapes(report: ShapeReport) -> None:
    """Every value's type, then the extents that are open and what would settle each."""
    from leptonc.shape_report import RUN_TIME, STATIC, SYMBOLIC, sentence

    wide_table(
        ("node", "op", "value", "type", "content", "known"),
        [
            ("  " * row.depth + row.node, row.op, row.value, row.type, row.content, row.known)
            for row in report.rows
        ],
    )
    if report.open_extents:
        wide_table(
            ("known at run time only", "what would settle it"),
            [(sentence(item), item.settle) for item in report.open_extents],
        )
    if report.input_extents:
        wide_table(
            ("chosen by the caller", "what would fix it"),
            [
                (f"{item.symbol} is axis {item.axis} of the input {item.input}", item.settle)
                for item in report.input_extents
            ],
        )
    counts = report.counts
    click.echo(
        f"{len(report.rows)} values: {counts[STATIC]} static, {counts[SYMBOLIC]} in the extents of "
        f"the inputs, {counts[RUN_TIME]} known at run time only"
    )
