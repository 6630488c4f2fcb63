"""What rules need that make products of bytes of products of bytes made real."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.build import Builder
from leptonc.ir.graph import Value
from leptonc.ir.types import DType
from leptonc.passes.constants import uniform
from leptonc.passes.pattern import Const, Match, Var, pat
from leptonc.passes.precision.integral import BYTES
from leptonc.passes.precision.keep_integers import MOST
from leptonc.passes.precision.multiples import multiples

SMALLEST, LARGEST = 1e-30, 1e28
"""Between these scales, no sum of 32 bits times one overflows or loses digits."""
SHALLOW, NARROW = 16, 9
"""With less depth or fewer columns, making bytes and sums takes what their products save."""

x, scale, point = Var("x"), Const("scale"), Var("zero point")
weight, bias = Const("weight"), Var("bias")
real = pat.dequantize_linear(x, scale, point.optional()).shared()


@dataclass(frozen=True)
class Weight:
    """Integers as bytes less a zero point for each column."""

    bytes: Array
    points: Array | None


@dataclass(frozen=True)
class Scaled:
    """A weight, and what sums of products with it are scaled by."""

    weight: Weight
    factor: Array


def scaled(m: Match, matrix: Array, least: int = SHALLOW) -> Scaled:
    """The weight `matrix` of rows in bytes; the match goes on only where it has that form.

    The rows are at least so many.
    """
    first = _scale_of_rows(m)
    m.require(matrix.shape[0] >= least, "a sum of few products is faster in floats")
    m.require(matrix.shape[1] >= NARROW, "few columns are faster in floats")
    made = multiples(matrix)
    m.require(made is not None, "the weights of a column are no small multiples of one number")
    assert made is not None
    factor = (first * made.scales.astype(np.float64)).astype(np.float32)
    usual = bool(((factor >= SMALLEST) & (factor <= LARGEST)).all())
    m.require(usual, "the scales together are no usual numbers")
    return Scaled(in_bytes(m, made.integers), factor)


def in_bytes(m: Match, integers: Array, most: int = 0) -> Weight:
    """A weight of integers in bytes; no sum of products with it, and `most`, exceeds 32 bits."""
    largest = int(np.abs(integers).sum(0, dtype=np.int64).max(initial=0))
    m.require(largest * 255 + most < MOST, "sums might not fit in 32 bits")
    if integers.min(initial=0) >= -128 and integers.max(initial=0) <= 127:
        return Weight(np.ascontiguousarray(integers.astype(np.int8)), None)
    least = np.minimum(integers.min(0), 0)
    moved = integers - least
    m.require(int(moved.max(initial=0)) <= 255, "the weights of a column span more than a byte")
    return Weight(np.ascontiguousarray(moved.astype(np.uint8)), (-least).astype(np.uint8))


def _scale_of_rows(m: Match) -> float:
    """The one scale of the rows."""
    inner, rows = m[real], m[x].type
    m.fits(rows.dtype in BYTES and rows.rank > 1 and m.root.result.type.dtype is DType.F32)
    m.fits(inner.result.type.dtype is DType.F32 and m[x].blob is None)
    one, offset = uniform(m[scale]), m.get(point)
    m.require(m[scale].type.shape in ((), (1,)) and one is not None, "there are several scales")
    m.require(offset is None or offset.blob is not None, "the zero point is not known")
    return one or 0.0


def build_scaled(
    m: Match, build: Builder, rows: Value, offset: Value | None, weights: Scaled
) -> Value:
    """The product of rows of bytes that have a zero point, made real; then the bias."""
    sums = build_sums(build, rows, offset, weights.weight)
    real_sums = build.op("cast", [sums], {"to": DType.F32}).result
    result = build.mul(real_sums, build.const(weights.factor))
    return build.add(result, m[bias]) if m.get(bias) is not None else result


def build_sums(build: Builder, rows: Value, offset: Value | None, weights: Weight) -> Value:
    """The product of rows of bytes that have a zero point, as integers."""
    operands = {"a": rows, "b": build.const(weights.bytes)}
    if offset is not None:
        operands["a_zero_point"] = offset
    if weights.points is not None:
        operands["b_zero_point"] = build.const(weights.points)
    return build.op("matmul_integer", list(operands.values()), names=list(operands)).result
