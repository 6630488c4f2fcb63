"""Rules of `simplify` about comparisons and choices."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.graph import Value
from leptonc.ir.ops.broadcasting import broadcast_shapes
from leptonc.ir.types import DType
from leptonc.passes.constants import filled, is_exactly, require_room, uniform, whole
from leptonc.passes.pattern import Const, Match, Var, pat
from leptonc.passes.rewrite import rule

x, y, z, condition = Var("x"), Var("y"), Var("z"), Var("condition")
c, d = Const("c"), Const("d")

OPPOSITE = {
    "less": "greater_or_equal", "less_or_equal": "greater",
    "greater": "less_or_equal", "greater_or_equal": "less",
}  # fmt: skip

MIRRORED = {
    "less": "greater", "less_or_equal": "greater_or_equal",
    "greater": "less", "greater_or_equal": "less_or_equal",
}  # fmt: skip

HOLDS: Mapping[str, Callable[[float, float], bool]] = MappingProxyType({
    "equal": operator.eq, "less": operator.lt, "less_or_equal": operator.le,
    "greater": operator.gt, "greater_or_equal": operator.ge,
})  # fmt: skip

compared = pat.any_of(*OPPOSITE)(x, y)


@rule(pat.not_(compared))
def not_compared(m: Match, build: Builder) -> Value:
    """What is not less is greater or equal."""
    m.require(not m[x].type.dtype.is_float, "a NaN is neither less nor greater nor equal")
    return build.op(OPPOSITE[m[compared].name], [m[x], m[y]]).result


@rule(pat.not_(pat.equal(x, x)))
def unequal_to_itself(m: Match, build: Builder) -> Value:
    """Only a NaN is not equal to itself."""
    m.fits(m[x].type.dtype.is_float)
    return build.is_nan(m[x])


@rule(pat.any_of(*HOLDS)(x, x))
def compared_with_itself(m: Match, build: Builder) -> Value:
    """Nothing is less than itself, and everything but a NaN is equal to itself."""
    strict = m.root.name in ("less", "greater")
    m.require(strict or not m[x].type.dtype.is_float, "a NaN is not equal to itself")
    require_room(m)
    return filled(build, m.root.result.type, not strict)


@rule(pat.any_of(*MIRRORED)(c, x))
def constant_compared(m: Match, build: Builder) -> Value:
    """A constant stands behind what it is compared with."""
    m.fits(m[x].blob is None)
    return build.op(MIRRORED[m.root.name], [m[x], m[c]]).result


@rule(pat.any_of(*HOLDS)(x, c))
def compared_with_limit(m: Match, build: Builder) -> Value:
    """No integer is below the lowest of its type or above the highest."""
    dtype, number = m[x].type.dtype, whole(m[c])
    m.fits(dtype.is_integer and number is not None)
    info, holds = np.iinfo(dtype.numpy), HOLDS[m.root.name]
    truths = {holds(low, number or 0) for low in (int(info.min), int(info.max))}
    m.fits(len(truths) == 1 and m.root.name != "equal")
    require_room(m)
    return filled(build, m.root.result.type, truths.pop())


@rule(pat.equal(x, c))
def equal_to_truth(m: Match, build: Builder) -> Value:
    """What equals true is the truth itself, what equals false its opposite."""
    m.fits(m[x].type.dtype is DType.BOOL and whole(m[c]) is not None)
    m.require(m[x].type == m.root.result.type, "the constant broadcasts the other operand")
    return m[x] if whole(m[c]) else build.not_(m[x])


@rule(pat.any_of(*HOLDS)(pat.cast(condition).shared(), c))
def number_of_truth_compared(m: Match, build: Builder) -> Value:
    """A truth cast to a number and compared with a constant is the truth, or its opposite."""
    number, holds = uniform(m[c]), HOLDS[m.root.name]
    m.fits(m[condition].type.dtype is DType.BOOL and number is not None)
    m.require(m[condition].type == m.root.result.type, "the constant broadcasts the other operand")
    if_false, if_true = holds(0, number or 0.0), holds(1, number or 0.0)
    m.require(if_false != if_true, "it is the same for true and false")
    return m[condition] if if_true else build.not_(m[condition])


@rule(pat.where(pat.not_(condition).shared(), x, y))
def choice_by_opposite(m: Match, build: Builder) -> Value:
    """A choice by the opposite of a truth is the choice by it, the other way round."""
    return build.where(m[condition], m[y], m[x])


@rule(pat.where(condition, c, d))
def choice_of_truths(m: Match, build: Builder) -> Value:
    """A choice of true or false is the condition or its opposite; of 1 or 0 it is a cast."""
    type = m.root.result.type
    m.fits(type.dtype.value not in ("str", "c64", "c128"))
    first, second = uniform(m[c]), uniform(m[d])
    one_or_zero = first == 1 and is_exactly(m[d], 0.0)
    reversed_truth = type.dtype is DType.BOOL and first == 0 and second == 1
    m.fits(one_or_zero or reversed_truth)
    same = m[condition].type.shape == type.shape
    m.require(same, "what is chosen broadcasts the condition")
    if type.dtype is not DType.BOOL:
        return build.cast(m[condition], to=type.dtype)
    return m[condition] if one_or_zero else build.not_(m[condition])


@rule(pat.where(condition, x, c))
def choice_of_truth_or_false(m: Match, build: Builder) -> Value:
    """A choice of a truth or false is true where both the truth and the condition are."""
    m.fits(m[x].type.dtype is DType.BOOL and whole(m[c]) == 0)
    shape = broadcast_shapes(m[condition].type.shape, m[x].type.shape)
    m.require(shape == m.root.result.type.shape, "the constant broadcasts them")
    return build.and_(m[condition], m[x])


@rule(pat.where(condition, c, x))
def choice_of_true_or_truth(m: Match, build: Builder) -> Value:
    """A choice of true or a truth is true where the truth or the condition is."""
    m.fits(m[x].type.dtype is DType.BOOL and whole(m[c]) == 1)
    shape = broadcast_shapes(m[condition].type.shape, m[x].type.shape)
    m.require(shape == m.root.result.type.shape, "the constant broadcasts them")
    return build.or_(m[condition], m[x])


def _require_shape(m: Match, *values: Value) -> None:
    shape = broadcast_shapes(*(value.type.shape for value in values))
    m.require(shape == m.root.result.type.shape, "what is never chosen broadcasts the others")


@rule(pat.where(condition, pat.where(condition, x, z).shared(), y))
def first_choice_again(m: Match, build: Builder) -> Value:
    """Where a condition holds, a choice by it inside has been made."""
    _require_shape(m, m[condition], m[x], m[y])
    return build.where(m[condition], m[x], m[y])


@rule(pat.where(condition, x, pat.where(condition, z, y).shared()))
def second_choice_again(m: Match, build: Builder) -> Value:
    """Where a condition does not hold, a choice by it inside has been made."""
    _require_shape(m, m[condition], m[x], m[y])
    return build.where(m[condition], m[x], m[y])


RULES = (
    unequal_to_itself, not_compared, compared_with_itself, constant_compared, compared_with_limit,
    equal_to_truth, number_of_truth_compared, choice_by_opposite, choice_of_truths,
    choice_of_truth_or_false, choice_of_true_or_truth, first_choice_again, second_choice_again,
)  # fmt: skip
