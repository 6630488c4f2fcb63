"""leptonc check."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from leptonc.cli.console import emit_json, table, wide_table
from leptonc.cli.options import json_option, model_options, read_dims
from leptonc.cli.shapes import print_shapes
from leptonc.ir.diagnostics import LeptonError, shown

if TYPE_CHECKING:
    from leptonc.check import CheckReport, Finding


@click.command("check")
@click.argument("model", type=click.Path(dir_okay=False), required=False)
@click.option("--target", default="cpu", show_default=True, help="KIND or KIND:key=value,...")
@click.option(
    "--dim",
    "dims",
    multiple=True,
    metavar="NAME=SIZE",
    help="Fix a symbolic extent, or how many tensors a sequence has.",
)
@model_options
@click.option("--shapes", is_flag=True, help="Print every value's type, and what is not known.")
@click.option("--limits", is_flag=True, help="Print the limits that models are held to.")
@click.option("--verbose", is_flag=True, help="List everything, however much it is.")
@json_option
def command(
    *, model: str | None, target: str, dims: tuple[str, ...], trust_inferred: bool, untrusted: bool,
    shapes: bool, limits: bool, verbose: bool, as_json: bool,
) -> None:  # fmt: skip
    """Say whether MODEL compiles, and list every node that does not: then the exit status is 1.

    \b
    leptonc check model.onnx
    leptonc check model.onnx --shapes --dim batch=1
    leptonc check model.onnx --target cpu:isa=avx2 --json
    """
    from leptonc.check import check_model, limit_table
    from leptonc.targets import Target, backend_of

    if limits:
        rows = limit_table()
        emit_json(dict(rows)) if as_json else table(
            "limits", ("limit", ""), [(k, str(v)) for k, v in rows]
        )
        return
    if model is None:
        raise click.UsageError("Missing argument 'MODEL'.")
    report = check_model(
        model, backend_of(Target.parse(target), 1).unsupported, read_dims(dims),
        trust_inferred=trust_inferred, untrusted=untrusted, shapes=shapes,
    )  # fmt: skip
    if as_json:
        emit_json(report.as_json())
    else:
        if report.shapes is not None:
            print_shapes(report.shapes)
        _print(model, target, report, verbose=verbose)
    if not report.is_supported:
        sys.exit(1)


def _print(model: str, target: str, report: CheckReport, *, verbose: bool) -> None:
    """The findings as a table, then what else is wrong, then the verdict."""
    if report.findings:
        rows = [
            (_operator(item), str(item.count), _which(item.nodes, verbose=verbose), item.reason,
             item.help)
            for item in report.findings
        ]  # fmt: skip
        wide_table(("operator", "nodes", "which", "why", "what would help"), rows)
    _print_problems(report.problems, verbose=verbose)
    for notice in report.notices:
        click.echo(f"notice: {notice}", err=True)
    if report.is_supported:
        click.echo(f"{model}: all {report.nodes} nodes compile for {target}")
        return
    stuck = sum(item.count for item in report.findings)
    verdict = [f"{stuck} of {report.nodes} nodes do not compile for {target}"] if stuck else []
    if report.problems:
        verdict.append(f"the model has {len(report.problems)} problems")
    click.echo(f"{model}: {', '.join(verdict)}")


def _print_problems(problems: Sequence[LeptonError], *, verbose: bool) -> None:
    """Each problem, of those with one code only the first unless `verbose`."""
    from leptonc.onnx_faults import MOST_LINES

    counts = Counter[str]()
    for problem in problems:
        counts[problem.code] += 1
        if verbose or counts[problem.code] <= MOST_LINES:
            click.echo(str(problem))
    for code, count in counts.items():
        if not verbose and count > MOST_LINES:
            click.echo(f"and {count - MOST_LINES} more of {code}: --verbose lists them")


def _operator(item: Finding) -> str:
    name = f"{item.domain}.{item.op}" if item.domain else item.op
    return f"{name} of opset {item.opset}"


def _which(nodes: tuple[str, ...], *, verbose: bool) -> str:
    most = len(nodes) if verbose else 3
    names = ", ".join(map(shown, nodes[:most]))
    return f"{names} and {len(nodes) - most} more" if len(nodes) > most else names
