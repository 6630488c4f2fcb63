"""Rows that write elements at computed places."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.ir.ops.single import check_refusal, check_row, data, ints, one_op, result_types, run

REPEATED = ints(1, -1, 1, 0, 0, 2).reshape(2, 3)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize("axis", [0, -1])
def test_scatter_elements_like_the_reference(reduction: str, axis: int) -> None:
    check_row(
        "scatter_elements",
        [data(3, 4), REPEATED, data(2, 3, seed=1)],
        {"axis": axis, "reduction": reduction},
        tolerance=1e-6,
    )


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize(
    "operands",
    [
        [data(4, 3), ints(1, 3, 1).reshape(3, 1), data(3, 3, seed=1)],
        [data(4, 3), ints(1, 2, 0, -1, 1, 2).reshape(3, 2), data(3, seed=1)],
        [data(4, 3), np.zeros((0, 1), np.int64), data(0, 3)],
    ],
)
def test_scatter_nd_like_the_reference(reduction: str, operands: list[Any]) -> None:
    check_row("scatter_nd", operands, {"reduction": reduction}, tolerance=1e-6)


def test_empty_index_tuples_name_the_whole_operand() -> None:
    operands = [data(2, 3), np.zeros((1, 0), np.int64), data(1, 2, 3, seed=1)]
    np.testing.assert_array_equal(run(one_op("scatter_nd", operands), operands)[0], operands[2][0])


@pytest.mark.parametrize(
    ("operands", "attrs"),
    [
        ([data(2, 5, 3), data(2, 2, 3, seed=1), ints(1, 3)], {}),
        ([data(2, 5, 3), data(2, 2, 3, seed=1), None], {}),
        ([data(2, 5, 3), data(2, 3, 3, seed=1), ints(4, 12)], {"mode": "circular"}),
        ([data(2, 3, 5), data(2, 3, 1, seed=1), ints(4, 0)], {"axis": 2}),
    ],
)
def test_tensor_scatter_like_the_reference(operands: list[Any], attrs: dict[str, Any]) -> None:
    check_row("tensor_scatter", operands, attrs)


@pytest.mark.parametrize(
    ("name", "operands", "attrs", "code", "text"),
    [
        ("scatter_elements", ["f32[3]", ints(3), "f32[1]"], {}, "E110", "index 3"),
        ("scatter_elements", ["f32[3]", "i64[2]", "f32[1]"], {}, "E103", "one shape"),
        ("scatter_elements", ["f32[3]", "i64[2]", "i32[2]"], {}, "E101", "i32"),
        ("scatter_elements", ["f32[3]", "i64[2]", "f32[2]"], {"reduction": "sub"}, "E108", "sub"),
        ("scatter_elements", ["f32[3,2]", "i64[1,3]", "f32[1,3]"], {}, "E103", "at most 2"),
        ("scatter_nd", ["f32[3,2]", "i64[4,1]", "f32[4]"], {}, "E103", "[4,2]"),
        ("scatter_nd", ["f32[3,2]", ints(3).reshape(1, 1), "f32[1,2]"], {}, "E110", "index 3"),
        ("tensor_scatter", ["f32[2,3,4]", "f32[2,4,4]"], {}, "E103", "does not fit"),
        ("tensor_scatter", ["f32[2,3,4]", "f32[2,1,4]"], {"axis": 0}, "E107", "batch"),
        ("tensor_scatter", ["f32[2,3,4]", "f32[2,1,4]", "i64[3]"], {}, "E103", "2 elements"),
        ("tensor_scatter", ["f32[2,3,4]", "f32[2,1,4]"], {"mode": "x"}, "E108", "'x'"),
    ],
)
def test_errors(
    name: str, operands: list[Any], attrs: dict[str, Any], code: str, text: str
) -> None:
    check_refusal(name, operands, attrs, code, text)


def test_symbolic_types() -> None:
    assert result_types("scatter_nd", ["f32[n,d]", "i64[k,1]", "f32[k,d]"]) == ["f32[n,d]"]
    assert result_types("tensor_scatter", ["f32[b,m,d]", "f32[b,s,d]", "i64[b]"]) == ["f32[b,m,d]"]
