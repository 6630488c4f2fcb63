"""leptonc check."""

from __future__ import annotations

import sys

import click

from leptonc.cli.console import emit_json, table
from leptonc.cli.options import json_option, model_argument


@click.command("check")
@click.argument("model", type=click.Path(dir_okay=False), required=False)
@click.option("--target", default="cpu", show_default=True, help="KIND or KIND:key=value,...")
@click.option("--limits", is_flag=True, help="Print the limits that models are held to.")
@json_option
def command(*, model: str | None, target: str, limits: bool, as_json: bool) -> None:
    """Say whether MODEL compiles, and list every node that does not. The exit status is 1 if one does not.

    \b
    leptonc check model.onnx
    leptonc check model.onnx --target cpu:isa=avx2 --json
    """
    from leptonc.check import check_model, limit_table
    from leptonc.targets import Target, backend_of

    if limits:
        rows = limit_table()
        emit_json(dict(rows)) if as_json else table("limits", ("limit", ""), [(k, str(v)) for k, v in rows])
        return
    if model is None:
        raise click.UsageError("Missing argument 'MODEL'.")
    report = check_model(model, backend_of(Target.parse(target), 1).unsupported)
    if as_json:
        emit_json(report.as_json())
    else:
        _print(model, target, report)
    if not report.is_supported:
        sys.exit(1)
