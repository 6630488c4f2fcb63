"""Lowered convolutions and poolings against their meaning."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.backends.tvm.kernel_of_row import RowKernel, check_lowering
from tests.ir.ops.against_onnx import normal
from tests.ir.ops.test_conv import CONVOLUTIONS, TRANSPOSED
from tests.ir.ops.test_pool import WINDOWS

DTYPES = [np.float64, np.float16, ml_dtypes.bfloat16]


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolution(case: str) -> None:
    x, w, attrs = CONVOLUTIONS[case]
    check_lowering("conv", [normal(*x), normal(*w), normal(w[0])], **attrs)


@pytest.mark.parametrize("dtype", DTYPES)
def test_convolution_of_each_type(dtype: Any) -> None:
    operands = [
        normal(1, 4, 7, 6, dtype=dtype),
        normal(3, 4, 3, 3, dtype=dtype),
        normal(3, dtype=dtype),
    ]
    check_lowering("conv", operands, pads=[1, 1, 0, 1])


@pytest.mark.parametrize(
    "attrs", [{"pads": [1, 1, 1, 1]}, {"auto_pad": "SAME_LOWER", "strides": [2, 2]}]
)
def test_convolution_of_symbolic_extents(attrs: dict[str, Any]) -> None:
    w = normal(4, 2, 3, 3)
    sizes = [
        [normal(n, 4, height, width), w]
        for n, height, width in ((2, 7, 8), (1, 3, 3), (3, 12, 5), (0, 6, 6))
    ]
    check_lowering("conv", *sizes, symbolic=(0,), group=2, **attrs)


@pytest.mark.parametrize("case", TRANSPOSED)
def test_transposed_convolution(case: str) -> None:
    x, w, attrs = TRANSPOSED[case]
    check_lowering("conv_transpose", [normal(*x), normal(*w), normal(w[1])], **attrs)


@pytest.mark.parametrize("dilations", [[1, 1], [2, 3]])
def test_transposed_convolution_of_groups_and_symbols(dilations: list[int]) -> None:
    w = normal(6, 2, 3, 3)
    sizes = [
        [normal(n, 6, height, width), w, normal(6)]
        for n, height, width in ((2, 4, 3), (1, 1, 1), (1, 2, 7))
    ]
    check_lowering(
        "conv_transpose",
        *sizes,
        symbolic=(0,),
        group=3,
        strides=[2, 3],
        pads=[1, 0, 0, 1],
        dilations=dilations,
        output_padding=[1, 0],
    )


@pytest.mark.parametrize("case", WINDOWS)
def test_max_pool(case: str) -> None:
    shape, attrs = WINDOWS[case]
    check_lowering("max_pool", [normal(*shape)], storage_order=len(shape) % 2, **attrs)


@pytest.mark.parametrize("case", WINDOWS)
def test_average_pool(case: str) -> None:
    shape, attrs = WINDOWS[case]
    check_lowering("average_pool", [normal(*shape)], **attrs)


@pytest.mark.parametrize("case", ["ceil, padded", "asymmetric", "dilated"])
def test_average_pool_counting_padding(case: str) -> None:
    shape, attrs = WINDOWS[case]
    check_lowering("average_pool", [normal(*shape)], count_include_pad=1, **attrs)


@pytest.mark.parametrize("name", ["max_pool", "average_pool"])
@pytest.mark.parametrize(
    "attrs",
    [
        {"pads": [1, 0, 1, 1], "strides": [2, 2], "ceil_mode": 1},
        {"auto_pad": "SAME_UPPER", "strides": [2, 1]},
    ],
)
def test_pools_of_symbolic_extents(name: str, attrs: dict[str, Any]) -> None:
    sizes = [
        [normal(*shape)] for shape in ((2, 3, 7, 8), (1, 1, 3, 3), (1, 2, 10, 5), (0, 2, 4, 4))
    ]
    check_lowering(name, *sizes, symbolic=(0,), kernel_shape=[3, 2], **attrs)


@pytest.mark.parametrize("p", [1, 2, 3])
def test_lp_pool(p: int) -> None:
    check_lowering("lp_pool", [normal(2, 3, 9, 7)], kernel_shape=[3, 2], pads=[1, 0, 1, 1], p=p)
    check_lowering("global_lp_pool", [normal(2, 3, 9, 7)], p=p)


def test_max_pool_passes_nan_on() -> None:
    x = normal(1, 2, 6, 6)
    x[0, 0, 1, 1], x[0, 1, 3:, 3:] = np.nan, -np.inf
    lowered = RowKernel(
        "max_pool", [x], {"kernel_shape": (2, 2), "pads": (1, 1, 1, 1), "strides": (2, 2)}
    )
    y, _ = lowered.check_exactness([x])
    assert np.isnan(y).sum() == 1


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.float16, ml_dtypes.bfloat16, np.float64])
def test_max_pool_of_each_type(dtype: Any) -> None:
    x = (normal(2, 3, 7, 6) * 40).clip(0, 120).astype(dtype)
    check_lowering("max_pool", [x], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])


@pytest.mark.parametrize("name", ["global_average_pool", "global_max_pool"])
def test_global_pools(name: str) -> None:
    check_lowering(name, [normal(2, 3, 5, 8)])
    check_lowering(name, [normal(2, 3, 5, 8, dtype=ml_dtypes.bfloat16)])
    sizes = [[normal(*s)] for s in ((2, 3, 5, 4), (1, 1, 1, 1), (3, 2, 16, 16), (2, 2, 0, 3))]
    check_lowering(name, *sizes, symbolic=(0,))


@pytest.mark.parametrize("shape", [(2, 3, 33), (1, 2, 3, 47), (2, 2, 0, 61), (1, 1, 2, 2, 100)])
def test_largest_of_rows_that_are_no_whole_vectors(shape: tuple[int, ...]) -> None:
    x = normal(*shape) - 5
    check_lowering("global_max_pool", [x])
    check_lowering("global_max_pool", [x.astype(ml_dtypes.bfloat16)])
    if x.size:
        x[0, 0, ..., -1] = 7
        x[-1, -1, ..., -2] = np.nan
        check_lowering("global_max_pool", [x])
