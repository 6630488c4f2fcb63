"""Kernels that write elements at computed places, and that pick elements by value."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.backends.tvm.kernel_of_row import RowKernel, check_kernel, reason_of
from tests.ir.ops.single import data, ints

REPEATED = ints(1, -1, 1, 0, 0, 2).reshape(2, 3)
TIES = np.array([[2, 1, 2, 3, 1, 3, np.nan], [0, 0, 0, 0, 0, 0, -1]], np.float32)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_scatter_elements(reduction: str) -> None:
    operands = [data(3, 4), REPEATED, data(2, 3, seed=1)]
    check_kernel("scatter_elements", operands, {"axis": 1, "reduction": reduction}, tolerance=1e-6)


@pytest.mark.parametrize("reduction", ["none", "add", "max"])
@pytest.mark.parametrize(
    "operands",
    [
        [data(4, 3), ints(1, 3, 1).reshape(3, 1), data(3, 3, seed=1)],
        [data(4, 3), ints(1, 2, 0, -1, 1, 2).reshape(3, 2), data(3, seed=1)],
        [data(4, 3, dtype=np.int32), ints(2).reshape(1, 1), data(1, 3, dtype=np.int32, seed=1)],
    ],
)
def test_scatter_nd(reduction: str, operands: list[Any]) -> None:
    check_kernel("scatter_nd", operands, {"reduction": reduction}, tolerance=1e-6)


def test_places_outside_are_left_alone() -> None:
    x, updates = data(3), data(2, seed=1)
    kernel = RowKernel("scatter_elements", [x, ints(0, 0), updates])
    np.testing.assert_array_equal(kernel.run([x, ints(3, -4), updates])[0], x)


def test_scatter_of_symbolic_extents() -> None:
    def operands(rows: int, count: int) -> list[Any]:
        places = np.arange(count).reshape(count, 1) % max(rows, 1)
        return [data(rows, 3), places, data(count, 3, seed=1)]

    check_kernel(
        "scatter_nd", operands(4, 2), {}, operands(1, 1), operands(3, 0), operands(5, 9),
        shapes={0: ["n", 3], 1: ["k", 1], 2: ["k", 3]},
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["linear", "circular"])
def test_tensor_scatter(mode: str) -> None:
    starts = ints(1, 3) if mode == "linear" else ints(4, 13)
    operands = [data(2, 5, 3), data(2, 2, 3, seed=1), starts]
    check_kernel("tensor_scatter", operands, {"mode": mode})
    check_kernel("tensor_scatter", [*operands[:2], None], {"mode": mode})


@pytest.mark.parametrize(
    ("operands", "attrs"),
    [
        ([data(3, 50), ints(7)], {}),
        ([TIES, ints(7)], {}),
        ([TIES, ints(4)], {"largest": 0}),
        ([data(9, 5, dtype=np.int32), ints(3)], {"axis": 0, "largest": 0}),
        ([data(4, 6, dtype=np.uint8), ints(6)], {}),
        ([data(3, 50).astype(ml_dtypes.bfloat16), ints(7)], {}),
        ([data(3, 5), ints(0)], {}),
        ([data(8), ints(1)], {}),
    ],
)
def test_top_k(operands: list[Any], attrs: dict[str, Any]) -> None:
    check_kernel("top_k", operands, attrs)


def test_top_k_of_symbolic_extents() -> None:
    sizes = [data(2, 9), data(1, 3), data(3, 40), data(0, 5)]
    check_kernel(
        "top_k", [sizes[0], ints(3)], {}, *([x, ints(3)] for x in sizes[1:]), shapes={0: ["n", "m"]}
    )


def test_sizes_from_data_have_a_reason() -> None:
    assert "depends on data" in reason_of("non_zero", [data(3)])
    assert "(k)" in reason_of("top_k", [data(3), ints(1)], runtime=(1,))
    assert "truth values" in reason_of(
        "scatter_elements",
        [data(3, dtype=bool), ints(0), data(1, dtype=bool)],
        {"reduction": "max"},
    )
