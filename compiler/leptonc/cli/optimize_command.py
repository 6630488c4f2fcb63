"""leptonc optimize."""

from __future__ import annotations

import time
from pathlib import Path

import click

from leptonc.cli.console import emit_json, progress, seconds_text, table
from leptonc.cli.options import json_option, level_option, model_argument


@click.command("optimize")
@model_argument
@click.option(
    "-o", "--output", required=True, type=click.Path(dir_okay=False), help="The ONNX file to write."
)
@level_option
@click.option("--passes", "pipeline", help="Pipeline text in place of that of the level.")
@click.option("--explain", is_flag=True, help="Say which rules applied, and which nearly did.")
@json_option
def command(
    *, model: str, output: str, level: int, pipeline: str | None, explain: bool, as_json: bool
) -> None:
    """Rewrite MODEL into a smaller ONNX model that computes the same.

    \b
    leptonc optimize model.onnx -o better.onnx
    leptonc optimize model.onnx -o better.onnx --passes fold-constants,simplify
    """
    from leptonc.driver import compute_ops, import_source, run_passes
    from leptonc.onnx_export import save_model
    from leptonc.pipelines import OPTIMIZE

    start = time.perf_counter()
    with progress() as report:
        report("import", 0, 1)
        graph = import_source(model, {})
        before = sum(1 for _ in compute_ops(graph))
        report("passes", 0, 1)
        context = run_passes(graph, OPTIMIZE[level] if pipeline is None else pipeline)
        report("export", 0, 1)
        save_model(graph, Path(output))
    seconds, after = time.perf_counter() - start, sum(1 for _ in compute_ops(graph))
    if explain:
        for miss in context.misses:
            click.echo(f"{miss.rule} at {miss.location}: {miss.reason}", err=True)
    if as_json:
        emit_json({
            "output": output,
            "seconds": seconds,
            "nodes": {"before": before, "after": after},
            "rules": context.counts,
        })  # fmt: skip
        return
    rows = [("nodes", f"{before} -> {after}"), ("time", seconds_text(seconds))]
    rows += [(f"rule {rule}", str(count)) for rule, count in sorted(context.counts.items())]
    table(output, ("", ""), rows)
