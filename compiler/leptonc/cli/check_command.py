"""leptonc check."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from leptonc.cli.console import emit_json, table
from leptonc.cli.options import json_option, model_options, read_dims
from leptonc.ir.diagnostics import shown

if TYPE_CHECKING:
    from leptonc.check import CheckReport, Finding


@click.command("check")
@click.argument("model", type=click.Path(dir_okay=False), required=False)
@click.option("--target", default="cpu", show_default=True, help="KIND or KIND:key=value,...")
@click.option("--dim", "dims", multiple=True, metavar="NAME=SIZE", help="Fix a symbolic extent.")
@model_options
@click.option("--limits", is_flag=True, help="Print the limits that models are held to.")
@json_option
def command(
    *, model: str | None, target: str, dims: tuple[str, ...], trust_inferred: bool, untrusted: bool,
    limits: bool, as_json: bool,
) -> None:  # fmt: skip
    """Say whether MODEL compiles, and list every node that does not: then the exit status is 1.

    \b
    leptonc check model.onnx
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
        trust_inferred=trust_inferred, untrusted=untrusted,
    )  # fmt: skip
    if as_json:
        emit_json(report.as_json())
    else:
        _print(model, target, report)
    if not report.is_supported:
        sys.exit(1)


def _print(model: str, target: str, report: CheckReport) -> None:
    """The findings as a table, then what else is wrong, then the verdict."""
    if report.findings:
        rows = [
            (_operator(item), str(item.count), _first(item.nodes), item.reason, item.help)
            for item in report.findings
        ]
        table("", ("operator", "nodes", "which", "why", "what would help"), rows)
    for problem in report.problems:
        click.echo(str(problem))
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


def _operator(item: Finding) -> str:
    name = f"{item.domain}.{item.op}" if item.domain else item.op
    return f"{name} of opset {item.opset}"


def _first(nodes: tuple[str, ...]) -> str:
    shown_nodes = ", ".join(map(shown, nodes[:3]))
    return f"{shown_nodes} and {len(nodes) - 3} more" if len(nodes) > 3 else shown_nodes
