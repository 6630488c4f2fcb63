"""leptonc compile."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from leptonc.cli.console import bytes_text, emit_json, progress, seconds_text, table
from leptonc.cli.options import (
    compile_options,
    json_option,
    model_argument,
    model_options,
    read_dims,
)
from leptonc.ir.diagnostics import LeptonError

if TYPE_CHECKING:
    from leptonc.driver import CompileReport, Options


def _compiled(model: str, path: Path, options: Options, *, as_json: bool) -> CompileReport:
    """What compiling did; what is wrong with the model is JSON too where that was asked for."""
    from leptonc.check import error_json
    from leptonc.driver import compile_model

    try:
        return compile_model(model, path, options)
    except LeptonError as error:
        if as_json:
            emit_json({"faults": [error_json(fault) for fault in error.faults or (error,)]})
        raise


@click.command("compile")
@model_argument
@compile_options
@model_options
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False), help="The artefact; MODEL.lepton by default."
)
@click.option("--passes", "pipeline", help="Pipeline text in place of that of the level.")
@click.option(
    "--dump-stages",
    type=click.Path(file_okay=False),
    help="Write each stage as text into this folder.",
)
@click.option("--explain", is_flag=True, help="Say which rules applied, and which nearly did.")
@json_option
def command(
    *, model: str, output: str | None, target: str, level: int, precision: str,
    dims: tuple[str, ...], threads: int, cache: bool, pipeline: str | None,
    dump_stages: str | None, explain: bool, trust_inferred: bool, untrusted: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Compile MODEL (ONNX, or textual IR that ends in .lir) into one artefact.

    \b
    leptonc compile model.onnx
    leptonc compile bert.onnx --dim batch=1 --threads 1 -O3 -o bert.lepton
    """
    from leptonc.api import make_options

    path = Path(output) if output else Path(model).with_suffix(".lepton")
    start = time.perf_counter()
    with progress() as report:
        options = make_options(
            target, level=level, precision=precision,
            dims=read_dims(dims), threads=threads, cache=cache,
            trust_inferred=trust_inferred, untrusted=untrusted, pipeline=pipeline,
            dump_stages=Path(dump_stages) if dump_stages else None, progress=report,
        )  # fmt: skip
        done = _compiled(model, path, options, as_json=as_json)
    total = time.perf_counter() - start
    context = done.context
    if explain and context is not None:
        for rule, count in sorted(context.counts.items()):
            click.echo(f"{rule} applied {count} times", err=True)
        for miss in context.misses:
            click.echo(f"{miss.rule} at {miss.location}: {miss.reason}", err=True)
    if as_json:
        emit_json({
            "artifact": str(path), "seconds": {**done.seconds, "total": total},
            "nodes": {"before": done.nodes_before, "after": done.nodes_after},
            "kernels": {"total": done.kernels, "compiled": done.compiled_kernels},
            "bytes": {
                "weights": done.weight_bytes,
                "planned": done.planned_bytes,
                "artifact": done.artifact_bytes,
            },
            "rules": context.counts if context is not None else {},
        })  # fmt: skip
        return
    more = ", and what open extents take" if done.has_open_extents else ""
    rows = [(name, seconds_text(seconds)) for name, seconds in done.seconds.items()]
    rows += [
        ("total", seconds_text(total)),
        ("nodes", f"{done.nodes_before} -> {done.nodes_after}"),
        ("kernels", f"{done.kernels}, {done.compiled_kernels} compiled now"),
        ("weights", bytes_text(done.weight_bytes)),
        ("planned memory", bytes_text(done.planned_bytes) + more),
        ("artefact", bytes_text(done.artifact_bytes)),
    ]
    table(str(path), ("stage", ""), rows)
