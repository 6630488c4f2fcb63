"""Rules of `simplify` about limits that follow each other: max, min, clip and relu."""

from __future__ import annotations

import math

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.build import Builder
from leptonc.ir.graph import Op, Value
from leptonc.ir.types import DType
from leptonc.passes.cleanup.arithmetic_rules import NEVER_MINUS_ZERO
from leptonc.passes.constants import array_of, uniform
from leptonc.passes.pattern import Const, Match, Var, pat
from leptonc.passes.rewrite import rule

x = Var("x")
c, d = Const("c"), Const("d")

inner = pat.any_of("max", "min")(x, c)


def _require_one_zero(m: Match, *limits: Array) -> None:
    """0.0 and -0.0 among the limits: which of them is the result depends on the order."""
    zeros = [limit[limit == 0] for limit in limits if limit.dtype.kind not in "iub"]
    signs = {bool(sign) for zero in zeros for sign in np.signbit(zero.astype(np.float64))}
    m.require(len(signs) < 2, "0.0 and -0.0 are among the limits")


@rule(pat.any_of("max", "min")(inner, d))
def limit_of_limit(m: Match, build: Builder) -> Value:
    """The larger of the larger of something and a constant and another constant is one maximum."""
    m.fits(m[inner].name == m.root.name)
    first, second = array_of(m[c]), array_of(m[d])
    assert first is not None
    assert second is not None
    m.require(first.size == 1 or second.size == 1 or first.shape == second.shape, "they broadcast")
    m.require(m[x].type == m.root.result.type, "the constants broadcast the other operand")
    _require_one_zero(m, first, second)
    combine = np.maximum if m.root.name == "max" else np.minimum
    limit = np.asarray(combine(first, second)).astype(first.dtype)
    return build.op(m.root.definition, [m[x], build.const(limit)]).result


def clip_limits(op: Op) -> tuple[float, float] | None:
    """The lower and the upper limit of a `clip`, infinite where there is none; None if unknown."""
    found = [-math.inf, math.inf]
    for index, name in enumerate(("min", "max")):
        operand = op.operand(name)
        if operand is None:
            continue
        number = uniform(operand)
        if number is None or math.isnan(number):
            return None
        found[index] = number
    return found[0], found[1]


def clipped(build: Builder, value: Value, low: float, high: float) -> Value:
    """`value` within limits, of which infinite ones are left out."""
    dtype = value.type.dtype.numpy
    limits = {
        name: build.const(np.array(number, dtype))
        for name, number in (("min", low), ("max", high))
        if not math.isinf(number)
    }
    return build.clip(value, **limits)


inner_clip = pat.clip(x, min=Var("low").optional(), max=Var("high").optional())


@rule(pat.clip(inner_clip, min=Var("lower").optional(), max=Var("upper").optional()))
def clip_of_clip(m: Match, build: Builder) -> Value:
    """A clip of a clip has the limits that are left."""
    first, second = clip_limits(m[inner_clip]), clip_limits(m.root)
    m.require(first is not None and second is not None, "a limit is known at run time only")
    wide = m[x].type.dtype in (DType.I64, DType.U64)
    m.require(not wide, "64-bit limits are not told apart exactly")
    (a, b), (low, high) = first or (0, 0), second or (0, 0)
    m.require(a <= b and low <= high, "a lower limit is above the upper one")
    _require_one_zero(m, np.array([a, b, low, high]))
    m.require(not math.isinf(max(a, low)) or not math.isinf(min(b, high)), "there is no limit")
    return clipped(build, m[x], min(max(a, low), high), max(min(b, high), low))


@rule(pat.any_of("relu", "abs")(x))
def never_negative(m: Match, build: Builder) -> Value:
    """What is never negative is its own absolute value, and a relu does not change it."""
    producer = m[x].producer
    m.fits(producer is not None and producer.name in NEVER_MINUS_ZERO)
    # the absolute value of the lowest integer is itself
    m.fits(m[x].type.dtype.is_float)
    return m[x]


@rule(pat.clip(x, min=c))
def lower_limit_of_unsigned(m: Match, build: Builder) -> Value:
    """A lower limit of 0 does nothing to unsigned numbers."""
    dtype = m[x].type.dtype
    m.fits(dtype.is_integer and not dtype.is_signed and uniform(m[c]) == 0)
    return m[x]


RULES = (limit_of_limit, clip_of_clip, never_negative, lower_limit_of_unsigned)
