"""Rows that repeat, pad and rearrange elements."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.ir.ops.single import check_refusal, check_row, data, ints, one_op, result_types, run

SCALAR = np.array(7, np.float32)


@pytest.mark.parametrize(
    ("name", "operands", "attrs"),
    [
        ("expand", [data(3, 1), ints(2, 1, 4)], {}),
        ("expand", [data(2, 3), ints(1)], {}),
        ("expand", [data(), ints(2, 2)], {}),
        ("expand", [data(1, dtype=bool), ints(0)], {}),
        ("tile", [data(2, 3), ints(2, 1)], {}),
        ("tile", [data(2, 3), ints(0, 2)], {}),
        ("pad", [data(2, 3), ints(1, 0, 0, 2)], {}),
        ("pad", [data(2, 3), ints(1, 0, 0, 2), SCALAR], {}),
        ("pad", [data(2, 3), ints(2, 1), None, ints(-1)], {}),
        ("pad", [data(2, 3), ints(2, 1), SCALAR, ints(0)], {"mode": "constant"}),
        ("pad", [data(2, 3), ints(1, 2, 2, 4)], {"mode": "edge"}),
        ("pad", [data(2, 4), ints(1, 3, 1, 2)], {"mode": "reflect"}),
        ("pad", [data(2, 4), ints(3, 7, 2, 9)], {"mode": "reflect"}),
        ("pad", [data(2, 3), ints(1, 7, 3, 2)], {"mode": "wrap"}),
        ("trilu", [data(4, 5), None], {}),
        ("trilu", [data(2, 4, 5), np.array(-1)], {"upper": 0}),
        ("trilu", [data(4, 5, dtype=np.int32), np.array(7)], {}),
        ("depth_to_space", [data(2, 12, 2, 3)], {"blocksize": 2}),
        ("depth_to_space", [data(2, 12, 2, 3)], {"blocksize": 2, "mode": "CRD"}),
        ("space_to_depth", [data(2, 3, 4, 6)], {"blocksize": 2}),
        ("space_to_depth", [data(2, 3, 4, 6)], {"blocksize": 2, "mode": "CRD"}),
        ("center_crop_pad", [data(6, 5), ints(3, 8)], {"axes": (0, 1)}),
        ("center_crop_pad", [data(6, 5, 2), ints(9, 2)], {"axes": (-2, 0)}),
    ],
)
def test_like_the_reference(name: str, operands: list[Any], attrs: dict[str, Any]) -> None:
    check_row(name, operands, attrs)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
def test_negative_pads_remove_elements_first(mode: str) -> None:
    operands = [np.arange(6.0), ints(-2, 3)]
    (result,) = run(one_op("pad", operands, {"mode": mode}), operands)
    expected = {"constant": [0, 0, 0], "edge": [5, 5, 5], "reflect": [4, 3, 2], "wrap": [2, 3, 4]}
    assert result.tolist() == [2, 3, 4, 5, *expected[mode]]


def test_padding_of_everything_removed() -> None:
    operands = [np.arange(3.0), ints(-4, 2)]
    (result,) = run(one_op("pad", operands), operands)
    assert result.tolist() == [0]


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
def test_a_scalar_has_no_axis_to_pad(mode: str) -> None:
    operands = [np.array(3.0), ints()]
    (result,) = run(one_op("pad", operands, {"mode": mode}), operands)
    assert result.shape == ()
    assert result == 3


@pytest.mark.parametrize(
    ("name", "operands", "attrs", "expected"),
    [
        ("expand", ["f32[n,1]", ints(1, 4)], {}, "f32[n,4]"),
        ("expand", ["f32[1,d]", "i64[2]"], {}, "f32[u1_,u2_]"),
        ("tile", ["f32[n,3]", ints(2, 2)], {}, "f32[2*n,6]"),
        ("pad", ["f32[n,3]", ints(1, 0, 1, 0)], {}, "f32[n+2,3]"),
        ("pad", ["f32[n,3]", "i64[4]"], {}, "f32[u1_,u2_]"),
        ("pad", ["f32[n,3]", ints(1, 1), None, "i64[1]"], {}, "f32[u1_,u2_]"),
        ("space_to_depth", ["f32[n,3,h,8]"], {"blocksize": 4}, "f32[n,48,floordiv(h,4),2]"),
        ("depth_to_space", ["f32[n,16,h,8]"], {"blocksize": 4}, "f32[n,1,4*h,32]"),
    ],
)
def test_symbolic_types(
    name: str, operands: list[Any], attrs: dict[str, Any], expected: str
) -> None:
    assert result_types(name, operands, attrs) == [expected]


@pytest.mark.parametrize(
    ("name", "operands", "attrs", "code", "text"),
    [
        ("expand", ["f32[3]", ints(4)], {}, "E103", "do not broadcast"),
        ("expand", ["f32[3]", ints(-2)], {}, "E103", "-2"),
        ("expand", ["f32[3]", "i64[n]"], {}, "E109", "shape"),
        ("tile", ["f32[3]", ints(1, 1)], {}, "E103", "2 elements"),
        ("pad", ["f32[3]", ints(1)], {}, "E103", "1 elements"),
        ("pad", ["f32[3]", ints(-2, -2)], {}, "E103", "-1 elements"),
        ("pad", ["f32[0]", ints(1, 0)], {"mode": "edge"}, "E103", "no elements"),
        ("pad", ["f32[3]", ints(1, 0)], {"mode": "mirror"}, "E108", "mirror"),
        ("pad", ["f32[3]", ints(1, 0), "f16[]"], {}, "E101", "f16"),
        ("trilu", ["f32[3]"], {}, "E103", "2 dimensions"),
        ("depth_to_space", ["f32[1,6,2,2]"], {"blocksize": 2}, "E103", "multiple of 4"),
        ("space_to_depth", ["f32[1,6,3,2]"], {"blocksize": 2}, "E103", "multiple of 2"),
        ("space_to_depth", ["f32[1,6,3,2]"], {"blocksize": 2, "mode": "X"}, "E108", "X"),
    ],
)
def test_errors(
    name: str, operands: list[Any], attrs: dict[str, Any], code: str, text: str
) -> None:
    check_refusal(name, operands, attrs, code, text)
