"""leptonc run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from leptonc.cli.console import emit_json, seconds_text, table
from leptonc.cli.inputs import read_inputs, storable
from leptonc.cli.options import json_option, read_dims


@click.command("run")
@click.argument("artifact", type=click.Path(dir_okay=False))
@click.option("--input", "inputs", multiple=True, metavar="NAME=FILE.npy", help="An input's data.")
@click.option(
    "--random", "seed", type=int, help="Fill the other inputs with random numbers of this seed."
)
@click.option(
    "--dim",
    "dims",
    multiple=True,
    metavar="NAME=SIZE",
    help="The size of a symbolic extent of random inputs.",
)
@click.option(
    "--output-dir",
    type=click.Path(file_okay=False),
    help="Write each output as .npy into this folder; types numpy lacks as their bytes.",
)
@click.option(
    "--threads", type=click.IntRange(1), help="Threads, in place of what the artefact says."
)
@json_option
def command(
    *, artifact: str, inputs: tuple[str, ...], seed: int | None, dims: tuple[str, ...],
    output_dir: str | None,
    threads: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Run ARTIFACT once and show what it gives.

    \b
    leptonc run model.lepton --input x=x.npy --output-dir out
    leptonc run model.lepton --random 0 --dim seq=128
    """
    import numpy as np

    from leptonc.groups import flattened
    from leptonc.runtime import load

    with load(artifact, threads) as session:
        feeds = read_inputs(session.signature.inputs, inputs, seed, read_dims(dims))
        start = time.perf_counter()
        outputs = flattened(session.run(feeds))
        seconds = time.perf_counter() - start
    files: dict[str, str] = {}
    if output_dir is not None:
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        for index, (name, array) in enumerate(outputs.items()):
            files[name] = str(Path(output_dir) / f"output_{index}.npy")
            np.save(files[name], storable(array))
    described = [_described(name, array, files.get(name)) for name, array in outputs.items()]
    if as_json:
        emit_json({"seconds": seconds, "outputs": described})
        return
    rows = [
        (repr(d["name"])[1:-1], d["type"], d["first"], d["range"], d["file"] or "")
        for d in described
    ]
    table(
        f"{artifact}: {seconds_text(seconds)}",
        ("output", "type", "first elements", "range", "file"),
        rows,
    )


def _described(name: str, array: Any, file: str | None) -> dict[str, Any]:
    """An output in words."""
    flat = array.reshape(-1)
    numbers = array.size > 0 and array.dtype.kind in "fiub"
    return {
        "name": name,
        "type": f"{array.dtype}{list(array.shape)}",
        "first": ", ".join(
            f"{value:.5g}" if array.dtype.kind == "f" else str(value) for value in flat[:4]
        ),
        "range": f"{float(flat.min()):.5g} .. {float(flat.max()):.5g}" if numbers else "",
        "file": file,
    }
