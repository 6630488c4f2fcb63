"""Rows that make tensors from sizes and numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from leptonc.ir.blob import Blob
from leptonc.ir.build import Builder
from leptonc.ir.graph import Graph, Value
from leptonc.ir.types import DType
from tests.ir.ops.single import check_refusal, check_row, data, ints, result_types, tensor


def number(value: float, dtype: Any = np.int64) -> Any:
    return np.array(value, dtype)


@pytest.mark.parametrize(
    ("name", "operands", "attrs"),
    [
        ("constant_of_shape", [ints(2, 3)], {}),
        ("constant_of_shape", [ints()], {"value": Blob.of(ints(5))}),
        ("constant_of_shape", [ints(0, 2)], {"value": Blob.of(np.array([True]))}),
        ("range", [number(2), number(11), number(3)], {}),
        ("range", [number(5), number(-4), number(-2)], {}),
        ("range", [number(5), number(2), number(1)], {}),
        ("range", [number(0.5, np.float32), number(2.0, np.float32), number(0.25, np.float32)], {}),
        ("range", [number(5, np.float64), number(-1, np.float64), number(-1.5, np.float64)], {}),
        ("eye_like", [data(3, 4)], {}),
        ("eye_like", [data(3, 4)], {"k": -1, "dtype": DType.I32}),
        ("one_hot", [ints(0, 2, -1, 7), number(4), ints(3, 9)], {}),
        ("one_hot", [ints(0, 2, -1, 7).reshape(2, 2), number(4), data(2)], {"axis": 1}),
        ("one_hot", [ints(0, 2).astype(np.float32), number(3.0, np.float32), data(2)], {"axis": 0}),
    ],
)
def test_like_the_reference(name: str, operands: list[Any], attrs: dict[str, Any]) -> None:
    check_row(name, operands, attrs, tolerance=1e-6)


@pytest.mark.parametrize(
    ("name", "operands", "attrs", "expected"),
    [
        ("range", ["i64[]", number(3), number(1)], {}, "i64[u1_]"),
        ("range", [number(0, np.float32), "f32[]", number(1, np.float32)], {}, "f32[u1_]"),
        ("constant_of_shape", ["i64[2]"], {}, "f32[u1_,u2_]"),
        ("one_hot", ["i64[n]", number(4), "f16[2]"], {}, "f16[n,4]"),
        ("one_hot", ["i64[n]", "i64[]", "f16[2]"], {"axis": 0}, "f16[u1_,n]"),
        ("eye_like", ["f32[n,m]"], {"dtype": DType.BOOL}, "bool[n,m]"),
    ],
)
def test_symbolic_types(
    name: str, operands: list[Any], attrs: dict[str, Any], expected: str
) -> None:
    assert result_types(name, operands, attrs) == [expected]


@pytest.mark.parametrize(
    ("name", "operands", "attrs", "code", "text"),
    [
        ("range", [number(0), number(3), number(0)], {}, "E108", "delta is 0"),
        ("range", [ints(0, 1), number(3), number(0)], {}, "E103", "one number"),
        ("constant_of_shape", [ints(2)], {"value": Blob.of(ints(5, 6))}, "E108", "2 elements"),
        ("constant_of_shape", [ints(-1)], {}, "E103", "-1"),
        ("eye_like", ["f32[3]"], {}, "E103", "2 dimensions"),
        ("one_hot", ["i64[3]", number(3), "f32[3]"], {}, "E103", "2 elements"),
        ("one_hot", ["i64[3]", number(3), "f32[2]"], {"axis": 2}, "E107", "axis 2"),
    ],
)
def test_errors(
    name: str, operands: list[Any], attrs: dict[str, Any], code: str, text: str
) -> None:
    check_refusal(name, operands, attrs, code, text)


def test_positions_have_a_known_extent() -> None:
    graph = Graph("positions")
    tokens = graph.add_input(Value(tensor("i64[batch,seq]"), "tokens"))
    build = Builder(graph)
    length = build.gather(build.shape(tokens), build.const(number(1)))
    assert (
        str(build.range(build.const(number(0)), length, build.const(number(1))).type) == "i64[seq]"
    )
    assert (
        str(build.range(build.const(number(1)), length, build.const(number(2))).type)
        == "i64[floordiv(seq,2)]"
    )
    assert str(build.constant_of_shape(build.shape(tokens)).type) == "f32[batch,seq]"
