"""leptonc bench."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from leptonc.cli.console import emit_json, progress, seconds_text, table
from leptonc.cli.inputs import read_inputs
from leptonc.cli.options import compile_options, json_option, model_argument, read_dims

if TYPE_CHECKING:
    from leptonc.tools.bench import Row


@click.command("bench")
@model_argument
@compile_options
@click.option(
    "--against", default="", metavar="ort,openvino", help="Peers that take turns with the artefact."
)
@click.option("--seconds", default=5.0, show_default=True, help="How long to measure.")
@click.option(
    "--explain",
    is_flag=True,
    help="Show each kernel: its time, what bounds it, and what was chosen over what.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of the random inputs.")
@json_option
def command(
    *, model: str, target: str, level: int, precision: str,
    dims: tuple[str, ...], threads: int, cache: bool,
    against: str, seconds: float, explain: bool, seed: int, as_json: bool,
) -> None:  # fmt: skip
    """Measure MODEL (an artefact, or a model that is compiled first), in turns with other runtimes.

    \b
    leptonc bench model.lepton
    leptonc bench model.onnx --against ort,openvino --threads 1
    leptonc bench model.onnx --explain --dim seq=128
    leptonc bench model.onnx --precision bf16 --against openvino
    """
    from leptonc.api import make_options
    from leptonc.artifact_reader import is_artifact
    from leptonc.cli.bench_explained import explained, kernels_json, print_kernels
    from leptonc.driver import compile_model, import_source
    from leptonc.runtime import load
    from leptonc.tools.bench import compare
    from leptonc.tools.bench_peers import peer_of

    peers = [name for name in against.split(",") if name]
    for name in peers:
        peer_of(name).version()
    path, graph, found = Path(model), None, None
    if is_artifact(path) and (against or explain):
        option = "--against" if against else "--explain"
        raise click.UsageError(f"{option} needs the model, not the artefact")
    with tempfile.TemporaryDirectory(prefix="leptonc-") as folder, progress() as report:
        options = make_options(
            target, level=level, precision=precision, dims={}, threads=threads, cache=cache,
            progress=report,
        )  # fmt: skip
        if not is_artifact(path):
            path = Path(folder) / "model.lepton"
            graph = import_source(model, {})
            compile_model(graph, path, options)
        with ExitStack() as opened:
            session, exact = opened.enter_context(load(path, threads or None)), None
            if graph is not None and precision != "fp32":
                other = Path(folder) / "exact.lepton"
                compile_model(model, other, replace(options, precision="fp32"))
                exact = opened.enter_context(load(other, threads or None))
            feeds = read_inputs(session.signature.inputs, (), seed, read_dims(dims))
            if explain and graph is not None:
                found = explained(graph, session, feeds, seconds, report)
            report("measuring", 0, 1)
            source = Path(model) if graph is not None and not (explain and not peers) else None
            rows = compare(
                source, feeds, session, peers, seconds, session.threads,
                precision=precision, exact=exact,
            )  # fmt: skip
    if as_json:
        listed = [asdict(row) for row in rows]
        emit_json({"rows": listed, **kernels_json(*found)} if found else listed)
        return
    if found:
        print_kernels(*found)
    _show(model, rows)


def _show(model: str, rows: list[Row]) -> None:
    """The rows as a table, and below it why a peer does not run the model."""
    first = rows[0].minimum or 0
    shown = [
        (
            f"{row.name} {row.version}", _seconds(row.minimum), _seconds(row.median),
            str(row.calls), f"{first / row.minimum:.2f}" if row.minimum else "-",
            "-" if row.deviation is None else f"{row.deviation:.1e}",
        )
        for row in rows
    ]  # fmt: skip
    table(model, ("runtime", "minimum", "median", "calls", "leptonc / this", "deviation"), shown)
    for row in rows:
        if row.problem:
            click.echo(f"{row.name} does not run it: {row.problem}")


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else seconds_text(seconds)
