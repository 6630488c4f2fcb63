"""Rows that pick elements by their values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.ir.ops.single import check_refusal, check_row, data, ints, one_op, result_types, run

TIES = np.array([[2, 1, 2, 3, 1, 3], [0, 0, 0, 0, 0, 0]], np.float32)


@pytest.mark.parametrize(
    ("name", "operands", "attrs"),
    [
        ("top_k", [data(3, 5), ints(2)], {}),
        ("top_k", [TIES, ints(5)], {}),
        ("top_k", [TIES, ints(5)], {"largest": 0}),
        ("top_k", [data(3, 5, dtype=np.int32), ints(3)], {"axis": 0, "largest": 0}),
        ("top_k", [data(3, 5), ints(0)], {}),
        ("non_zero", [np.array([[1, 0], [0, 2]], np.int32)], {}),
        ("non_zero", [np.zeros((2, 3), bool)], {}),
        ("compress", [data(3, 4), np.array([True, False, True])], {"axis": 0}),
        ("compress", [data(3, 4), np.array([False, True])], {"axis": -1}),
        ("compress", [data(3, 4), np.array([False, True, True])], {}),
        ("unique", [ints(2, 1, 1, 3, 4, 3)], {}),
        ("unique", [ints(2, 1, 1, 3, 4, 3)], {"sorted": 0}),
        ("unique", [np.array([[1, 0, 0], [1, 0, 0], [2, 3, 4]], np.float32)], {"axis": 0}),
        (
            "unique",
            [np.array([[3, 0, 0], [3, 0, 0], [2, 3, 4]], np.float32)],
            {"axis": 0, "sorted": 0},
        ),
        ("unique", [np.array([[3, 0, 0], [3, 0, 0]], np.float32)], {"axis": 1}),
        ("unique", [data(2, 3)], {}),
    ],
)
def test_like_the_reference(name: str, operands: list[Any], attrs: dict[str, Any]) -> None:
    check_row(name, operands, attrs)


def test_not_a_number_is_above_all_numbers() -> None:
    operands = [np.array([1, np.nan, 3], np.float32), ints(2)]
    assert run(one_op("top_k", operands), operands)[1].tolist() == [1, 2]
    assert run(one_op("top_k", operands, {"largest": 0}), operands)[1].tolist() == [0, 2]


def test_places_in_a_scalar() -> None:
    for value, count in [(0, 0), (2, 1)]:
        operands = [np.array(value)]
        assert run(one_op("non_zero", operands), operands)[0].shape == (0, count)


def test_slices_in_order_of_appearance_along_the_last_axis() -> None:
    x = np.array([[3, 1, 3], [0, 5, 0]])
    values, first, inverse, counts = run(one_op("unique", [x], {"axis": 1, "sorted": 0}), [x])
    assert values.tolist() == [[3, 1], [0, 5]]
    assert (first.tolist(), inverse.tolist(), counts.tolist()) == ([0, 1], [0, 1, 0], [2, 1])


@pytest.mark.parametrize(
    ("name", "operands", "attrs", "expected"),
    [
        ("top_k", ["f32[n,c]", ints(3)], {}, ["f32[n,3]", "i64[n,3]"]),
        ("top_k", ["f32[n,c]", "i64[1]"], {"axis": 0}, ["f32[u1_,c]", "i64[u1_,c]"]),
        ("non_zero", ["f32[n,c]"], {}, ["i64[2,u1_]"]),
        ("compress", ["f32[n,c]", "bool[n]"], {"axis": 0}, ["f32[u1_,c]"]),
        ("compress", ["f32[n,c]", np.array([True, True, False])], {"axis": 1}, ["f32[n,2]"]),
        ("unique", ["f32[n,c]"], {"axis": 0}, ["f32[u1_,c]", "i64[u1_]", "i64[n]", "i64[u1_]"]),
    ],
)
def test_symbolic_types(
    name: str, operands: list[Any], attrs: dict[str, Any], expected: list[str]
) -> None:
    assert result_types(name, operands, attrs) == expected


@pytest.mark.parametrize(
    ("name", "operands", "attrs", "code", "text"),
    [
        ("top_k", ["f32[3]", ints(4)], {}, "E103", "k is 4"),
        ("top_k", ["bool[3]", ints(1)], {}, "E102", "bool"),
        ("compress", ["f32[3]", "bool[4]"], {}, "E103", "at most 3"),
        ("compress", ["f32[3]", "i64[3]"], {}, "E102", "i64"),
        ("compress", ["f32[3]", "bool[1,3]"], {}, "E103", "rank 1"),
        ("unique", ["f32[3]"], {"axis": 1}, "E107", "axis 1"),
    ],
)
def test_errors(
    name: str, operands: list[Any], attrs: dict[str, Any], code: str, text: str
) -> None:
    check_refusal(name, operands, attrs, code, text)
