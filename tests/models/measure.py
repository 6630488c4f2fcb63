"""Measures how far float32 rounding takes each model's outputs from float64.

Writes error_growth.json. Run it after adding a model or an input:
`python -m tests.models.measure [MODEL...]`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import cast

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from tests.models.inputs import Array
from tests.models.reference import GROWTH, deviation, read_growth, run_onnxruntime
from tests.models.zoo import MODELS, SUPPORTED, Model


def in_float64(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with every float32 in it widened."""
    widened = onnx.ModelProto()
    widened.CopyFrom(model)
    for graph in _graphs(widened.graph):
        for tensor in graph.initializer:
            _widen_tensor(tensor)
        for value in (*graph.input, *graph.output):
            kind = value.type.tensor_type
            if kind.elem_type == TensorProto.FLOAT:
                kind.elem_type = TensorProto.DOUBLE
        del graph.value_info[:]
        for node in graph.node:
            for attribute in node.attribute:
                _widen_attribute(attribute)
    return widened


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)


def _widen_attribute(attribute: onnx.AttributeProto) -> None:
    if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
        attribute.i = TensorProto.DOUBLE
    if attribute.HasField("t"):
        _widen_tensor(attribute.t)


def _widen_tensor(tensor: TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT:
        array = numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def growth(model: Model) -> dict[str, float]:
    """For each output the largest deviation from float64 that onnxruntime shows in any case."""
    path = model.path()
    proto = onnx.ModelProto.FromString(path.read_bytes())
    exact = ReferenceEvaluator(in_float64(proto))
    names = [output.name for output in proto.graph.output]
    found = dict.fromkeys(names, 0.0)
    for case in range(len(model.cases)):
        feeds = model.feeds(case)
        wide = {
            name: array.astype(np.float64) if array.dtype == np.float32 else array
            for name, array in feeds.items()
        }
        widest = cast(list[Array], exact.run(None, wide))  # pyright: ignore[reportUnknownMemberType]
        expected = dict(zip(names, widest, strict=True))
        for optimise in (False, True):
            for name, got in run_onnxruntime(path, feeds, optimise=optimise).items():
                found[name] = max(found[name], deviation(got, expected[name]))
    return found


def main(names: list[str]) -> None:
    """Measure the named models, or all of them."""
    known = read_growth()
    for model in [MODELS[name] for name in names] or SUPPORTED:
        known[model.name] = {name: float(f"{off:.2g}") for name, off in growth(model).items()}
        sys.stdout.write(f"{model.name}: {known[model.name]}\n")
        sys.stdout.flush()
        GROWTH.write_text(
            json.dumps(dict(sorted(known.items())), indent=1) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
