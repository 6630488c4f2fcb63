"""Normalisation and softmax rows against ONNX's reference and onnxruntime."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from leptonc.ir.diagnostics import LeptonError
from tests.ir.ops.against_onnx import (
    build_op,
    check_row,
    evaluate,
    normal,
    onnx_reference,
    row_of,
)


def channels(count: int, dtype: Any = np.float32) -> list[Any]:
    """Scale, bias, mean and variance of `count` channels."""
    return [
        normal(count, dtype=dtype, seed=1),
        normal(count, dtype=dtype, seed=2),
        normal(count, dtype=dtype, seed=3),
        np.abs(normal(count, dtype=dtype, seed=4)) + 0.1,
    ]


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 5), (2, 3, 4, 5), (2, 3, 2, 3, 4)])
def test_batch_normalization_matches_the_reference(shape: tuple[int, ...]) -> None:
    check_row("BatchNormalization", [normal(*shape), *channels(3)], epsilon=1e-3)
    check_row(
        "BatchNormalization",
        [normal(*shape), *channels(3)],
        outputs=3,
        training_mode=1,
        momentum=0.7,
    )


def test_batch_normalization_of_mixed_types() -> None:
    x = normal(2, 3, 4, dtype=np.float16)
    (y,) = evaluate(row_of("BatchNormalization"), [x, *channels(3)], {})
    (exact,) = evaluate(row_of("BatchNormalization"), [x.astype(np.float64), *channels(3)], {})
    assert y.dtype == np.float16
    np.testing.assert_allclose(y.astype(np.float64), exact, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("shape", [(2, 4, 5), (2, 4, 3, 5)])
def test_instance_and_group_normalization_match_the_reference(shape: tuple[int, ...]) -> None:
    scale, bias = channels(4)[:2]
    check_row("InstanceNormalization", [normal(*shape), scale, bias], epsilon=1e-2)
    check_row("GroupNormalization", [normal(*shape), scale, bias], num_groups=2)


@pytest.mark.parametrize("axis", [-1, 1, -3])
def test_layer_normalization_matches_the_reference(axis: int) -> None:
    x = normal(2, 3, 4)
    scale, bias = normal(*x.shape[axis:], seed=1), normal(*x.shape[axis:], seed=2)
    check_row("LayerNormalization", [x, scale, bias], outputs=3, axis=axis)
    check_row("LayerNormalization", [x, scale], outputs=3, axis=axis, epsilon=1e-2)
    check_row("RMSNormalization", [x, scale], axis=axis)


def test_layer_normalization_does_not_cancel() -> None:
    x = normal(3, 64) + 1e4
    y, _, _ = evaluate(row_of("LayerNormalization"), [x, np.ones(64, np.float32)], {})
    exact, _, _ = evaluate(row_of("LayerNormalization"), [x.astype(np.float64), np.ones(64)], {})
    np.testing.assert_allclose(y, exact, atol=2e-3)


def test_statistics_have_the_stashed_type() -> None:
    x, scale = normal(2, 3, dtype=np.float16), np.ones(3, np.float16)
    results = evaluate(row_of("LayerNormalization"), [x, scale], {"stash_type": 16})
    assert [y.dtype.name for y in results] == ["float16", "bfloat16", "bfloat16"]


@pytest.mark.parametrize("size", [1, 3, 5])
def test_lrn_matches_onnxruntime(size: int) -> None:
    check_row("LRN", [normal(2, 4, 3, 2)], runtime=True, size=size, alpha=0.5, beta=0.6, bias=2.0)


def test_lrn_of_an_even_size_reaches_further_behind() -> None:
    x = normal(1, 4, 1)
    (y,) = evaluate(row_of("LRN"), [x], {"size": 2, "alpha": 2.0, "beta": 1.0, "bias": 0.5})
    squares = x**2
    expected = x / (0.5 + squares + np.concatenate([squares[:, 1:], 0 * squares[:, :1]], 1))
    np.testing.assert_allclose(y, expected, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:invalid value")  # the reference divides by zero
def test_lp_normalization_divides_by_the_norm() -> None:
    x = normal(2, 3, 4)
    x[0, :, 1] = 0
    check_row("LpNormalization", [x], axis=1, p=2)
    (y,) = evaluate(row_of("LpNormalization"), [x], {"axis": -1, "p": 1})
    np.testing.assert_allclose(y, x / np.abs(x).sum(-1, keepdims=True), rtol=1e-6)


def test_mean_variance_normalization_matches_the_reference() -> None:
    check_row("MeanVarianceNormalization", [normal(2, 3, 4, 5)])
    check_row("MeanVarianceNormalization", [normal(2, 3, 4)], axes=[-1])


@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("axis", [-1, 1, -3])
def test_softmax_matches_the_reference(name: str, axis: int) -> None:
    check_row(name, [normal(2, 3, 4)], axis=axis)
    check_row(name, [100 * normal(3, 3, 4, dtype=np.float64)], axis=axis)


def test_softmax_of_odd_rows() -> None:
    row = row_of("Softmax")
    x = np.array([[np.inf, 0], [-np.inf, 0], [np.nan, 0], [3e38, -3e38]], np.float32)
    with np.errstate(invalid="ignore"):
        (y,) = evaluate(row, [x], {})
    np.testing.assert_array_equal(y, [[np.nan, np.nan], [0, 1], [np.nan, np.nan], [1, 0]])
    assert evaluate(row, [np.zeros((2, 0), np.float32)], {})[0].shape == (2, 0)
    (narrow,) = evaluate(row, [normal(1, 2000, dtype=ml_dtypes.bfloat16)], {})
    assert abs(float(narrow.astype(np.float64).sum()) - 1) < 2e-2


def test_hardmax_marks_the_first() -> None:
    x = np.array([[1, 3, 3], [0, 0, 0], [1, np.nan, 2]], np.float32)
    (y,) = evaluate(row_of("Hardmax"), [x], {})
    np.testing.assert_array_equal(y, [[0, 1, 0], [1, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(y, onnx_reference("Hardmax", [x], {})[0])


@pytest.mark.parametrize(
    ("name", "shapes", "attrs", "message"),
    [
        (
            "BatchNormalization",
            [(2, 3, 4), (3,), (3,), (2,), (3,)],
            {},
            "mean f32[2] should hold one number for each of 3 channels",
        ),
        (
            "GroupNormalization",
            [(2, 5, 4), (5,), (5,)],
            {"num_groups": 2},
            "5 channels do not split into 2 groups",
        ),
        ("LayerNormalization", [(2, 3), (4,)], {}, "scale f32[4] does not broadcast to [2,3]"),
        (
            "LayerNormalization",
            [(2, 3), (2, 2, 3)],
            {},
            "scale f32[2,2,3] does not broadcast to [2,3]",
        ),
        ("Softmax", [(2, 3)], {"axis": 2}, "axis 2 does not exist in 2 dimensions"),
        ("LpNormalization", [(2, 3)], {"p": 3}, "p is 3, should be 1 or 2"),
    ],
)
def test_contradictions_name_both_sides(
    name: str, shapes: Any, attrs: dict[str, Any], message: str
) -> None:
    with pytest.raises(LeptonError) as error:
        build_op(row_of(name), [normal(*shape) for shape in shapes], attrs)
    assert message in error.value.message
