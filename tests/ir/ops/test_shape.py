"""Rows that only say another shape for the same elements."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from leptonc.ir.build import Builder
from leptonc.ir.graph import Graph, Value
from tests.ir.ops.single import check_refusal, check_row, data, ints, result_types, tensor


@pytest.mark.parametrize(
    ("name", "operands", "attrs"),
    [
        ("shape", [data(2, 3, 4)], {}),
        ("shape", [data(2, 3, 4)], {"start": 1}),
        ("shape", [data(2, 3, 4)], {"start": -2, "end": -1}),
        ("shape", [data(2, 3, 4)], {"start": -10, "end": 10}),
        ("shape", [data(2, 3, 4)], {"start": 2, "end": 1}),
        ("shape", [data()], {}),
        ("size", [data(2, 0, 4)], {}),
        ("size", [data()], {}),
        ("reshape", [data(2, 3, 4), ints(4, -1)], {}),
        ("reshape", [data(2, 3, 4), ints(0, -1)], {}),
        ("reshape", [data(0, 3), ints(3, 0)], {"allowzero": 1}),
        ("reshape", [data(1, 1), ints()], {}),
        ("reshape", [data(), ints(1, 1, -1)], {}),
        ("flatten", [data(2, 3, 4)], {}),
        ("flatten", [data(2, 3, 4)], {"axis": 0}),
        ("flatten", [data(2, 3, 4)], {"axis": 3}),
        ("flatten", [data(2, 3, 4)], {"axis": -1}),
        ("squeeze", [data(1, 3, 1, 4), None], {}),
        ("squeeze", [data(1, 3, 1, 4), ints(-2)], {}),
        ("unsqueeze", [data(3, 4), ints(0, -1)], {}),
        ("unsqueeze", [data(3, 4), ints(2, 0, 4)], {}),
        ("unsqueeze", [data(), ints(0)], {}),
        ("transpose", [data(2, 3, 4)], {}),
        ("transpose", [data(2, 3, 4)], {"perm": (1, 0, 2)}),
        ("transpose", [data(2, 0, 4, dtype=np.int8)], {"perm": (2, 1, 0)}),
    ],
)  # fmt: skip
def test_like_the_reference(name: str, operands: list[Any], attrs: dict[str, Any]) -> None:
    check_row(name, operands, attrs)


@pytest.mark.parametrize(
    ("name", "operands", "attrs", "expected"),
    [
        ("reshape", ["f32[batch,seq,768]", ints(0, 0, 12, -1)], {}, "f32[batch,seq,12,64]"),
        ("reshape", ["f32[batch,seq,12,64]", ints(0, 0, -1)], {}, "f32[batch,seq,768]"),
        ("reshape", ["f32[batch,seq,768]", ints(-1, 768)], {}, "f32[batch*seq,768]"),
        ("reshape", ["f32[2*n]", ints(-1, 4)], {}, "f32[floordiv(2*n,4),4]"),
        ("flatten", ["f32[batch,c,7,7]"], {}, "f32[batch,49*c]"),
        ("squeeze", ["f32[batch,1,c]"], {}, "f32[batch,c]"),
        ("squeeze", ["f32[batch,seq]", ints(1)], {}, "f32[batch]"),
        ("unsqueeze", ["f32[batch]", ints(-1)], {}, "f32[batch,1]"),
        ("transpose", ["f32[batch,seq,3]"], {"perm": (2, 0, 1)}, "f32[3,batch,seq]"),
        ("reshape", ["f32[n,4]", "i64[2]"], {}, "f32[u1_,u2_]"),
        ("squeeze", ["f32[1,4]", "i64[1]"], {}, "f32[u1_]"),
        ("unsqueeze", ["f32[4]", "i64[1]"], {}, "f32[u1_,u2_]"),
    ],
)
def test_symbolic_types(
    name: str, operands: list[Any], attrs: dict[str, Any], expected: str
) -> None:
    assert result_types(name, operands, attrs) == [expected]


@pytest.mark.parametrize(
    ("name", "operands", "attrs", "code", "text"),
    [
        ("reshape", ["f32[2,3]", ints(4, -1)], {}, "E103", "6 elements are no multiple of 4"),
        ("reshape", ["f32[2,3]", ints(7)], {}, "E103", "6, should be 7"),
        ("reshape", ["f32[2,3]", "i64[0]"], {}, "E103", "6, should be 1"),
        ("reshape", ["f32[2,3]", ints(-1, -1)], {}, "E103", "more than one"),
        ("reshape", ["f32[2,3]", "i64[n]"], {}, "E109", "rank"),
        ("reshape", ["f32[2,3]", "i64[2,2]"], {}, "E103", "rank 1"),
        ("squeeze", ["f32[2,3]", ints(0)], {}, "E103", "is 2, should be 1"),
        ("squeeze", ["f32[2,3]", "i64[n]"], {}, "E109", "number of axes"),
        ("unsqueeze", ["f32[2,3]", ints(4)], {}, "E107", "axis 4"),
        ("unsqueeze", ["f32[2,3]", ints(0, 0)], {}, "E107", "twice"),
        ("transpose", ["f32[2,3]"], {"perm": (0,)}, "E107", "1 axes"),
        ("transpose", ["f32[2,3]"], {"perm": (0, 0)}, "E107", "twice"),
        ("flatten", ["f32[2,3]"], {"axis": 3}, "E107", "axis 3"),
    ],
)
def test_errors(
    name: str, operands: list[Any], attrs: dict[str, Any], code: str, text: str
) -> None:
    check_refusal(name, operands, attrs, code, text)


def test_attention_heads_from_a_computed_shape() -> None:
    graph = Graph("heads")
    x = graph.add_input(Value(tensor("f32[batch,seq,768]"), "x"))
    build = Builder(graph)
    shape = build.shape(x)
    batch = build.unsqueeze(build.gather(shape, build.const(np.array(0))), build.const(ints(0)))
    length = build.slice(shape, build.const(ints(1)), build.const(ints(2)))
    wanted = build.concat(batch, length, build.const(ints(12, -1)), axis=0)
    assert list(wanted.content.reshape(-1)) == [x.type.shape[0], x.type.shape[1], 12, -1]  # pyright: ignore
    assert str(build.reshape(x, wanted).type) == "f32[batch,seq,12,64]"
