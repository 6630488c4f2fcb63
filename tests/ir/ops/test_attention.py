"""Attention against ONNX's own reference, and what it refuses."""

from __future__ import annotations

from collections.abc import Mapping
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


def graph_of(feeds: Mapping[str, Array], **attributes: Any) -> Graph:
    """A graph of one attention of the given data's types."""
    types = {
        name: TensorType(DType.BOOL if data.dtype == bool else DType.F32, data.shape)
        for name, data in feeds.items()
    }
    values = [Value(type, name) for name, type in types.items()]
    graph = Graph("attention", values, ["y"])
    build = Builder(graph)
    build.return_(build.op("attention", values, attributes).result)
    return graph


def expected(feeds: Mapping[str, Array], **attributes: Any) -> Array:
    """What ONNX says."""
    attributes = {name: value for name, value in attributes.items() if value}
    node = helper.make_node("Attention", list(feeds), ["y"], **attributes)
    infos = [
        helper.make_tensor_value_info(
            name, TensorProto.BOOL if data.dtype == bool else TensorProto.FLOAT, data.shape
        )
        for name, data in feeds.items()
    ]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    model = helper.make_model(
        helper.make_graph([node], "attention", infos, [result]),
        opset_imports=[helper.make_opsetid("", 24)],
    )
    return ReferenceEvaluator(model).run(None, dict(feeds))[0]  # pyright: ignore


def data(*shapes: tuple[int, ...]) -> dict[str, Array]:
    generator = np.random.default_rng(len(shapes))
    return {
        name: generator.standard_normal(shape).astype(np.float32)
        for name, shape in zip("qkvm", shapes, strict=False)
    }


HEADS = ((2, 4, 3, 8), (2, 2, 5, 8), (2, 2, 5, 6))
SQUARE = ((2, 2, 5, 8), (2, 2, 5, 8), (2, 2, 5, 6))
ROWS = ((2, 3, 32), (2, 5, 16), (2, 5, 12))
CASES: list[tuple[tuple[tuple[int, ...], ...], dict[str, Any]]] = [
    (HEADS, {}),
    (HEADS, {"softcap": 2.0}),
    (SQUARE, {"is_causal": 1}),
    (ROWS, {"q_num_heads": 4, "kv_num_heads": 2}),
    ((*HEADS, (2, 1, 3, 5)), {"softcap": 2.0}),
    ((*SQUARE, (2, 1, 5, 5)), {"is_causal": 1}),
    ((*ROWS, (3, 5)), {"q_num_heads": 4, "kv_num_heads": 2}),
]


@pytest.mark.parametrize(("shapes", "attributes"), CASES)
def test_it_is_what_onnx_says(
    shapes: tuple[tuple[int, ...], ...], attributes: dict[str, Any]
) -> None:
    feeds = data(*shapes)
    given = {"scale": 0.3, **attributes}
    got = interpret(graph_of(feeds, **given), feeds)["y"]
    np.testing.assert_allclose(got, expected(feeds, **given), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["bool", "float"])
def test_a_query_that_sees_nothing_gets_zeros(kind: str) -> None:
    feeds = data(*HEADS)
    seen = np.ones((3, 5), bool)
    seen[1] = False
    seen[2, 3:] = False
    feeds["m"] = seen if kind == "bool" else np.where(seen, 0, -np.inf).astype(np.float32)
    got = interpret(graph_of(feeds, scale=0.5), feeds)["y"]
    assert not got[:, :, 1].any()
    np.testing.assert_allclose(got, expected(feeds, scale=0.5), rtol=1e-5, atol=1e-6)
    without = interpret(graph_of(feeds, scale=0.5, guarded=0), feeds)["y"]
    assert np.isnan(without[:, :, 1]).all()
    np.testing.assert_array_equal(without[:, :, [0, 2]], got[:, :, [0, 2]])


@pytest.mark.parametrize(
    ("shapes", "attributes", "text"),
    [
        (((2, 4, 3, 8), (2, 3, 5, 8), (2, 3, 5, 8)), {}, "do not fit"),
        (((2, 4, 3, 8), (2, 4, 5, 7), (2, 4, 5, 8)), {}, "do not fit"),
        (((2, 4, 3, 8), (2, 4, 5, 8), (2, 4, 6, 8)), {}, "do not fit"),
        (((2, 3, 8), (2, 3, 8), (2, 3, 8)), {}, "at least 1"),
        (((2, 3, 8), (2, 3, 8), (2, 3, 8)), {"q_num_heads": 3, "kv_num_heads": 3}, "no 3 heads"),
        (((3, 8), (3, 8), (3, 8)), {}, "should have 4 dimensions"),
        (HEADS, {"is_causal": 1}, "should be as many"),
        ((*HEADS, (4, 5)), {}, "does not broadcast"),
    ],
)
def test_what_does_not_fit_is_refused(
    shapes: tuple[tuple[int, ...], ...], attributes: dict[str, Any], text: str
) -> None:
    with pytest.raises(LeptonError, match=text):
        graph_of(data(*shapes), scale=1.0, **attributes)
