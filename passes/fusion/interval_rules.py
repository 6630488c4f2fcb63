"""Rules of `reduce-strength` about limits that follow each other, however each is spelled."""

from __future__ import annotations

import math

from leptonc.ir.build import Builder
from leptonc.ir.graph import Op, Value
from leptonc.passes.cleanup.limit_rules import clip_limits, clipped
from leptonc.passes.constants import uniform
from leptonc.passes.pattern import Const, Match, Var, pat
from leptonc.passes.rewrite import rule

x, c = Var("x"), Const("c")
LIMITS = ("relu", "clip", "max", "min")
INFINITE = (-math.inf, math.inf)


def _interval(op: Op) -> tuple[Value, float, float] | None:
    """What is limited, and its lower and upper limit; None where they are not known numbers."""
    if op.name == "relu":
        return op.operands[0], 0.0, math.inf
    if op.name == "clip":
        found = clip_limits(op)
        return None if found is None else (op.operands[0], *found)
    if len(op.operands) != 2:
        return None
    for value, limit in (op.operands, op.operands[::-1]):
        number = uniform(limit)
        if number is not None and not math.isnan(number) and value.blob is None:
            return (value, number, math.inf) if op.name == "max" else (value, -math.inf, number)
    return None


@rule(pat.any_of(*LIMITS)(...))
def limits_to_clip(m: Match, build: Builder) -> Value:
    """Limits one after the other, be they relu, max, min or clip, are one clip or relu."""
    m.fits(m.root.result.type.dtype.is_float)
    outer = _interval(m.root)
    inside = outer[0].producer if outer is not None else None
    m.fits(inside is not None and inside.name in LIMITS and inside.region is m.root.region)
    assert inside is not None
    assert outer is not None
    inner = _interval(inside)
    m.fits(inner is not None)
    value, a, b = inner or outer
    low, high = outer[1:]
    needless = (min(max(a, low), high), max(min(b, high), low)) == (a, b)
    if needless and inside.result.type == m.root.result.type:
        return inside.result
    m.require(inside.result.use_count == 1, "something else reads what is limited first")
    m.require(value.type == m.root.result.type, "the constant broadcasts the other operand")
    m.require(a <= high and low <= b, "the lower limit is above the upper one")
    m.require(a <= b and low <= high, "the lower limit is above the upper one")
    m.also.append(inside)
    return _limited(build, value, max(a, low), min(b, high))


def _limited(build: Builder, value: Value, low: float, high: float) -> Value:
    if (low, high) == INFINITE:
        return value
    if low == 0 and high == math.inf:
        return build.relu(value)
    return clipped(build, value, low, high)


@rule(pat.max(x, c))
def maximum_to_relu(m: Match, build: Builder) -> Value:
    """The larger of zero and something is a relu."""
    m.fits(uniform(m[c]) == 0 and m[x].type.dtype.is_float)
    m.require(m.root.result.type == m[x].type, "the constant broadcasts the other operand")
    return build.relu(m[x])


@rule(pat.clip(x, min=c, max=Const("high").optional()))
def clip_to_relu(m: Match, build: Builder) -> Value:
    """A clip at zero without an upper limit is a relu."""
    m.fits(clip_limits(m.root) == (0, math.inf) and m[x].type.dtype.is_float)
    return build.relu(m[x])


RULES = (limits_to_clip, maximum_to_relu, clip_to_relu)
