"""Rows that read elements at computed places."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.ir.ops.single import check_refusal, check_row, data, ints, result_types

SQUARE = ints(0, 2, -1, -3).reshape(2, 2)


@pytest.mark.parametrize(
    ("name", "operands", "attrs"),
    [
        ("gather", [data(3, 4), SQUARE], {}),
        ("gather", [data(3, 4), SQUARE.astype(np.int32)], {"axis": -1}),
        ("gather", [data(3, 4), np.array(1)], {"axis": 1}),
        ("gather", [data(3, 4), ints()], {}),
        ("gather_elements", [data(3, 4), ints(0, -1, 2, 1).reshape(1, 4)], {}),
        ("gather_elements", [data(3, 4), ints(0, -1, 2, 3, 1, 0).reshape(3, 2)], {"axis": 1}),
        ("gather_nd", [data(3, 4, 2), ints(0, 1, 2, -1).reshape(2, 2)], {}),
        ("gather_nd", [data(3, 4, 2), ints(0, 1, 1, 2, -1, 0).reshape(2, 3)], {}),
        ("gather_nd", [data(3, 4, 2), ints(1, 3, 0).reshape(3, 1)], {"batch_dims": 1}),
        (
            "gather_nd",
            [data(2, 2, 3, 4), ints(*range(2), *range(2), 1, 1, 0, 0).reshape(2, 2, 2)],
            {"batch_dims": 2},
        ),
        ("reverse_sequence", [data(4, 3), ints(4, 1, 0)], {}),
        ("reverse_sequence", [data(4, 3, 2), ints(3, 2, 1, 0)], {"batch_axis": 0, "time_axis": 1}),
    ],
)
def test_like_the_reference(name: str, operands: list[Any], attrs: dict[str, Any]) -> None:
    check_row(name, operands, attrs)


@pytest.mark.parametrize(
    ("name", "operands", "attrs", "expected"),
    [
        ("gather", ["f32[vocab,d]", "i64[batch,seq]"], {}, "f32[batch,seq,d]"),
        ("gather", ["f32[n,d]", "i64[]"], {"axis": 1}, "f32[n]"),
        ("gather_elements", ["f32[n,d]", "i64[n,k]"], {"axis": 1}, "f32[n,k]"),
        ("gather_nd", ["f32[n,c,h,w]", "i64[n,k,1]"], {"batch_dims": 1}, "f32[n,k,h,w]"),
    ],
)
def test_symbolic_types(
    name: str, operands: list[Any], attrs: dict[str, Any], expected: str
) -> None:
    assert result_types(name, operands, attrs) == [expected]


@pytest.mark.parametrize(
    ("name", "operands", "attrs", "code", "text"),
    [
        ("gather", ["f32[3]", ints(0, 3)], {}, "E110", "index 3 is outside an extent of 3"),
        ("gather", ["f32[3]", ints(-4)], {}, "E110", "index -4"),
        ("gather", ["f32[3]", "f32[1]"], {}, "E102", "f32"),
        ("gather", ["f32[]", ints(0)], {}, "E107", "axis 0"),
        ("gather_elements", ["f32[3,2]", "i64[3]"], {}, "E103", "rank 2"),
        ("gather_nd", ["f32[3,2]", ints(0, 2).reshape(1, 2)], {}, "E110", "index 2"),
        ("gather_nd", ["f32[3,2]", "i64[4,3]"], {}, "E103", "3 elements"),
        ("gather_nd", ["f32[3,2]", "i64[4,n]"], {}, "E109", "last extent"),
        ("reverse_sequence", ["f32[3,2]", "i64[3]"], {}, "E103", "2 elements"),
        ("reverse_sequence", ["f32[3,2]", "i64[3]"], {"time_axis": 1}, "E108", "time_axis"),
    ],
)
def test_errors(
    name: str, operands: list[Any], attrs: dict[str, Any], code: str, text: str
) -> None:
    check_refusal(name, operands, attrs, code, text)
