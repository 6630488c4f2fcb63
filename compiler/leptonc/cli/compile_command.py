"""leptonc compile."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from leptonc.cli.console import bytes_text, emit_json, progress, seconds_text, table
from leptonc.cli.options import (
    compile_options,
    json_option,
    model_argument,
    model_options,
    pass_options,
    read_dims,
    read_names,
    tuning_command_options,
)
from leptonc.ir.diagnostics import LeptonError

if TYPE_CHECKING:
    from leptonc.driver import CompileReport, Options
    from leptonc.explain import Explanation


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
@tuning_command_options
@pass_options
@json_option
def command(
    *, model: str, output: str | None, target: str, level: int, precision: str,
    dims: tuple[str, ...], threads: int, cache: bool, pipeline: str | None,
    disable: tuple[str, ...], only: tuple[str, ...], explain: bool, timing: bool,
    print_after_change: bool, verify_numbers: bool, dump_stages: str | None,
    from_stage: str | None, trust_inferred: bool, untrusted: bool, as_json: bool,
    tune: float, tuning: str | None, tune_inputs: tuple[str, ...],
) -> None:  # fmt: skip
    """Compile MODEL (ONNX, or textual IR that ends in .lir) into one artefact.

    \b
    leptonc compile model.onnx
    leptonc compile bert.onnx --dim batch=1 --threads 1 -O3 -o bert.lepton
    leptonc compile bert.onnx --tune 60 --dim batch=1 --dim sequence=128
    leptonc compile bert.onnx --dump-stages stages --explain
    leptonc compile bert.onnx --from-stage stages/2-optimized.lir
    """
    from leptonc.api import make_options
    from leptonc.cli.inputs import read_arrays
    from leptonc.cli.reports import print_explanation, print_timings, print_unused
    from leptonc.cli.tuning_report import print_tuning
    from leptonc.passes.observers import PrintAfterChange
    from leptonc.selection import Selection
    from leptonc.tuning.options import tuning_options

    path = Path(output) if output else Path(model).with_suffix(".lepton")
    start = time.perf_counter()
    with progress() as report:
        options = make_options(
            target, level=level, precision=precision,
            dims=read_dims(dims), threads=threads, cache=cache,
            trust_inferred=trust_inferred, untrusted=untrusted, pipeline=pipeline,
            selection=Selection(read_names(disable), read_names(only)),
            observers=[PrintAfterChange()] if print_after_change else [],
            verify_numbers=verify_numbers,
            dump_stages=Path(dump_stages) if dump_stages else None,
            from_stage=Path(from_stage) if from_stage else None, progress=report,
            tuning=tuning_options(tune, tuning, read_arrays(tune_inputs)),
        )  # fmt: skip
        done = _compiled(model, path, options, as_json=as_json)
    total = time.perf_counter() - start
    if as_json:
        emit_json(_as_json(done, path, total))
        return
    if timing:
        print_timings(done.timings)
    if explain:
        print_explanation(_explained(done))
    table(str(path), ("stage", ""), _rows(done, total))
    if done.tuning is not None:
        print_tuning(done.tuning)
    print_unused(done.unused)


def _as_json(done: CompileReport, path: Path, total: float) -> dict[str, Any]:
    from leptonc.explain import timings_json

    return {
        "artifact": str(path), "seconds": {**done.seconds, "total": total},
        "nodes": {"before": done.nodes_before, "after": done.nodes_after},
        "kernels": {"total": done.kernels, "compiled": done.compiled_kernels},
        "bytes": {
            "weights": done.weight_bytes,
            "planned": done.planned_bytes,
            "planned_for_each": dict(done.open_bytes),
            "artifact": done.artifact_bytes,
        },
        "rules": done.context.counts if done.context is not None else {},
        "explain": _explained(done).as_json(), "passes": timings_json(done.timings),
        "unused_inputs": list(done.unused),
        **({"tuning": done.tuning.as_json()} if done.tuning is not None else {}),
        **({"precision": done.precision.as_json()} if done.precision is not None else {}),
    }  # fmt: skip


_PRODUCTS = 3
"""So many products of extents are told with the memory of each."""


def _rows(done: CompileReport, total: float) -> list[tuple[str, str]]:
    from leptonc.precision import rows_of

    largest = sorted(done.open_bytes.items(), key=lambda item: -item[1])
    more = [f"{bytes_text(count)} * {product}" for product, count in largest[:_PRODUCTS]]
    more += ["..."] * (len(largest) > _PRODUCTS)
    return [
        *((name, seconds_text(seconds)) for name, seconds in done.seconds.items()),
        ("total", seconds_text(total)),
        ("nodes", f"{done.nodes_before} -> {done.nodes_after}"),
        ("kernels", f"{done.kernels}, {done.compiled_kernels} compiled now"),
        ("weights", bytes_text(done.weight_bytes)),
        ("planned memory", " + ".join([bytes_text(done.planned_bytes), *more])),
        ("artefact", bytes_text(done.artifact_bytes)),
        *(rows_of(done.precision.as_json()) if done.precision is not None else ()),
    ]


def _explained(done: CompileReport) -> Explanation:
    from leptonc.explain import explain
    from leptonc.passes.context import PassContext

    return explain(done.context or PassContext())
