"""Rules of `simplify` about numbers that are quantised again."""

from __future__ import annotations

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.graph import Op, Value
from leptonc.ir.types import DType
from leptonc.passes.constants import array_of
from leptonc.passes.pattern import Match, pat
from leptonc.passes.rewrite import rule

BYTES = frozenset({DType.I8, DType.U8, DType.I16, DType.U16})
SMALLEST, LARGEST = 2.0**-60, 2.0**60
"""Scales between these neither overflow nor lose bits when 16 bits are multiplied with them."""


@rule(pat.quantize_linear(...))
def quantized_again(m: Match, build: Builder) -> Value:
    """What is made real and quantised by the same scale is as before: no rounding reaches half."""
    op = m.root
    before = op.operands[0].producer
    m.fits(before is not None and before.name == "dequantize_linear")
    assert before is not None
    source = before.operands[0]
    m.fits(source.type.dtype in BYTES and source.type == op.result.type)
    real = before.result.type.dtype is DType.F32 and op.operands[1].type.dtype is DType.F32
    m.require(real and op.attrs["precision"] is None, "it is not computed in f32")
    same = _is_same(before.operand("x_scale"), op.operand("y_scale"))
    m.require(same and _is_same_zero(before, op), "scale or zero point is another")
    axes = all(before.attrs[name] == op.attrs[name] for name in ("axis", "block_size"))
    m.require(axes or op.operands[1].type.rank == 0, "scales are along another axis")
    scale = array_of(op.operands[1])
    m.require(scale is not None, "the scale is known at run time only")
    assert scale is not None
    size = np.abs(scale.astype(np.float64))
    m.require(bool(((size >= SMALLEST) & (size <= LARGEST)).all()), "a scale is out of range")
    return source


def _is_same(first: Value | None, second: Value | None) -> bool:
    if first is second:
        return True
    a, b = (array_of(each) if each is not None else None for each in (first, second))
    return a is not None and b is not None and a.dtype == b.dtype and np.array_equal(a, b)


def _is_same_zero(before: Op, after: Op) -> bool:
    return _is_same(before.operand("x_zero_point"), after.operand("y_zero_point"))


RULES = (quantized_again,)
