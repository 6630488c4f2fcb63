"""leptonc bench."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path

import click

from leptonc.cli.console import emit_json, progress, seconds_text, table
from leptonc.cli.inputs import read_inputs
from leptonc.cli.options import compile_options, json_option, model_argument, read_dims


@click.command("bench")
@model_argument
@compile_options
@click.option(
    "--against", default="", metavar="ort,...", help="Peers to measure in turns with the artefact."
)
@click.option("--seconds", default=5.0, show_default=True, help="How long to measure.")
@click.option("--seed", default=0, show_default=True, help="Seed of the random inputs.")
@json_option
def command(
    *, model: str, target: str, level: int, precision: str,
    dims: tuple[str, ...], threads: int, cache: bool,
    against: str, seconds: float, seed: int, as_json: bool,
) -> None:  # fmt: skip
    """Measure MODEL (an artefact, or a model that is compiled first), in turns with other runtimes.

    \b
    leptonc bench model.lepton
    leptonc bench model.onnx --against ort --threads 1
    """
    from leptonc.api import make_options
    from leptonc.driver import compile_model
    from leptonc.runtime import load
    from leptonc.tools.bench import compare

    sizes = read_dims(dims)
    with tempfile.TemporaryDirectory(prefix="leptonc-") as folder:
        path = Path(model)
        if path.suffix != ".lepton":
            path = Path(folder) / "model.lepton"
            with progress() as report:
                options = make_options(
                    target,
                    level=level,
                    precision=precision,
                    dims={},
                    threads=threads,
                    cache=cache,
                    progress=report,
                )
                compile_model(model, path, options)
        elif against:
            raise click.UsageError("--against needs the model, not the artefact")
        with load(path, threads or None) as session:
            feeds = read_inputs(session.signature.inputs, (), seed, sizes)
            rows = compare(
                Path(model), feeds, session, [name for name in against.split(",") if name], seconds
            )
    if as_json:
        emit_json([asdict(row) for row in rows])
        return
    ours = rows[0]
    shown = [
        (
            f"{row.name} {row.version}",
            seconds_text(row.minimum),
            seconds_text(row.median),
            str(row.calls),
            f"{ours.minimum / row.minimum:.2f}", f"{row.deviation:.1e}",
        )
        for row in rows
    ]  # fmt: skip
    table(model, ("runtime", "minimum", "median", "calls", "leptonc / this", "deviation"), shown)
