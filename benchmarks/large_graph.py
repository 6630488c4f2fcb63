"""Measures what it takes to optimise a model of very many nodes, in a process of its own."""

from __future__ import annotations

import resource
import time

import click
import onnx

from leptonc.cli.main import collecting_seldom
from leptonc.driver import compute_ops, import_source, run_passes
from leptonc.onnx_export import export_model
from leptonc.pipelines import OPTIMIZE
from tests.passes.large_graphs import large_model


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--nodes", default=100_000, show_default=True, help="How many nodes the model has.")
def main(nodes: int) -> None:
    """Optimise a model of that many nodes, and tell the seconds of each stage and the memory."""
    with collecting_seldom():  # as the command does
        _measure(large_model(nodes))


def _measure(model: onnx.ModelProto) -> None:
    marks = [time.perf_counter()]
    graph = import_source(model, {})
    before = sum(1 for _ in compute_ops(graph))
    marks.append(time.perf_counter())
    run_passes(graph, OPTIMIZE[2])
    marks.append(time.perf_counter())
    after = sum(1 for _ in compute_ops(graph))
    export_model(graph)
    marks.append(time.perf_counter())
    stages = ("import", "passes", "export")
    for stage, start, end in zip(stages, marks, marks[1:], strict=False):
        click.echo(f"{stage}: {end - start:.1f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    click.echo(f"{before} -> {after} nodes, {marks[-1] - marks[0]:.1f} s, peak {peak:.0f} MB")


if __name__ == "__main__":
    main()
