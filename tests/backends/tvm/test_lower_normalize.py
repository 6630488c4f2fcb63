"""Lowered normalisations and softmax against their meaning."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.backends.tvm.kernel_of_row import RowKernel, check_lowering
from tests.ir.ops.against_onnx import normal

DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "hardmax"])
@pytest.mark.parametrize("axis", [-1, 1, 0])
def test_softmax_along_each_axis(name: str, axis: int) -> None:
    check_lowering(name, [normal(3, 5, 37)], axis=axis)


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_of_each_type(dtype: Any) -> None:
    check_lowering("softmax", [normal(3, 64, dtype=dtype)])


def test_softmax_of_symbolic_extents() -> None:
    sizes = [normal(2, 3, 5), normal(1, 1, 1), normal(3, 7, 64), normal(0, 2, 3)]
    check_lowering("softmax", [sizes[0]], *([x] for x in sizes[1:]), symbolic=(0,))


def test_softmax_of_odd_rows() -> None:
    x = np.array([[np.inf, 0], [-np.inf, 0], [np.nan, 0], [3e38, -3e38], [0, np.nan]], np.float32)
    RowKernel("softmax", [x], {"axis": -1}).check_exactness([x])
    RowKernel("hardmax", [x], {"axis": -1}).check_exactness([x])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [-1, 1])
def test_layer_normalization_of_each_type(dtype: Any, axis: int) -> None:
    x = normal(3, 4, 32, dtype=dtype)
    scale, bias = (normal(*x.shape[axis:], dtype=dtype, seed=s) for s in (1, 2))
    attrs: dict[str, Any] = {"axis": axis, "epsilon": 1e-5, "stash_type": 1}
    check_lowering("layer_normalization", [x, scale, bias], scale=4, **attrs)
    check_lowering("rms_normalization", [x, scale], **attrs)


def test_layer_normalization_of_symbolic_extents() -> None:
    def operands(batch: int, rows: int) -> list[Any]:
        return [normal(batch, rows, 24), normal(24, seed=1), normal(24, seed=2)]

    check_lowering(
        "layer_normalization", operands(2, 3), operands(1, 1), operands(3, 5), symbolic=(0,)
    )


def test_layer_normalization_does_not_cancel() -> None:
    x = normal(3, 64) + 1e4
    y, _, _ = RowKernel("layer_normalization", [x, np.ones(64, np.float32)], {}).run(
        [x, np.ones(64, np.float32)]
    )
    exact = (x.astype(np.float64) - x.mean(1, keepdims=True, dtype=np.float64)) / x.std(
        1, keepdims=True, dtype=np.float64
    )
    np.testing.assert_allclose(y, exact, atol=2e-3)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 5), (2, 3, 4, 5)])
@pytest.mark.parametrize("training", [0, 1])
def test_batch_normalization(shape: tuple[int, ...], training: int) -> None:
    vectors = [
        normal(3, seed=1),
        normal(3, seed=2),
        normal(3, seed=3),
        np.abs(normal(3, seed=4)) + 0.1,
    ]
    attrs: dict[str, Any] = {"training_mode": training, "momentum": 0.7}
    check_lowering("batch_normalization", [normal(*shape), *vectors], scale=4, **attrs)
    check_lowering(
        "batch_normalization", [normal(*shape), *vectors], [normal(5, *shape[1:]), *vectors],
        symbolic=(0,), scale=4, **attrs,
    )  # fmt: skip


def test_instance_and_group_normalization() -> None:
    vectors = [normal(4, seed=1), normal(4, seed=2)]
    for shape in ((2, 4, 5), (2, 4, 3, 5)):
        check_lowering("instance_normalization", [normal(*shape), *vectors], epsilon=1e-2)
        check_lowering("group_normalization", [normal(*shape), *vectors], num_groups=2)
    sizes = [[normal(n, 4, h, 3), *vectors] for n, h in ((2, 5), (1, 1), (3, 8))]
    check_lowering("instance_normalization", *sizes, symbolic=(0,))


@pytest.mark.parametrize("size", [1, 2, 5])
def test_lrn(size: int) -> None:
    attrs: dict[str, Any] = {"size": size, "alpha": 0.5, "beta": 0.6, "bias": 2.0}
    check_lowering("lrn", [normal(2, 4, 3, 2)], size=size, alpha=0.5)
    check_lowering("lrn", [normal(2, 4, 3, 2)], [normal(1, 3, 1, 7)], symbolic=(0,), **attrs)


@pytest.mark.parametrize("p", [1, 2])
def test_lp_normalization(p: int) -> None:
    x = normal(2, 3, 4)
    x[0, :, 1] = 0
    check_lowering("lp_normalization", [x], axis=1, p=p)


def test_mean_variance_normalization() -> None:
    check_lowering("mean_variance_normalization", [normal(2, 3, 4, 5)])
    check_lowering("mean_variance_normalization", [normal(2, 3, 4)], axes=[-1])
