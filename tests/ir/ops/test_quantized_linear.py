"""Rows of quantised products against onnxruntime, bit by bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from leptonc.ir.diagnostics import LeptonError
from tests.ir.ops.against_onnx import Array, build_op, check_row, row_of

BYTES = [(np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8)]


def numbers(dtype: Any, *shape: int, seed: int = 0) -> Array:
    """Bytes at random; signed ones of 7 bits: onnxruntime saturates sums of larger ones on AVX2."""
    low, high = (-63, 64) if dtype == np.int8 else (0, 256)
    return np.random.default_rng([seed, *shape]).integers(low, high, shape).astype(dtype)


def f32(*values: float) -> Array:
    """A scale for each of several channels; a scalar for one."""
    return np.array(values, np.float32).reshape(-1 if len(values) > 1 else ())


@pytest.mark.parametrize(("x", "w"), [(np.uint8, np.uint8), (np.uint8, np.int8)])
def test_integer_products_match_onnxruntime(x: Any, w: Any) -> None:
    a, b = numbers(x, 2, 5, 7), numbers(w, 7, 3)
    points = [np.array(3, x), np.array(5, w)]
    check_row("MatMulInteger", [a, b], runtime=True)
    check_row("MatMulInteger", [a, b, *points], runtime=True)
    check_row("MatMulInteger", [a, b, points[0], numbers(w, 3, seed=1)], runtime=True)


def test_integer_products_by_row_match_the_reference() -> None:
    a, b = numbers(np.uint8, 4, 3), numbers(np.uint8, 3, 2)
    check_row("MatMulInteger", [a, b, numbers(np.uint8, 4, 1, seed=1), np.array(7, np.uint8)])


@pytest.mark.parametrize(
    "attrs", [{}, {"pads": [1, 0, 1, 2], "strides": [2, 1]}, {"dilations": [2, 1]}]
)
def test_integer_convolutions_match_onnxruntime(attrs: dict[str, Any]) -> None:
    x, w = numbers(np.uint8, 2, 3, 7, 6), numbers(np.uint8, 4, 3, 3, 2)
    check_row(
        "ConvInteger", [x, w, np.array(7, np.uint8), np.array(9, np.uint8)], runtime=True, **attrs
    )
    check_row("ConvInteger", [x, w], runtime=True, **attrs)
    check_row("ConvInteger", [x, w, np.array(7, np.uint8)], **attrs)


@pytest.mark.parametrize(("x", "w"), BYTES)
@pytest.mark.parametrize("attrs", [{"pads": [1, 1, 1, 1]}, {"group": 2, "strides": [2, 2]}])
def test_quantised_convolutions_match_onnxruntime(x: Any, w: Any, attrs: dict[str, Any]) -> None:
    data, weight = numbers(x, 2, 4, 7, 6), numbers(w, 6, 4 // attrs.get("group", 1), 3, 3)
    bias = np.random.default_rng(2).integers(-5000, 5000, 6).astype(np.int32)
    zero = np.array(0 if w == np.int8 else 120, w)
    points = [f32(0.02), np.array(5, x), weight, f32(0.013), zero]
    result = [f32(1.7), np.array(11, x)]
    check_row("QLinearConv", [data, *points, *result, bias], runtime=True, **attrs)
    check_row("QLinearConv", [data, *points, *result], runtime=True, **attrs)
    if w == np.int8:
        points[3] = f32(0.013, 0.02, 0.001, 0.05, 0.1, 0.013)
        points[4] = np.zeros(6, w)
        check_row("QLinearConv", [data, *points, *result, bias], runtime=True, **attrs)


@pytest.mark.parametrize(("a", "b"), BYTES)
def test_quantised_products_match_onnxruntime(a: Any, b: Any) -> None:
    left, right = numbers(a, 2, 5, 33), numbers(b, 33, 7)
    for b_scale, b_zero in (
        (f32(0.013), np.array(3, b)),
        (np.linspace(0.01, 0.03, 7, dtype=np.float32), np.arange(7).astype(b)),
    ):
        arrays = [
            left,
            f32(0.02),
            np.array(5, a),
            right,
            b_scale,
            b_zero,
            f32(0.9),
            np.array(11, a),
        ]
        check_row("QLinearMatMul", arrays, symbolic=(0,), runtime=True)


def test_ties_round_to_the_even_before_the_zero_point() -> None:
    a, b = np.arange(-5, 6, dtype=np.int8).reshape(-1, 1), np.array([[1]], np.int8)
    arrays = [
        a,
        f32(0.5),
        np.array(0, np.int8),
        b,
        f32(1),
        np.array(0, np.int8),
        f32(1),
        np.array(1, np.int8),
    ]
    (y,) = check_row("QLinearMatMul", arrays, runtime=True)
    assert y.ravel().tolist() == [-1, -1, -1, 0, 1, 1, 1, 2, 3, 3, 3]


@pytest.mark.parametrize(
    ("name", "arrays", "message"),
    [
        (
            "MatMulInteger",
            [numbers(np.uint8, 2, 3), numbers(np.uint8, 3, 4), numbers(np.uint8, 3)],
            "u8[3] should hold one number for each of 2 rows",
        ),
        (
            "MatMulInteger",
            [numbers(np.uint8, 2, 3), numbers(np.uint8, 3, 4), np.array(0, np.int8)],
            "u8 and i8",
        ),
        (
            "ConvInteger",
            [numbers(np.uint8, 1, 2, 3), numbers(np.uint8, 1, 2, 3), numbers(np.uint8, 2)],
            "x_zero_point u8[2] should hold one number",
        ),
    ],
)
def test_contradictions_name_both_sides(name: str, arrays: list[Array], message: str) -> None:
    with pytest.raises(LeptonError) as error:
        build_op(row_of(name), arrays, {})
    assert message in error.value.message
