"""leptonc optimize."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from leptonc.cli.console import emit_json, progress, seconds_text, table
from leptonc.cli.options import (
    dim_option,
    json_option,
    level_option,
    model_argument,
    model_options,
    pass_options,
    read_dims,
    read_names,
)

if TYPE_CHECKING:
    from leptonc.onnx_compare import Comparison
    from leptonc.onnx_optimize_report import OptimizeReport
    from leptonc.onnx_write import Layout


@click.command("optimize")
@model_argument
@click.option(
    "-o", "--output", required=True, type=click.Path(dir_okay=False),
    help="The ONNX file to write; it may be MODEL itself.",
)  # fmt: skip
@level_option
@dim_option
@pass_options
@model_options
@click.option(
    "--opset", type=click.IntRange(7),
    help="The opset to write, 11 or newer; by default the oldest, from MODEL's own and 13 on, that "
    "has all it needs.",
)  # fmt: skip
@click.option(
    "--allow", multiple=True, metavar="DOMAIN",
    help="A domain whose operators may be written, such as com.microsoft.",
)  # fmt: skip
@click.option(
    "--external-data", type=click.Choice(["auto", "always", "never"]), default="auto",
    show_default=True, help="Whether weights lie in a file beside the model; auto: over 2 GB.",
)  # fmt: skip
@click.option(
    "--external-from", type=click.IntRange(0), metavar="BYTES",
    help="The smallest constant that goes into that file.",
)  # fmt: skip
@click.option("--check", is_flag=True, help="Compare the result with MODEL before it is written.")
@click.option(
    "--input", "inputs", multiple=True, metavar="NAME=FILE.npy",
    help="Data to compare on; other inputs are random.",
)  # fmt: skip
@click.option("--tolerance", type=click.FloatRange(0), help="What floats may be off, for --check.")
@json_option
def command(
    *, model: str, output: str, level: int, dims: tuple[str, ...], pipeline: str | None,
    disable: tuple[str, ...], only: tuple[str, ...], explain: bool, timing: bool,
    print_after_change: bool, verify_numbers: bool, dump_stages: str | None,
    from_stage: str | None, trust_inferred: bool, untrusted: bool,
    opset: int | None, allow: tuple[str, ...], external_data: str, external_from: int | None,
    check: bool, inputs: tuple[str, ...], tolerance: float | None, as_json: bool,
) -> None:  # fmt: skip
    """Rewrite MODEL into a smaller ONNX model that computes the same.

    With --check both run on random inputs of several sizes, and on yours: where an output is off
    by more than rounding explains, nothing is written and the exit status is 1.

    \b
    leptonc optimize model.onnx -o better.onnx --check
    leptonc optimize model.onnx -o better.onnx --opset 17 --disable fold-pad --explain
    leptonc optimize model.onnx -o better.onnx --passes 'simplify{budget=500},fold-constants'
    """
    from leptonc.onnx_optimize import OptimizeOptions, optimize_model
    from leptonc.passes.observers import PrintAfterChange
    from leptonc.selection import Selection

    comparison = _comparison(inputs, tolerance) if check or inputs else None
    with progress() as report:
        done = optimize_model(
            model,
            Path(output),
            OptimizeOptions(
                level=level, pipeline=pipeline,
                selection=Selection(read_names(disable), read_names(only)),
                opset=opset, allow=frozenset(read_names(allow)), dims=read_dims(dims),
                trust_inferred=trust_inferred, untrusted=untrusted, comparison=comparison,
                layout=_layout(external_data, external_from),
                observers=[PrintAfterChange()] if print_after_change else [],
                verify_numbers=verify_numbers,
                dump_stages=Path(dump_stages) if dump_stages else None,
                from_stage=Path(from_stage) if from_stage else None, progress=report,
            ),
        )  # fmt: skip
    if as_json:
        emit_json({"output": output, **done.as_json()})
        return
    _print(output, done, explain=explain, timing=timing)


def _comparison(inputs: tuple[str, ...], tolerance: float | None) -> Comparison:
    from leptonc.cli.inputs import read_arrays
    from leptonc.onnx_compare import Comparison

    return Comparison(read_arrays(inputs), tolerance)


def _layout(external_data: str, external_from: int | None) -> Layout:
    from leptonc.onnx_write import ALWAYS, INLINE_LIMIT, NEVER, Layout

    limit = {"auto": INLINE_LIMIT, "always": ALWAYS, "never": NEVER}[external_data]
    return Layout(limit) if external_from is None else Layout(limit, external_from)


def _print(output: str, done: OptimizeReport, *, explain: bool, timing: bool) -> None:
    from leptonc.cli.reports import print_explanation, print_timings, print_unused

    if timing:
        print_timings(done.timings)
    if explain:
        print_explanation(done.explanation)
    before, after = done.nodes
    rows = [("nodes", f"{before} -> {after}"), ("opset", str(done.opsets[""]))]
    rows += [(f"new {name}", str(count)) for name, count in done.recognized.items()]
    if not explain:
        rows += [(f"rule {rule}", str(count)) for rule, count in sorted(done.rules.items())]
    rows.append(("time", seconds_text(done.seconds)))
    table(output, ("", ""), rows)
    if done.verdict is not None:
        outputs = [
            (item.output, str(item.runs), f"{item.worst:.3g}", f"{item.limit:.3g}")
            for item in done.verdict.deviations
        ]
        title = f"the same as before, by {done.verdict.runtime}"
        table(title, ("output", "runs", "off by", "rounding explains"), outputs)
    print_unused(done.unused)
