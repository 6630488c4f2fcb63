"""Lowered products and convolutions of bytes against their meaning, bit by bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.backends.tvm.kernel_of_row import check_lowering
from tests.ir.ops.test_quantized_linear import BYTES, f32, numbers


@pytest.mark.parametrize(("a", "b"), BYTES)
def test_integer_products(a: Any, b: Any) -> None:
    left, right = numbers(a, 2, 5, 33), numbers(b, 33, 7)
    check_lowering("matmul_integer", [left, right])
    points = [np.array(3, a), numbers(b, 7, seed=1)]
    sizes = [[numbers(a, n, rows, 33), right, *points] for n, rows in ((2, 5), (1, 1), (3, 8))]
    check_lowering("matmul_integer", *sizes, symbolic=(0,))
    by_row = [numbers(a, 5, 33), right, numbers(a, 5, seed=3), np.array([2], b)]
    check_lowering("matmul_integer", by_row)


@pytest.mark.parametrize(
    "attrs", [{}, {"pads": [1, 0, 1, 2], "strides": [2, 1]}, {"dilations": [2, 1]}]
)
def test_integer_convolutions(attrs: dict[str, Any]) -> None:
    x, w = numbers(np.uint8, 2, 3, 7, 6), numbers(np.uint8, 4, 3, 3, 2)
    check_lowering("conv_integer", [x, w, np.array(7, np.uint8), numbers(np.uint8, 4)], **attrs)
    check_lowering("conv_integer", [x, w], **attrs)


@pytest.mark.parametrize(("x", "w"), BYTES)
@pytest.mark.parametrize("attrs", [{"pads": [1, 1, 1, 1]}, {"group": 2, "strides": [2, 2]}])
def test_quantised_convolutions(x: Any, w: Any, attrs: dict[str, Any]) -> None:
    weight = numbers(w, 6, 4 // attrs.get("group", 1), 3, 3)
    bias = np.random.default_rng(2).integers(-5000, 5000, 6).astype(np.int32)
    scales = f32(0.013, 0.02, 0.001, 0.05, 0.1, 1.0)
    rest = [
        f32(0.02),
        np.array(5, x),
        weight,
        scales,
        numbers(w, 6),
        f32(1.7),
        np.array(11, x),
        bias,
    ]
    sizes = [[numbers(x, n, 4, h, 6), *rest] for n, h in ((2, 7), (1, 3), (3, 9))]
    check_lowering("qlinear_conv", *sizes, symbolic=(0,), **attrs)


@pytest.mark.parametrize(("a", "b"), BYTES)
def test_quantised_products(a: Any, b: Any) -> None:
    right, scales = numbers(b, 33, 7), np.linspace(0.01, 0.03, 7, dtype=np.float32)
    rest = [f32(0.02), np.array(5, a), right, scales, numbers(b, 7), f32(0.9), np.array(11, a)]
    sizes = [[numbers(a, n, rows, 33), *rest] for n, rows in ((2, 5), (1, 1), (3, 8))]
    check_lowering("qlinear_matmul", *sizes, symbolic=(0,))
    check_lowering("qlinear_matmul", [numbers(a, 33), *rest])
    rest[-2] = f32(1e-9)  # everything saturates
    check_lowering("qlinear_matmul", [numbers(a, 2, 5, 33), *rest])
