"""Kernels that read elements at computed places, and kernels that make elements."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from leptonc.ir.blob import Blob
from leptonc.ir.types import DType
from tests.backends.tvm.kernel_of_row import RowKernel, check_kernel, reason_of
from tests.ir.ops.single import data, ints

SQUARE = ints(0, 2, -1, -3).reshape(2, 2)


def number(value: float, dtype: Any = np.int64) -> Any:
    return np.array(value, dtype)


@pytest.mark.parametrize(
    ("name", "operands", "attrs"),
    [
        ("gather", [data(3, 4), SQUARE], {}),
        ("gather", [data(3, 4), SQUARE.astype(np.int32)], {"axis": -1}),
        ("gather", [data(3, 4), number(1)], {"axis": 1}),
        ("gather", [data(3, 4), ints()], {}),
        ("gather_elements", [data(3, 4), ints(0, -1, 2, 1).reshape(1, 4)], {}),
        ("gather_elements", [data(3, 4), ints(0, -1, 2, 3, 1, 0).reshape(3, 2)], {"axis": -1}),
        ("gather_nd", [data(3, 4, 2), ints(0, 1, 2, -1).reshape(2, 2)], {}),
        ("gather_nd", [data(3, 4, 2), ints(1, 3, 0).reshape(3, 1)], {"batch_dims": 1}),
        ("reverse_sequence", [data(4, 3), ints(4, 1, 0)], {}),
        ("reverse_sequence", [data(4, 3, 2), ints(3, 2, 1, 0)], {"batch_axis": 0, "time_axis": 1}),
        ("constant_of_shape", [ints(2, 3)], {"value": Blob.of(ints(5))}),
        ("range", [number(5), number(-4), number(-2)], {}),
        ("range", [number(0.5, np.float32), number(2.0, np.float32), number(0.25, np.float32)], {}),
        ("eye_like", [data(3, 4)], {"k": -1, "dtype": DType.I32}),
        ("one_hot", [ints(0, 2, -1, 7), number(4), ints(3, 9)], {}),
        ("one_hot", [ints(0, 2, -1, 7).reshape(2, 2), number(4), data(2)], {"axis": 1}),
    ],
)
def test_like_the_interpreter(name: str, operands: list[Any], attrs: dict[str, Any]) -> None:
    check_kernel(name, operands, attrs)


def test_indices_outside_read_the_nearest_element() -> None:
    x = data(3)
    (found,) = RowKernel("gather", [x, ints(0, 0)]).run([x, ints(2**40, -(2**40))])
    np.testing.assert_array_equal(found, x[[2, 0]])


def test_indices_into_nothing_read_zero() -> None:
    kernel = RowKernel("gather", [data(3), ints(0, 0)], shapes={0: ["n"]})
    np.testing.assert_array_equal(kernel.run([data(0), ints(0, 1)])[0], [0, 0])


@pytest.mark.parametrize(("v", "n"), [(7, 3), (1, 1), (4, 0)])
def test_gather_of_symbolic_extents(v: int, n: int) -> None:
    kernel = RowKernel("gather", [data(5, 4), ints(0)], {}, shapes={0: ["v", 4], 1: ["n"]})
    kernel.check([data(v, 4), np.arange(n) - 1])


def test_sizes_from_data_have_a_reason() -> None:
    assert "limit" in reason_of("range", [number(0), number(3), number(1)], runtime=(1,))
    assert "depth" in reason_of("one_hot", [ints(0), number(3), data(2)], runtime=(1,))
    assert "shape" in reason_of("constant_of_shape", [ints(0)], runtime=(0,))
