"""Measures how far rounding in float32 takes each model's outputs.

Writes error_growth.json. Run it after adding a model or an input:
`python -m tests.models.measure [MODEL...]`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from tests.models.reference import GROWTH, deviation, read_growth, run_onnxruntime
from tests.models.zoo import MODELS, Model

SEEDS = 3
ROUNDING = 2.0**-23
WEIGHT = 16
"""Smaller tensors are exponents, limits and the like: they stay as they are."""


def nudge(model: onnx.ModelProto, seed: int) -> None:
    """Change every weight by at most one unit in the last place, at random."""
    generator = np.random.default_rng(seed)
    for tensor in _tensors(model.graph):
        array = numpy_helper.to_array(tensor)
        if array.dtype != np.float32 or array.size < WEIGHT:
            continue
        factors = 1 + ROUNDING * generator.uniform(-1, 1, array.shape)
        tensor.CopyFrom(numpy_helper.from_array((array * factors).astype(np.float32), tensor.name))


def _tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            elif attribute.HasField("g"):
                yield from _tensors(attribute.g)


def growth(model: Model) -> dict[str, float]:
    """For each output the largest deviation, over all cases, of results equally right.

    Such are those of onnxruntime with and without its optimisations, and those of models whose
    weights are a rounding error away.
    """
    feeds = [model.feeds(case) for case in range(len(model.cases))]
    plain = [run_onnxruntime(model.path(), feed) for feed in feeds]
    found = dict.fromkeys(plain[0], 0.0)
    with tempfile.TemporaryDirectory() as folder:
        nudged = Path(folder) / "model.onnx"
        for seed in range(SEEDS + 1):
            path = model.path()
            if seed:
                proto = onnx.ModelProto.FromString(path.read_bytes())
                nudge(proto, seed)
                nudged.write_bytes(proto.SerializeToString())
                path = nudged
            for feed, expected in zip(feeds, plain, strict=True):
                for name, got in run_onnxruntime(path, feed, optimise=not seed).items():
                    found[name] = max(found[name], deviation(got, expected[name]))
    return found


def main(names: list[str]) -> None:
    """Measure the named models, or all of them."""
    known = read_growth()
    for model in [MODELS[name] for name in names] or MODELS.values():
        known[model.name] = {name: float(f"{off:.2g}") for name, off in growth(model).items()}
        sys.stdout.write(f"{model.name}: {known[model.name]}\n")
        sys.stdout.flush()
        text = json.dumps(dict(sorted(known.items())), indent=1)
        GROWTH.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
