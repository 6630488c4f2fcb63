"""Kernels of random numbers give what their rows give, whatever the threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from leptonc.ir.types import DType
from tests.backends.tvm.kernel_of_row import Case, RowKernel, check_kernels
from tests.ir.ops.single import ints

DTYPES = (DType.F32, DType.F64, DType.F16, DType.BF16)


def test_even_numbers_are_those_of_the_row() -> None:
    # low and width are powers of two, so that nothing is rounded but to the element type
    check_kernels([
        Case("random_uniform", [np.array(seed), ints(3, 700)],
             {"dtype": dtype, "low": -1.0, "generator": generator}, tolerance=0.0)
        for seed, dtype in enumerate(DTYPES, -2)
        for generator in ("splitmix64", "mt19937")
    ])  # fmt: skip


def test_normal_numbers_are_those_of_the_row() -> None:
    cases = [
        Case("random_normal", [np.array(seed), ints(5000)], {"dtype": dtype, "mean": 1.0})
        for seed, dtype in enumerate(DTYPES, -2)
    ]
    for (found,) in check_kernels(cases):
        assert abs(float(found.astype(np.float64).std()) - 1) < 0.05


@pytest.mark.parametrize("row", ["random_uniform", "random_normal"])
def test_shapes_of_run_time(row: str) -> None:
    kernel = RowKernel(row, [np.array(1), ints()], {})
    kernel.check([np.array(1), ints()], 1e-6)
    kernel.check([np.array(-(2**63)), ints()], 1e-6)


def test_counted_ngrams() -> None:
    grams: list[Any] = [np.array([[1, 1], [1, 2], [3, 0]]), np.array([2, 0, 3])]
    rng = np.random.default_rng(0)
    sizes = [rng.integers(0, 4, shape) for shape in ((3, 20), (1, 2), (2, 0), (0, 5))]
    kernel = RowKernel(
        "count_ngrams", [sizes[0], *grams], {"skips": 2, "width": 4}, shapes={0: ["n", "c"]}
    )
    for x in sizes:
        kernel.check([x, *grams])
    one = [rng.integers(0, 4, 30).astype(np.int32), np.array([[0], [2]]), np.array([1, 0])]
    check_kernels([Case("count_ngrams", one, {"skips": 5, "width": 2})])
