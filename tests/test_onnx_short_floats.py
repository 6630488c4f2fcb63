"""Quantised products of 8-bit floats, which ONNX allows and its reference does not compute."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import helper

import leptonc
from leptonc.ir.blob import Array
from leptonc.ir.interpret import interpret
from leptonc.onnx_import import import_model

NAMES = ("a", "a_scale", "a_zero", "b", "b_scale", "b_zero", "y_scale", "y_zero")
LARGEST: dict[Any, float] = {
    np.int8: 127, ml_dtypes.float8_e4m3fn: 448, ml_dtypes.float8_e5m2: 57344,
}  # fmt: skip


def product_model(feeds: dict[str, Array], rows: int, columns: int) -> Any:
    """A model of one product."""
    kinds = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in feeds.items()}
    infos = [
        helper.make_tensor_value_info(name, kinds[name], array.shape)
        for name, array in feeds.items()
    ]
    result = helper.make_tensor_value_info("y", kinds["y_zero"], (rows, columns))
    node = helper.make_node("QLinearMatMul", NAMES, ["y"])
    graph = helper.make_graph([node], "product", infos, [result])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def operands(a: Any, b: Any, y: Any, a_scale: Array, b_scale: Array) -> dict[str, Array]:
    """Operands whose products and sums are exact."""
    rng = np.random.default_rng(5)
    left, right = rng.integers(-4, 5, (3, 8)), rng.integers(-4, 5, (8, 4))
    if a is np.uint8:
        left += 4
    arrays = [
        left.astype(a), a_scale, np.zeros(a_scale.shape, a),
        right.astype(b), b_scale, np.zeros(b_scale.shape, b), np.array(0.5, a_scale.dtype),
        np.zeros((), y),
    ]  # fmt: skip
    return dict(zip(NAMES, arrays, strict=True))


def exact(feeds: dict[str, Array]) -> Array:
    """The results in double precision, before they are rounded."""
    left = feeds["a"].astype(np.float64) * feeds["a_scale"].astype(np.float64).reshape(-1, 1)
    right = feeds["b"].astype(np.float64) * feeds["b_scale"].astype(np.float64)
    return left @ right / feeds["y_scale"].astype(np.float64)


@pytest.mark.parametrize("scale", [np.float32, np.float16])
def test_floats_of_eight_bits_are_multiplied(scale: Any) -> None:
    f8, other = ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2
    for types in ((f8, f8, f8), (other, f8, other), (np.uint8, f8, np.int8)):
        feeds = operands(*types, np.array(2, scale), np.array([1, 4, 0.5, 2], scale))
        (found,) = interpret(import_model(product_model(feeds, 3, 4)), feeds).values()
        limit = LARGEST[types[2]]
        expected = np.clip(exact(feeds), -limit - (limit == 127), limit).astype(types[2])
        np.testing.assert_array_equal(found, expected)


def test_a_compiled_product_has_a_scale_for_each_row() -> None:
    f8 = ml_dtypes.float8_e4m3fn
    ones = np.array([1, 2, 0.25], np.float32)
    feeds = operands(f8, f8, f8, ones, np.array([1, 4, 0.5, 2], np.float32))
    with leptonc.compile(product_model(feeds, 3, 4)) as session:
        found = session.run(feeds)["y"]
    expected = np.clip(exact(feeds), -448, 448).astype(f8)
    np.testing.assert_array_equal(found.view(np.uint8), expected.view(np.uint8))
