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


def dim_option(function: Command) -> Command:
    """Sizes of open extents."""
    return click.option(
        "--dim",
        "dims",
        multiple=True,
        metavar="NAME=SIZE",
        help="Fix a symbolic extent, or how many tensors a sequence has.",
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
            help="What products are computed in: fp32 (the model's own types) or bf16.",
        ),
        dim_option,
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


def tuning_command_options(function: Command) -> Command:
    """Whether kernels are measured."""
    decorators = [
        click.option(
            "--tune",
            "tune",
            type=click.FloatRange(0),
            default=0.0,
            metavar="SECONDS",
            help="Measure a few ways to compute each kernel for so long; 0: formulas decide.",
        ),
        click.option(
            "--tuning",
            type=click.Path(),
            metavar="FOLDER",
            help="Keep measurements there; without --tune, take over those of this folder or "
            "tuned artefact.",
        ),
        click.option(
            "--tune-input",
            "tune_inputs",
            multiple=True,
            metavar="NAME=FILE.npy",
            help="Data to measure on; other inputs are random.",
        ),
    ]
    for decorate in reversed(decorators):
        function = decorate(function)
    return function


def pass_options(function: Command) -> Command:
    """Which passes run in which order, and what is told of them."""
    decorators = [
        click.option(
            "--passes",
            "pipeline",
            metavar="TEXT",
            help="Passes in their order, in place of those of the level: pass{option=value},pass.",
        ),
        click.option(
            "--disable", multiple=True, metavar="NAME,...", help="Passes or rules to leave out."
        ),
        click.option(
            "--only", multiple=True, metavar="PASS,...", help="The only passes to run of those."
        ),
        click.option(
            "--explain", is_flag=True, help="Say which rules applied where, and which nearly did."
        ),
        click.option("--timing", is_flag=True, help="Say what each pass cost and changed."),
        click.option(
            "--print-after-change",
            is_flag=True,
            help="Write the lines that each pass changed to standard error.",
        ),
        click.option(
            "--verify-numbers",
            is_flag=True,
            help="Check after each pass that it kept its numeric contract; slow.",
        ),
        click.option(
            "--dump-stages",
            type=click.Path(file_okay=False),
            help="Write the graph as imported, after each pass and in the end to this folder.",
        ),
        click.option(
            "--from-stage",
            type=click.Path(dir_okay=False),
            metavar="FILE",
            help="Go on from such a file; of MODEL only what no stage says is read then.",
        ),
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


def read_names(parts: Sequence[str]) -> tuple[str, ...]:
    """The names in lists such as ``simplify,fold-pad``."""
    names = (name.strip() for part in parts for name in part.split(","))
    return tuple(name for name in names if name)
