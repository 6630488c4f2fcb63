"""Convolution rows against ONNX's reference and onnxruntime."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from leptonc.ir.diagnostics import LeptonError
from tests.ir.ops.against_onnx import build_op, check_row, evaluate, normal, row_of

EPSILON = {np.float16: 2.0**-10, ml_dtypes.bfloat16: 2.0**-7}

CONVOLUTIONS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "1d": ((2, 3, 11), (4, 3, 3), {"pads": [1, 2], "strides": [2]}),
    "2d": ((2, 3, 9, 7), (5, 3, 3, 2), {}),
    "pointwise": ((1, 4, 5, 5), (6, 4, 1, 1), {}),
    "3d": ((1, 2, 5, 6, 7), (3, 2, 3, 2, 3), {"strides": [1, 2, 2], "pads": [1, 0, 1, 0, 1, 1]}),
    "asymmetric": ((1, 2, 6, 6), (2, 2, 3, 3), {"pads": [0, 1, 2, 3]}),
    "dilated": ((1, 2, 11, 9), (2, 2, 3, 3), {"dilations": [2, 3], "pads": [1, 1, 1, 1]}),
    "groups": ((2, 6, 5, 5), (4, 3, 3, 3), {"group": 2}),
    "depthwise": (
        (2, 4, 7, 7),
        (4, 1, 3, 3),
        {"group": 4, "pads": [1, 1, 1, 1], "strides": [2, 2]},
    ),
    "depthwise twice": ((1, 3, 5, 5), (6, 1, 3, 3), {"group": 3}),
    "kernel stated": ((1, 2, 5, 5), (2, 2, 3, 3), {"kernel_shape": [3, 3]}),
    "same upper": ((1, 2, 8, 7), (2, 2, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 3]}),
    "same lower": ((1, 2, 8, 7), (2, 2, 2, 4), {"auto_pad": "SAME_LOWER", "strides": [1, 2]}),
    "same, stride beyond kernel": (
        (1, 1, 7, 7),
        (1, 1, 1, 1),
        {"auto_pad": "SAME_UPPER", "strides": [3, 3]},
    ),
    "valid": ((1, 2, 8, 7), (2, 2, 3, 3), {"auto_pad": "VALID", "strides": [2, 2]}),
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolution_matches_the_reference(case: str) -> None:
    x, w, attrs = CONVOLUTIONS[case]
    check_row("Conv", [normal(*x), normal(*w), normal(w[0])], **attrs)
    check_row("Conv", [normal(*x, dtype=np.float64), normal(*w, dtype=np.float64)], **attrs)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_narrow_convolution_sums_in_single_precision(dtype: Any) -> None:
    row = row_of("Conv")
    x, w = normal(1, 64, 6, 6, dtype=dtype), normal(8, 64, 3, 3, dtype=dtype)
    (y,) = evaluate(row, [x, w], {})
    (exact,) = evaluate(row, [x.astype(np.float64), w.astype(np.float64)], {})
    error = np.abs(y.astype(np.float64) - exact) / np.maximum(np.abs(exact), 1e-3)
    # nothing but the final rounding
    assert error.max() < 2.0 * EPSILON[dtype]


def test_convolution_of_nothing() -> None:
    row = row_of("Conv")
    (y,) = evaluate(row, [normal(0, 3, 5, 5), normal(4, 3, 3, 3)], {"pads": (1, 1, 1, 1)})
    assert y.shape == (0, 4, 5, 5)


TRANSPOSED: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "1d": ((1, 3, 4), (3, 2, 3), {"strides": [2]}),
    "2d": ((2, 3, 4, 5), (3, 2, 3, 3), {"strides": [2, 3], "pads": [1, 0, 1, 2]}),
    "output padding": ((1, 2, 3, 3), (2, 3, 3, 3), {"strides": [3, 2], "output_padding": [2, 1]}),
    "dilated": ((1, 1, 3, 3), (1, 1, 2, 2), {"dilations": [2, 2]}),
    "3d": ((1, 1, 3, 4, 5), (1, 2, 3, 3, 3), {}),
    "output shape, more than there is": (
        (1, 1, 3, 3),
        (1, 2, 3, 3),
        {"strides": [3, 2], "output_shape": [10, 8]},
    ),
    "same upper": ((1, 1, 3, 3), (1, 2, 3, 4), {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    "same lower": ((1, 1, 3, 3), (1, 2, 3, 4), {"strides": [2, 2], "auto_pad": "SAME_LOWER"}),
}


@pytest.mark.parametrize("case", TRANSPOSED)
def test_transposed_convolution_matches_the_reference(case: str) -> None:
    x, w, attrs = TRANSPOSED[case]
    check_row("ConvTranspose", [normal(*x), normal(*w), normal(w[1])], **attrs)


def test_grouped_transposed_convolution_matches_onnxruntime() -> None:
    for dilations in ([1, 1], [2, 1]):
        check_row(
            "ConvTranspose",
            [normal(2, 6, 4, 3), normal(6, 2, 3, 3), normal(6)],
            runtime=True,
            group=3,
            strides=[2, 1],
            pads=[1, 0, 0, 1],
            dilations=dilations,
        )


@pytest.mark.parametrize("auto_pad", ["NOTSET", "SAME_UPPER", "SAME_LOWER"])
def test_stated_output_shape_matches_onnxruntime(auto_pad: str) -> None:
    # the reference takes no padding from a stated shape
    check_row(
        "ConvTranspose",
        [normal(1, 1, 3, 3), normal(1, 2, 4, 4)],
        runtime=True,
        strides=[3, 2],
        output_shape=[9, 5],
        auto_pad=auto_pad,
    )


@pytest.mark.parametrize(
    ("shapes", "attrs", "message"),
    [
        (((1, 4, 8, 8), (2, 3, 3, 3)), {}, "weight expects 3 input channels, x f32[1,4,8,8] has 4"),
        (((1, 4, 8, 8), (2, 3, 3, 3)), {"group": 2}, "expects 6 input channels in 2 groups"),
        (
            ((1, 4, 8, 8), (3, 2, 3, 3)),
            {"group": 2},
            "3 output channels do not split into 2 groups",
        ),
        (((1, 3, 8, 8), (2, 3, 3)), {}, "has 3 dimensions, x f32[1,3,8,8] has 4"),
        (((1, 3, 2, 8), (2, 3, 5, 5)), {}, "a window of 5 does not fit into 2 elements"),
        (
            ((1, 3, 8, 8), (2, 3, 3, 3)),
            {"strides": (0, 1)},
            "strides holds 0, should be at least 1",
        ),
        (((1, 3, 8, 8), (2, 3, 3, 3)), {"pads": (1, 1)}, "pads has 2 numbers, should have 4"),
        (((1, 3, 8, 8), (2, 3, 3, 3)), {"auto_pad": "SAME"}, "auto_pad is 'SAME'"),
        (((1, 3, 8, 8), (2, 3, 3, 3)), {"kernel_shape": (5, 5)}, "kernel_shape is [5,5]"),
        (((1, 3, 8, 8), (2, 3, 0, 3)), {}, "f32[2,3,0,3] has a window without elements"),
        (
            ((1, 3, 8, 8), (2, 3, 3, 3), (3,)),
            {},
            "bias f32[3] should hold one number for each of 2 channels",
        ),
    ],
)
def test_contradictions_name_both_sides(shapes: Any, attrs: dict[str, Any], message: str) -> None:
    with pytest.raises(LeptonError) as error:
        build_op(row_of("Conv"), [normal(*shape) for shape in shapes], attrs)
    assert message in error.value.message
