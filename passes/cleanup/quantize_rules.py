"""Rules of `simplify` about what quantisation makes superfluous before it."""

from __future__ import annotations

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.graph import Op, Value
from leptonc.ir.ops.quantize import integer_limits
from leptonc.ir.types import DType
from leptonc.passes.cleanup.limit_rules import clip_limits
from leptonc.passes.constants import array_of, uniform
from leptonc.passes.pattern import Const, Match, Var, pat
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


x, scale, offset, limit = Var("x"), Const("scale"), Const("offset"), Const("limit")


def _limited_by_type(m: Match, build: Builder, limits: tuple[float, float]) -> Value:
    op, dtype = m.root, m.root.result.type.dtype
    real = all(value.type.dtype is DType.F32 for value in (m[x], m[scale]))
    m.fits(dtype.is_integer and real and m[x].type == op.operands[0].type)
    m.fits(op.attrs["precision"] in (None, DType.F32))
    divisor, point = array_of(m[scale]), array_of(m[offset]) if offset in m.values else None
    assert divisor is not None
    m.require(bool((np.isfinite(divisor) & (divisor > 0)).all()), "a scale is not positive")
    shift = np.zeros((), np.float32) if point is None else point.astype(np.float32).reshape(-1)
    lowest, highest = integer_limits(dtype)
    with np.errstate(over="ignore"):
        ends = [np.rint(np.float32(end) / divisor.reshape(-1)) + shift for end in limits]
    m.require(bool((ends[0] <= lowest).all()), "the lower limit is above that of the integers")
    m.require(bool((ends[1] >= highest).all()), "the upper limit is below that of the integers")
    operands = [m[x], *op.operands[1:]]
    return build.op(op.definition, operands, op.attrs, names=op.operand_names).result


relu, bound = pat.relu(x), pat.any_of("max", "min")(x, limit)
clip = pat.clip(x, min=Const("low").optional(), max=Const("high").optional())


@rule(pat.quantize_linear(relu, scale, offset.optional()))
def relu_by_type(m: Match, build: Builder) -> Value:
    """No negative number is left by a quantisation whose zero is the lowest integer."""
    return _limited_by_type(m, build, (0.0, np.inf))


@rule(pat.quantize_linear(clip, scale, offset.optional()))
def clip_by_type(m: Match, build: Builder) -> Value:
    """Limits that quantise to the lowest and to the highest integer are those of the type."""
    limits = clip_limits(m[clip])
    m.require(limits is not None, "the limits are known at run time only")
    assert limits is not None
    m.require(limits[0] <= limits[1], "the limits are the wrong way round")
    return _limited_by_type(m, build, limits)


@rule(pat.quantize_linear(bound, scale, offset.optional()))
def limit_by_type(m: Match, build: Builder) -> Value:
    """A maximum or minimum that quantises to the limit of the type is not needed before."""
    number = uniform(m[limit])
    m.fits(number is not None)
    assert number is not None
    m.require(not np.isnan(number), "the limit is no number")
    lower = m[bound].name == "max"
    return _limited_by_type(m, build, (number, np.inf) if lower else (-np.inf, number))


RULES = (quantized_again, relu_by_type, clip_by_type, limit_by_type)
