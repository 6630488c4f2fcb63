"""Fills models that were stored without their weights with seeded random ones."""

from __future__ import annotations

import os
import re
from pathlib import Path

import click
import numpy as np
import onnx
from onnx import TensorProto, helper

STATISTICS = re.compile(r"random mean=(\S+) std=(\S+)")


def materialize(source: Path, seed: int = 0) -> onnx.ModelProto:
    """The model with weights of the statistics that its tensors' doc strings state.

    Weights are drawn in the order of the initialisers, so that one seed always gives one model.
    """
    model = onnx.ModelProto.FromString(source.read_bytes())
    generator = np.random.default_rng(seed)
    for tensor in model.graph.initializer:
        statistics = STATISTICS.fullmatch(tensor.doc_string)
        if statistics:
            mean, deviation = map(np.float32, statistics.groups())
            _fill(tensor, generator, mean, deviation)
    return model


def _fill(
    tensor: TensorProto, generator: np.random.Generator, mean: np.float32, deviation: np.float32
) -> None:
    values = generator.standard_normal(tuple(tensor.dims), dtype=np.float32)
    values *= deviation
    values += mean
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    tensor.raw_data = values.astype(dtype, copy=False).tobytes()
    tensor.ClearField("doc_string")


def write_materialized(source: Path, target: Path, seed: int = 0) -> None:
    """Write the filled model; a reader of `target` sees all of it or none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(f".{os.getpid()}.partial")
    partial.write_bytes(materialize(source, seed).SerializeToString())
    partial.replace(target)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--seed", default=0, show_default=True, help="What the weights are drawn from.")
def main(source: Path, target: Path, seed: int) -> None:
    """Fill SOURCE, a model stored without weights, and write it to TARGET."""
    write_materialized(source, target, seed)


if __name__ == "__main__":
    main()
