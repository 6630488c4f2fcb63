"""Rotary embedding against ONNX's own reference, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from leptonc.ir.blob import Array
from leptonc.ir.build import Builder
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.graph import Graph, Value
from leptonc.ir.interpret import interpret
from leptonc.ir.types import DType, TensorType

Shape = tuple[int, ...]


def graph_of(shapes: list[Shape], **attributes: Any) -> Graph:
    values = [
        Value(TensorType(DType.F32, shape), name)
        for name, shape in zip("xcs", shapes, strict=True)
    ]  # fmt: skip
    graph = Graph("rotary", values, ["y"])
    build = Builder(graph)
    build.return_(build.op("rotary_embedding", values, attributes).result)
    return graph


def expected(feeds: dict[str, Array], **attributes: Any) -> Array:
    """What ONNX says."""
    node = helper.make_node("RotaryEmbedding", list(feeds), ["y"], **attributes)
    infos = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, data.shape)
        for name, data in feeds.items()
    ]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    model = helper.make_model(
        helper.make_graph([node], "rotary", infos, [result]),
        opset_imports=[helper.make_opsetid("", 23)],
    )
    return ReferenceEvaluator(model).run(None, dict(feeds))[0]  # pyright: ignore


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize(
    ("x", "pairs", "attributes"),
    [
        ((2, 3, 5, 8), 4, {}),
        ((2, 3, 5, 8), 2, {"rotary_embedding_dim": 4, "num_heads": 3}),
        ((2, 5, 24), 4, {"num_heads": 3}),
        ((2, 5, 24), 3, {"num_heads": 3, "rotary_embedding_dim": 6}),
    ],
)
def test_it_is_what_onnx_says(
    x: Shape, pairs: int, attributes: dict[str, int], interleaved: int
) -> None:
    shapes = [x, (2, 5, pairs), (2, 5, pairs)]
    generator = np.random.default_rng(0)
    feeds = {
        name: generator.standard_normal(shape).astype(np.float32)
        for name, shape in zip("xcs", shapes, strict=True)
    }
    heads = attributes.get("num_heads", 0) if len(x) == 3 else 0
    graph = graph_of(shapes, interleaved=interleaved, num_heads=heads)
    got = interpret(graph, feeds)["y"]
    want = expected(feeds, interleaved=interleaved, **attributes)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("shapes", "heads", "text"),
    [
        ([(2, 3, 5, 8), (2, 5, 5), (2, 5, 5)], 0, "do not fit"),
        ([(2, 3, 5, 8), (2, 4, 4), (2, 4, 4)], 0, "do not fit"),
        ([(2, 3, 5, 8), (2, 5, 4), (2, 5, 3)], 0, "do not fit"),
        ([(2, 5, 8), (2, 5, 2), (2, 5, 2)], 0, "at least 1"),
        ([(2, 5, 8), (2, 5, 2), (2, 5, 2)], 3, "no 3 heads"),
        ([(5, 8), (2, 5, 2), (2, 5, 2)], 1, "should have 4 dimensions"),
    ],
)
def test_what_does_not_fit_is_refused(shapes: list[Shape], heads: int, text: str) -> None:
    with pytest.raises(LeptonError, match=text):
        graph_of(shapes, num_heads=heads)
