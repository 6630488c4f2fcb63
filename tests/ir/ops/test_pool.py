"""Pooling rows against ONNX's reference and onnxruntime."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from leptonc.ir.diagnostics import LeptonError
from tests.ir.ops.against_onnx import build_op, check_row, evaluate, normal, row_of

WINDOWS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "1d": ((2, 3, 11), {"kernel_shape": [3], "strides": [2]}),
    "2d": ((2, 3, 9, 7), {"kernel_shape": [3, 2], "strides": [2, 1]}),
    "3d": (
        (1, 2, 5, 6, 7),
        {"kernel_shape": [2, 3, 2], "strides": [2, 1, 3], "pads": [1, 1, 0, 0, 1, 1]},
    ),
    "asymmetric": ((1, 2, 6, 6), {"kernel_shape": [3, 3], "pads": [0, 1, 2, 0]}),
    "dilated": ((1, 2, 11, 9), {"kernel_shape": [3, 2], "dilations": [2, 3], "pads": [1, 1, 0, 1]}),
    "ceil": ((1, 1, 6, 7), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    "ceil, padded": (
        (1, 1, 7, 8),
        {"kernel_shape": [3, 3], "strides": [3, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    ),
    "ceil, last window outside": (
        (1, 1, 2, 2),
        {"kernel_shape": [1, 1], "strides": [2, 2], "ceil_mode": 1},
    ),
    "ceil, starts in the padding": (
        (1, 1, 4, 4),
        {"kernel_shape": [2, 2], "strides": [3, 3], "pads": [0, 0, 1, 1], "ceil_mode": 1},
    ),
    "same upper": (
        (1, 2, 8, 7),
        {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 3]},
    ),
    "same lower": (
        (1, 2, 8, 7),
        {"kernel_shape": [2, 4], "auto_pad": "SAME_LOWER", "strides": [1, 1]},
    ),
    "valid": ((1, 2, 8, 7), {"kernel_shape": [3, 3], "auto_pad": "VALID", "strides": [2, 2]}),
}


@pytest.mark.parametrize("case", WINDOWS)
def test_max_pool_and_its_indices_match_onnxruntime(case: str) -> None:
    shape, attrs = WINDOWS[case]
    for order in (0, 1):
        check_row(
            "MaxPool", [normal(*shape)], outputs=2, runtime=True, storage_order=order, **attrs
        )


@pytest.mark.parametrize("case", WINDOWS)
@pytest.mark.parametrize("count_include_pad", [0, 1])
def test_average_pool_matches_onnxruntime(case: str, count_include_pad: int) -> None:
    shape, attrs = WINDOWS[case]
    check_row(
        "AveragePool", [normal(*shape)], runtime=True, count_include_pad=count_include_pad, **attrs
    )


@pytest.mark.parametrize(
    "case", [case for case in WINDOWS if case != "ceil, starts in the padding"]
)
@pytest.mark.parametrize("p", [1, 2, 3])
def test_lp_pool_matches_onnxruntime(case: str, p: int) -> None:
    shape, attrs = WINDOWS[case]
    check_row("LpPool", [normal(*shape)], runtime=True, p=p, **attrs)


def test_average_pool_matches_the_reference() -> None:
    for case in ("2d", "asymmetric", "ceil", "ceil, padded"):
        shape, attrs = WINDOWS[case]
        for count in (0, 1):
            x = normal(*shape, dtype=np.float64)
            check_row("AveragePool", [x], count_include_pad=count, **attrs)


def test_average_of_a_window_far_larger_than_the_operand() -> None:
    x = normal(1, 2, 3, 5, dtype=np.float64)
    large = {"kernel_shape": (900, 900), "strides": (900, 900), "ceil_mode": 1}
    (y,) = evaluate(row_of("AveragePool"), [x], large)
    np.testing.assert_allclose(y, x.mean(axis=(2, 3), keepdims=True), rtol=1e-12)


def test_max_pool_of_equal_elements_takes_the_first_and_nan_wins() -> None:
    row = row_of("MaxPool")
    x = np.zeros((1, 1, 4, 4), np.float32)
    _, places = evaluate(row, [x], {"kernel_shape": (2, 2), "strides": (2, 2)})
    assert places.ravel().tolist() == [0, 2, 8, 10]
    x[0, 0, 1, 1] = np.nan
    x[0, 0, 2:, 2:] = -np.inf
    y, places = evaluate(
        row, [x], {"kernel_shape": (2, 2), "strides": (2, 2), "pads": (0, 0, 1, 1)}
    )
    np.testing.assert_array_equal(y.ravel(), [np.nan, 0, 0, -np.inf])
    assert places.ravel().tolist() == [5, 2, 8, 10]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_max_pool_of_bytes_matches_onnxruntime(dtype: Any) -> None:
    info = np.iinfo(dtype)
    x = np.random.default_rng(1).integers(info.min, info.max + 1, (2, 3, 7, 6)).astype(dtype)
    check_row("MaxPool", [x], runtime=True, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])


def test_pools_of_narrow_floats_keep_their_type() -> None:
    x = normal(1, 2, 6, 6, dtype=ml_dtypes.bfloat16)
    exact = x.astype(np.float64)
    for name in ("MaxPool", "AveragePool", "LpPool"):
        y = evaluate(row_of(name), [x], {"kernel_shape": (3, 3)})[0]
        expected = evaluate(row_of(name), [exact], {"kernel_shape": (3, 3)})[0]
        np.testing.assert_allclose(y.astype(np.float64), expected, rtol=1e-2, atol=1e-2)


def test_pools_of_nothing() -> None:
    for name in ("MaxPool", "AveragePool", "LpPool"):
        y = evaluate(row_of(name), [normal(0, 3, 5, 5)], {"kernel_shape": (3, 3)})[0]
        assert y.shape == (0, 3, 3, 3)


@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 3, 5, 4), (1, 2, 3, 4, 5)])
def test_global_pools_match_onnxruntime(shape: tuple[int, ...]) -> None:
    for name in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"):
        check_row(name, [normal(*shape)], runtime=True)
    check_row("GlobalLpPool", [normal(*shape)], runtime=True, p=3)


def test_max_unpool_matches_the_reference() -> None:
    x = normal(1, 2, 6, 6)
    attrs: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}
    ours = {name: tuple(value) for name, value in attrs.items()}
    y, places = evaluate(row_of("MaxPool"), [x], ours)
    places[:, 1] -= 36  # each image of the reference's operand lies alone
    places = places.reshape(1, 2, 3, 3)
    check_row("MaxUnpool", [y[:, :1], places[:, :1]], **attrs)
    stated = np.array([1, 1, 7, 8])
    (larger,) = evaluate(row_of("MaxUnpool"), [y[:, :1], places[:, :1], stated], ours)
    assert larger.shape == (1, 1, 7, 8)
    np.testing.assert_array_equal(np.sort(larger[larger != 0]), np.sort(y[:, :1].ravel()))


@pytest.mark.parametrize(
    ("shape", "attrs", "message"),
    [
        ((2, 3), {"kernel_shape": (2,)}, "needs at least 3 dimensions"),
        ((2, 3, 4), {"kernel_shape": (2, 2)}, "kernel_shape has 2 numbers, should have 1"),
        ((2, 3, 2), {"kernel_shape": (4,)}, "a window of 4 does not fit into 2 elements"),
    ],
)
def test_contradictions_name_both_sides(shape: Any, attrs: dict[str, Any], message: str) -> None:
    with pytest.raises(LeptonError) as error:
        build_op(row_of("MaxPool"), [normal(*shape)], attrs)
    assert message in error.value.message
