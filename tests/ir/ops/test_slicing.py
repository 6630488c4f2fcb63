"""Rows that join and cut tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from leptonc.ir.dims import substitute
from tests.ir.ops.single import check_refusal, check_row, data, ints, one_op, result_types, run

MAX, MIN = 2**63 - 1, -(2**63)


@pytest.mark.parametrize(
    ("name", "operands", "attrs"),
    [
        ("concat", [data(2, 3), data(2, 1, seed=1), data(2, 0)], {"axis": 1}),
        ("concat", [data(2, 3), data(1, 3)], {"axis": -2}),
        ("concat", [data(4, dtype=bool)], {"axis": 0}),
        ("slice", [data(5, 6), ints(1, 0), ints(3, MAX), None, ints(1, 2)], {}),
        ("slice", [data(5, 6), ints(-3), ints(-1), ints(-1)], {}),
        ("slice", [data(5, 6), ints(-1), ints(MIN), ints(0), ints(-1)], {}),
        ("slice", [data(5, 6), ints(4), ints(0), ints(1), ints(-2)], {}),
        ("slice", [data(5, 6), ints(100), ints(-100), ints(1), ints(-3)], {}),
        ("slice", [data(5, 6), ints(3), ints(2)], {}),
        ("slice", [data(0, 6), ints(0), ints(5)], {}),
        ("slice", [data(0, 6), ints(-1), ints(MIN), ints(0), ints(-1)], {}),
    ],
)
def test_like_the_reference(name: str, operands: list[Any], attrs: dict[str, Any]) -> None:
    check_row(name, operands, attrs)


@pytest.mark.parametrize(
    ("operands", "attrs"),
    [
        ([data(6, 2), None], {"num_outputs": 3}),
        ([data(7, 2), None], {"num_outputs": 3}),
        ([data(2, 7), ints(3, 0, 4)], {"axis": -1}),
        ([data(2, 0), ints(0, 0)], {"axis": 1}),
    ],
)
def test_split_like_the_reference(operands: list[Any], attrs: dict[str, Any]) -> None:
    check_row("split", operands, attrs)


def test_a_start_before_the_front_is_clamped_for_negative_steps() -> None:
    x = data(4)
    operands = [x, ints(-10), ints(MIN), ints(0), ints(-1)]
    (result,) = run(one_op("slice", operands), operands)
    np.testing.assert_array_equal(result, x[:1])


@pytest.mark.parametrize(
    ("name", "operands", "attrs", "expected"),
    [
        ("concat", ["f32[n,3]", "f32[n,m]"], {"axis": 1}, ["f32[n,m+3]"]),
        ("concat", ["f32[past,3]", "f32[seq,k]"], {"axis": 0}, ["f32[past+seq,3]"]),
        ("slice", ["f32[n,8]", ints(0), ints(MAX)], {}, ["f32[n,8]"]),
        ("slice", ["f32[n,8]", ints(1), ints(MAX)], {}, ["f32[max(0,n-1),8]"]),
        ("slice", ["f32[n,8]", ints(0), ints(-1)], {}, ["f32[max(0,n-1),8]"]),
        ("slice", ["f32[n,8]", ints(-3), ints(MAX)], {}, ["f32[min(3,n),8]"]),
        ("slice", ["f32[n,8]", ints(-1), ints(MIN), ints(0), ints(-1)], {}, ["f32[n,8]"]),
        ("slice", ["f32[n+4,8]", ints(2), ints(4)], {}, ["f32[2,8]"]),
        (
            "slice",
            ["f32[n,8]", ints(0), ints(MAX), ints(0), ints(2)],
            {},
            ["f32[floordiv(n+1,2),8]"],
        ),
        ("slice", ["f32[n,8]", "i64[1]", "i64[1]", ints(0)], {}, ["f32[u1_,8]"]),
        ("slice", ["f32[n,8]", ints(0), ints(1), "i64[1]"], {}, ["f32[u1_,u2_]"]),
        ("split", ["f32[n,8]"], {"axis": 1, "num_outputs": 2}, ["f32[n,4]"] * 2),
        ("split", ["f32[3*n,8]"], {"num_outputs": 3}, ["f32[n,8]"] * 3),
        ("split", ["f32[n,8]", "i64[2]"], {"axis": 1}, ["f32[n,u1_]", "f32[n,u2_]"]),
    ],
)
def test_symbolic_types(
    name: str, operands: list[Any], attrs: dict[str, Any], expected: list[str]
) -> None:
    assert result_types(name, operands, attrs) == expected


@pytest.mark.parametrize("start", [MIN, -9, -4, -1, 0, 2, 5, 9, MAX])
@pytest.mark.parametrize("end", [MIN, -9, -3, -1, 0, 1, 5, 9, MAX])
@pytest.mark.parametrize("step", [1, 2, 3, -1, -2])
def test_the_extent_of_a_slice_is_exact_at_every_size(start: int, end: int, step: int) -> None:
    operands = [data(5), ints(start), ints(end), ints(0), ints(step)]
    graph = one_op("slice", operands, shapes={0: ["n"]})
    (dim,) = graph.outputs[0].type.shape
    for extent in range(8):
        operands[0] = data(extent)
        (result,) = run(one_op("slice", operands), operands)
        assert substitute(dim, {"n": extent}) == result.size, (dim, extent)


@pytest.mark.parametrize(
    ("name", "operands", "attrs", "code", "text"),
    [
        ("concat", ["f32[2,3]", "f32[2]"], {"axis": 0}, "E103", "differ in rank"),
        ("concat", ["f32[2,3]", "f32[2,4]"], {"axis": 0}, "E103", "axis 1 is 3 and 4"),
        ("concat", ["f32[2]", "i32[2]"], {"axis": 0}, "E101", "f32 and i32"),
        ("slice", ["f32[2]", ints(0), ints(1), ints(0), ints(0)], {}, "E108", "step"),
        ("slice", ["f32[2]", ints(0, 0), ints(1, 1)], {}, "E103", "2 starts"),
        ("slice", ["f32[2,2]", ints(0, 0), ints(1)], {}, "E103", "ends has 1"),
        ("split", ["f32[5]"], {"num_outputs": 4}, "E103", "4 parts"),
        ("split", ["f32[5]"], {}, "E106", "num_outputs"),
        ("split", ["f32[5]", ints(2, 2)], {}, "E103", "4, should be 5"),
        ("split", ["f32[5]", "i64[n]"], {}, "E109", "number of results"),
    ],
)
def test_errors(
    name: str, operands: list[Any], attrs: dict[str, Any], code: str, text: str
) -> None:
    check_refusal(name, operands, attrs, code, text)


def test_an_end_beyond_every_extent_is_the_end() -> None:
    assert result_types("slice", ["f32[n]", ints(0), ints(10**9)]) == ["f32[n]"]
    assert result_types("slice", ["f32[n]", ints(0), ints(10**9 - 1)]) == ["f32[min(999999999,n)]"]
