"""Kernels that join, cut, repeat, pad and rearrange elements."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.backends.tvm.kernel_of_row import check_kernel, reason_of
from tests.ir.ops.single import data, ints

MAX, MIN = 2**63 - 1, -(2**63)
SCALAR = np.array(7, np.float32)


@pytest.mark.parametrize(
    ("name", "operands", "attrs"),
    [
        ("concat", [data(2, 3), data(2, 1, seed=1), data(2, 0)], {"axis": 1}),
        ("concat", [data(2, 3), data(1, 3), data(4, 3)], {"axis": -2}),
        ("concat", [data(2, 0), data(2, 0)], {"axis": 1}),
        ("split", [data(7, 2), None], {"num_outputs": 3}),
        ("split", [data(2, 7), ints(3, 0, 4)], {"axis": -1}),
        ("slice", [data(5, 6), ints(1, 0), ints(3, MAX), None, ints(1, 2)], {}),
        ("slice", [data(5, 6), ints(-1), ints(MIN), ints(0), ints(-1)], {}),
        ("slice", [data(5, 6), ints(100), ints(-100), ints(1), ints(-3)], {}),
        ("slice", [data(5, 6), ints(3), ints(2)], {}),
        ("expand", [data(3, 1), ints(2, 1, 4)], {}),
        ("expand", [data(), ints(2, 2)], {}),
        ("tile", [data(2, 3), ints(2, 1)], {}),
        ("tile", [data(2, 3), ints(0, 2)], {}),
        ("pad", [data(2, 3), ints(1, 0, 0, 2)], {}),
        ("pad", [data(2, 3), ints(2, 1), SCALAR, ints(-1)], {}),
        ("pad", [data(4, 3), ints(-1, 2, -2, 1), SCALAR], {}),
        ("pad", [data(2, 3), ints(1, 2, 2, 4)], {"mode": "edge"}),
        ("pad", [data(2, 4), ints(3, 7, 2, 9)], {"mode": "reflect"}),
        ("pad", [data(1, 4), ints(3, -1, 2, 2)], {"mode": "reflect"}),
        ("pad", [data(2, 3), ints(1, 7, 3, 2)], {"mode": "wrap"}),
        ("pad", [data(2, 6), ints(0, -2, 0, 3)], {"mode": "wrap"}),
        ("pad", [data(2, 6), ints(0, -2, 0, 3)], {"mode": "edge"}),
        ("pad", [data(2, 0), ints(0, 2, 0, 1), SCALAR], {}),
        ("trilu", [data(4, 5), None], {}),
        ("trilu", [data(2, 4, 5), np.array(-1)], {"upper": 0}),
        ("depth_to_space", [data(2, 12, 2, 3)], {"blocksize": 2}),
        ("depth_to_space", [data(2, 12, 2, 3)], {"blocksize": 2, "mode": "CRD"}),
        ("space_to_depth", [data(2, 3, 4, 6)], {"blocksize": 2}),
        ("space_to_depth", [data(2, 3, 4, 6)], {"blocksize": 2, "mode": "CRD"}),
        ("center_crop_pad", [data(6, 5), ints(3, 8)], {"axes": (0, 1)}),
    ],
)
def test_like_the_interpreter(name: str, operands: list[Any], attrs: dict[str, Any]) -> None:
    check_kernel(name, operands, attrs)


def test_a_diagonal_from_data() -> None:
    check_kernel("trilu", [data(4, 5), np.array(1)], {}, [data(4, 5), np.array(-3)], runtime=(1,))


@pytest.mark.parametrize(
    ("name", "rest", "attrs"),
    [
        ("slice", [ints(1), ints(MAX)], {}),
        ("slice", [ints(-3), ints(-1)], {}),
        ("slice", [ints(-1), ints(MIN), ints(0), ints(-2)], {}),
        ("slice", [ints(4), ints(1), ints(0), ints(-1)], {}),
        ("tile", [ints(2, 3)], {}),
        ("pad", [ints(2, 1, 3, 0)], {"mode": "edge"}),
        ("pad", [ints(2, 1, 3, 0)], {"mode": "reflect"}),
        ("pad", [ints(2, 1, 3, 0)], {"mode": "wrap"}),
        ("pad", [ints(-1, 1, 3, 0), SCALAR], {}),
        ("split", [None], {"num_outputs": 2, "axis": 1}),
        ("trilu", [None], {}),
        ("center_crop_pad", [ints(3)], {"axes": (0,)}),
        ("expand", [ints(2, 1, 1)], {}),
    ],
)
def test_symbolic_extents(name: str, rest: list[Any], attrs: dict[str, Any]) -> None:
    sizes = [data(extent, 4) for extent in (5, 1, 8)]
    check_kernel(
        name, [sizes[0], *rest], attrs, *([x, *rest] for x in sizes[1:]), shapes={0: ["n", 4]}
    )


def test_concat_of_symbolic_extents() -> None:
    sizes = [[data(n, 3), data(m, 3, seed=1)] for n, m in [(2, 3), (0, 4), (5, 0), (1, 1)]]
    check_kernel("concat", sizes[0], {"axis": 0}, *sizes[1:], shapes={0: ["n", 3], 1: ["m", 3]})


def test_bounds_from_data_have_a_reason() -> None:
    operands = [data(5), ints(0), ints(2)]
    assert "ends are known at run time only" in reason_of("slice", operands, runtime=(2,))
    assert reason_of("slice", operands) == ""
    assert "pads" in reason_of("pad", [data(5), ints(0, 1)], runtime=(1,))
