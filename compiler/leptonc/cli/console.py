"""Progress and tables. The product goes to standard output, all else to standard error."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from leptonc.backends.base import Progress as Report


@contextmanager
def progress() -> Generator[Report]:
    """A live line that says which stage runs; nothing where standard error is no terminal."""
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as live:
        task = live.add_task("starting", total=1)

        def report(what: str, done: int, total: int) -> None:
            live.update(task, description=what, completed=done, total=max(total, 1))

        yield report


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on standard output below its title; numbers to the right."""
    drawn = Table()
    for index, column in enumerate(columns):
        drawn.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        drawn.add_row(*map(Text, row))
    console = Console()
    if title:
        # a table breaks its own title where its columns end
        console.print(Text(title, "italic"), soft_wrap=True)
    console.print(drawn)


WIDE = 200
"""Columns of a wide table where nobody says how wide a line may be."""


def wide_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], caption: str | None = None
) -> None:
    """A table of text on standard output, as wide as a terminal or as text in a file may be."""
    drawn = Table(caption=caption, caption_justify="left")
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(repr(cell)[1:-1] if not cell.isprintable() else cell) for cell in row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE)
    console.print(drawn)


def emit_json(document: Any) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(document, indent=2, sort_keys=True))


def bytes_text(size: float) -> str:
    """A size as people read it."""
    for unit in ("B", "KB", "MB"):
        if abs(size) < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"


def seconds_text(seconds: float) -> str:
    """A duration as people read it."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.1f} µs"
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
