"""Bits read as another type."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from leptonc.ir.build import Builder
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.graph import Graph, Value
from leptonc.ir.interpret import interpret
from leptonc.ir.types import DType, TensorType


def cast(array: Any, target: DType) -> Any:
    array = np.asarray(array)
    graph = Graph("g", [Value(TensorType(DType.of(array.dtype), array.shape), "x")], ["y"])
    build = Builder(graph)
    build.return_(build.op("bit_cast", list(graph.inputs), {"to": target}).result)
    return interpret(graph, {"x": array})["y"]


def test_floats_and_integers() -> None:
    assert cast(np.float32(1), DType.I32) == 0x3F800000
    assert cast(np.array([0x3F80, 0xBF80], np.uint16), DType.BF16).tolist() == [1, -1]
    assert cast(np.array([-1], np.int8), DType.U8).tolist() == [255]


def test_types_narrower_than_a_byte() -> None:
    narrow = np.array([-1, 7, -8], ml_dtypes.int4)
    assert cast(narrow, DType.U4).astype(int).tolist() == [15, 7, 8]
    back = cast(np.array([15, 7, 8], ml_dtypes.uint4), DType.I4)
    assert back.astype(int).tolist() == [-1, 7, -8]
    assert cast(back, DType.F4E2M1).astype(np.float32).tolist() == [-6, 6, 0]
    assert cast(np.array([3, 1], ml_dtypes.uint2), DType.I2).astype(int).tolist() == [-1, 1]


@pytest.mark.parametrize("target", [DType.I64, DType.I16, DType.STR])
def test_types_of_another_width(target: DType) -> None:
    with pytest.raises(LeptonError, match="should be types of as many bits"):
        cast(np.float32(1), target)
