"""recognize-integer-products: layers of bytes made real are products of the bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.build import Builder
from leptonc.ir.graph import Value
from leptonc.ir.types import DType
from leptonc.passes.base import RewritePass
from leptonc.passes.constants import uniform
from leptonc.passes.contract import REASSOCIATES, Contract
from leptonc.passes.pattern import Const, Match, Var, pat
from leptonc.passes.precision.integral import BYTES
from leptonc.passes.precision.keep_integers import MOST
from leptonc.passes.precision.multiples import multiples
from leptonc.passes.rewrite import Rule, rule

SMALLEST, LARGEST = 1e-30, 1e28
"""Between these scales, no sum of 32 bits times one overflows or loses digits."""
SHALLOW, NARROW = 16, 9
"""With less depth or fewer columns, making bytes and sums takes what their products save."""

x, scale, point = Var("x"), Const("scale"), Var("zero point")
weight, bias = Const("weight"), Var("bias")
real = pat.dequantize_linear(x, scale, point.optional()).shared()


@rule(pat.linear(real, weight, bias=bias.optional()))
def products_of_bytes(m: Match, build: Builder) -> Value:
    """A layer of bytes made real, whose weights were bytes: sums of products of bytes, then scaled.

    The weights are known by their numbers: those of a column are small multiples of one number,
    whatever of scales and normalisations has been folded into it.
    """
    first = _scale_of_rows(m)
    made = multiples(_matrix(m))
    m.require(made is not None, "the weights of a column are no small multiples of one number")
    assert made is not None
    largest = int(np.abs(made.integers).sum(0, dtype=np.int64).max(initial=0))
    m.require(largest * 255 < MOST, "sums might not fit in 32 bits")
    factor = (first * made.scales.astype(np.float64)).astype(np.float32)
    usual = bool(((factor >= SMALLEST) & (factor <= LARGEST)).all())
    m.require(usual, "the scales together are no usual numbers")
    sums = _sums(m, build, made.integers)
    scaled = build.mul(build.op("cast", [sums], {"to": DType.F32}).result, build.const(factor))
    return build.add(scaled, m[bias]) if m.get(bias) is not None else scaled


def _scale_of_rows(m: Match) -> float:
    """The one scale of the layer's operand."""
    inner, rows, matrix = m[real], m[x].type, m[weight].type
    m.fits(rows.dtype in BYTES and rows.rank > 1 and m.root.result.type.dtype is DType.F32)
    m.fits(inner.result.type.dtype is DType.F32 and m[x].blob is None)
    one, offset = uniform(m[scale]), m.get(point)
    m.require(m[scale].type.shape in ((), (1,)) and one is not None, "there are several scales")
    m.require(offset is None or offset.blob is not None, "the zero point is not known")
    depth, width = matrix.extents[:: -1 if m.root.attrs["transposed"] else 1]
    m.require(depth >= SHALLOW, "a sum of few products is faster in floats")
    m.require(width >= NARROW, "few columns are faster in floats")
    return one or 0.0


def _matrix(m: Match) -> Array:
    blob = m[weight].blob
    assert blob is not None
    return blob.array.T if m.root.attrs["transposed"] else blob.array


def _sums(m: Match, build: Builder, integers: Array) -> Value:
    """The product of the bytes; a zero point of the weights makes them such where they are not."""
    signed = integers.min(initial=0) >= -128 and integers.max(initial=0) <= 127
    least = np.zeros(integers.shape[1], np.int16) if signed else np.minimum(integers.min(0), 0)
    moved, dtype = integers - least, np.int8 if signed else np.uint8
    m.require(int(moved.max(initial=0)) <= 255, "the weights of a column span more than a byte")
    operands = {"a": m[x], "b": build.const(np.ascontiguousarray(moved.astype(dtype)))}
    if (offset := m.get(point)) is not None:
        operands["a_zero_point"] = offset
    if not signed:
        operands["b_zero_point"] = build.const((-least).astype(np.uint8))
    return build.op("matmul_integer", list(operands.values()), names=list(operands)).result


@dataclass(frozen=True)
class RecognizeIntegerProducts(RewritePass):
    """Computes layers between quantised numbers in integers, with one scale behind the sums.

    That is nearer to what was meant than floats: sums are exact, and rounded once. It is for
    targets that multiply integers faster; `keep-integers` chooses how.
    """

    name: ClassVar[str] = "recognize-integer-products"
    numbers: ClassVar[Contract] = REASSOCIATES
    rules: ClassVar[tuple[Rule, ...]] = (products_of_bytes,)
