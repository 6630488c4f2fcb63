"""Kernels that give the same elements another shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from leptonc.ir.dims import Dim, symbol
from tests.backends.tvm.kernel_of_row import RowKernel, check_kernel, reason_of
from tests.ir.ops.single import data, ints


@pytest.mark.parametrize(
    ("name", "operands", "attrs"),
    [
        ("reshape", [data(2, 3, 4), ints(4, -1)], {}),
        ("reshape", [data(6, 4, 5), ints(2, 3, 20)], {}),
        ("reshape", [data(4, 6), ints(3, 8)], {}),
        ("reshape", [data(1, 1), ints()], {}),
        ("reshape", [data(), ints(1, 1)], {}),
        ("reshape", [data(0, 3), ints(3, 0)], {"allowzero": 1}),
        ("reshape", [data(2, 1, 3, 1), ints(1, 2, 3)], {}),
        ("flatten", [data(2, 3, 4, dtype=np.int8)], {"axis": -1}),
        ("squeeze", [data(1, 3, 1, 4, dtype=bool), None], {}),
        ("unsqueeze", [data(3, 4), ints(0, -1)], {}),
        ("transpose", [data(2, 3, 4)], {}),
        ("transpose", [data(2, 3, 4, dtype=np.float16)], {"perm": (1, 0, 2)}),
        ("transpose", [data()], {}),
        ("transpose", [data(37, 3, 19)], {"perm": (2, 0, 1)}),
        ("transpose", [data(16, 32, dtype=np.uint8)], {}),
        ("shape", [data(2, 3, 4)], {"start": 1}),
        ("size", [data(2, 3, 4)], {}),
    ],
)
def test_like_the_interpreter(name: str, operands: list[Any], attrs: dict[str, Any]) -> None:
    check_kernel(name, operands, attrs)


@pytest.mark.parametrize(
    ("name", "shape", "rest", "attrs"),
    [
        ("reshape", ["b", "s", 12], [ints(0, 0, 3, -1)], {}),
        ("reshape", ["b", "s", 12], [ints(-1, 12)], {}),
        ("reshape", ["b", "s", 12], [ints(0, -1)], {}),
        ("reshape", ["b", "s", 12], [ints(4, -1)], {}),
        ("flatten", ["b", "s", 12], [], {"axis": 2}),
        ("unsqueeze", ["b", "s", 12], [ints(1)], {}),
        ("transpose", ["b", "s", 12], [], {"perm": (2, 0, 1)}),
        ("shape", ["b", "s", 12], [], {}),
        ("size", ["b", "s", 12], [], {}),
    ],
)
def test_symbolic_extents(
    name: str, shape: list[Any], rest: list[Any], attrs: dict[str, Any]
) -> None:
    sizes = [data(b, s, 12) for b, s in [(2, 3), (1, 1), (5, 4), (0, 3)]]
    check_kernel(
        name, [sizes[0], *rest], attrs, *([x, *rest] for x in sizes[1:]), shapes={0: shape}
    )


def test_a_split_of_the_last_dimension_divides_only_there() -> None:
    kernel = RowKernel(
        "reshape", [data(2, 3, 768), ints(0, 0, 12, 64)], shapes={0: ["b", "s", 768]}
    )
    assert [dim for dim in kernel.source.graph.outputs[0].type.shape[:2]] == [
        symbol("b"),
        symbol("s"),
    ]
    from leptonc.backends.tvm.lower.indexing import reshaped_index
    from leptonc.backends.tvm.lowering import DimTable, LowerCall
    from tests.backends.tvm.kernel_of_row import only_op

    call = LowerCall(only_op(kernel.graph), {}, DimTable())
    source: list[Dim] = [symbol("b"), symbol("s"), 768]
    index = [call.dim(symbol(name)) for name in "ijkl"]
    found = reshaped_index(call, source, [*source[:2], 12, 64], index)
    assert [str(at) for at in found] == ["i", "j", "k * T.int64(64) + l"]


def test_too_few_elements_at_run_time_read_as_zero() -> None:
    kernel = RowKernel("expand", [data(2, 1), ints(2, 4)])
    assert kernel.run([data(2, 1)])[0].shape == (2, 4)


def test_a_shape_from_data_has_a_reason() -> None:
    assert "at run time only" in reason_of("reshape", [data(2, 3), ints(3, 2)], runtime=(1,))
    assert reason_of("reshape", [data(2, 3), ints(3, 2)]) == ""
