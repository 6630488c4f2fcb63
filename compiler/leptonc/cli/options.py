"""Options that several commands share, and how they are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from leptonc.ir.diagnostics import LeptonError, shown

Command = Callable[..., Any]


def model_argument(function: Command) -> Command:
    """The model file."""
    return click.argument("model", type=click.Path(dir_okay=False))(function)


def json_option(function: Command) -> Command:
    """Machine-readable output."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")(
        function
    )


def level_option(function: Command) -> Command:
    """How much is optimised."""
    return click.option(
        "-O",
        "level",
        type=click.IntRange(0, 3),
        default=2,
        show_default=True,
        help="Optimisation level.",
    )(function)


def compile_options(function: Command) -> Command:
    """What decides how a model is compiled."""
    decorators = [
        click.option(
            "--target", default="cpu", show_default=True, help="KIND or KIND:key=value,..."
        ),
        level_option,
        click.option(
            "--precision",
            default="fp32",
            show_default=True,
            help="Number format of the computation.",
        ),
        click.option(
            "--dim",
            "dims",
            multiple=True,
            metavar="NAME=SIZE",
            help="Fix a symbolic extent, or how many tensors a sequence has.",
        ),
        click.option(
            "--threads",
            type=click.IntRange(0),
            default=0,
            help="Threads of a run; 0: all that may be used.",
        ),
        click.option("--cache/--no-cache", default=True, help="Keep and reuse compiled kernels."),
    ]
    for decorate in reversed(decorators):
        function = decorate(function)
    return function


def model_options(function: Command) -> Command:
    """How far a model is trusted."""
    decorators = [
        click.option(
            "--trust-inferred",
            is_flag=True,
            help="Go by computed shapes where outputs declare others.",
        ),
        click.option(
            "--untrusted", is_flag=True, help="Read data instead of mapping it; refuse hard links."
        ),
    ]
    for decorate in reversed(decorators):
        function = decorate(function)
    return function


def read_dims(pairs: Sequence[str]) -> dict[str, int]:
    """Read ``seq=128``; raises E805 for anything else."""
    dims: dict[str, int] = {}
    for pair in pairs:
        name, equals, size = pair.partition("=")
        if not equals or not size.strip().isdigit():
            raise LeptonError(
                f"cannot read --dim {shown(pair)}",
                notes=["write NAME=SIZE, such as batch=1"],
                code="E805",
            )
        dims[name.strip()] = int(size)
    return dims
