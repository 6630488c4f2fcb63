"""Rules of `simplify` about numbers. Each keeps every bit: -0.0, infinities and NaNs included."""

from __future__ import annotations

import math

import numpy as np

from leptonc.ir.blob import Blob
from leptonc.ir.build import Builder
from leptonc.ir.graph import Value
from leptonc.ir.types import DType
from leptonc.passes.constants import is_exactly, uniform
from leptonc.passes.pattern import Const, Match, Var, pat
from leptonc.passes.rewrite import Rule, rule

x, y, condition = Var("x"), Var("y"), Var("condition")
c = Const("c")

NEVER_MINUS_ZERO = frozenset({"abs", "exp", "sigmoid", "softmax"})
"""Operations that give no -0.0, so that adding 0.0 to their result changes nothing."""


def _require_same_type(m: Match) -> None:
    m.require(m[x].type == m.root.result.type, "the constant broadcasts the other operand")


@rule(pat.identity(x))
def drop_identity(m: Match, build: Builder) -> Value:
    """An identity is its operand."""
    return m[x]


@rule(pat.dropout(x, Var("ratio").optional(), Var("training").optional()))
def drop_dropout(m: Match, build: Builder) -> list[Value]:
    """A dropout that is not training is its operand, and its mask is true everywhere."""
    training = m.root.operand("training_mode")
    if training is not None:
        m.require(uniform(training) == 0, "it may be training")
    m.require(not any(value.is_used for value in m.root.results[1:]), "its mask is read")
    return [m[x], *m.root.results[1:]]


@rule(pat.add(x, c))
def add_zero(m: Match, build: Builder) -> Value:
    """What -0.0, or an integer 0, is added to stays what it is."""
    m.fits(uniform(m[c]) == 0)
    _require_same_type(m)
    exact = not m[x].type.dtype.is_float or is_exactly(m[c], -0.0)
    producer = m[x].producer
    known = producer is not None and producer.name in NEVER_MINUS_ZERO
    m.require(exact or known, "adding 0.0 to -0.0 gives 0.0")
    return m[x]


@rule(pat.sub(x, c))
def subtract_zero(m: Match, build: Builder) -> Value:
    """What 0 is subtracted from stays what it is."""
    m.fits(uniform(m[c]) == 0)
    _require_same_type(m)
    exact = not m[x].type.dtype.is_float or is_exactly(m[c], 0.0)
    m.require(exact, "subtracting -0.0 from -0.0 gives 0.0")
    return m[x]


@rule(pat.mul(x, c))
def multiply_by_one(m: Match, build: Builder) -> Value:
    """What is multiplied by 1 stays what it is."""
    m.fits(uniform(m[c]) == 1)
    _require_same_type(m)
    return m[x]


@rule(pat.any_of("div", "pow")(x, c))
def divide_by_one(m: Match, build: Builder) -> Value:
    """What is divided by 1, or raised to the power of 1, stays what it is."""
    m.fits(uniform(m[c]) == 1)
    _require_same_type(m)
    return m[x]


@rule(pat.mul(x, c))
def multiply_by_minus_one(m: Match, build: Builder) -> Value:
    """A product with -1 is a negation."""
    m.fits(uniform(m[c]) == -1)
    _require_same_type(m)
    m.require(m[x].type.dtype.is_signed, "the element type has no sign")
    return build.neg(m[x])


@rule(pat.div(x, c))
def divide_by_power_of_two(m: Match, build: Builder) -> Value:
    """A quotient by a power of two is a product with its reciprocal, which is exact."""
    number = uniform(m[c]) or 0.0
    fits = m[x].type.dtype in (DType.F32, DType.F64) and math.isfinite(number)
    m.fits(fits and abs(math.frexp(number)[0]) == 0.5)
    m.require(2.0**-60 <= abs(number) <= 2.0**60, "the reciprocal might be denormal")
    data = np.full(m[c].type.extents, 1 / number, m[c].type.dtype.numpy)
    return build.mul(m[x], build.const(Blob.of(data)))


@rule(pat.neg(pat.neg(x).shared()))
def negate_twice(m: Match, build: Builder) -> Value:
    """The negation of a negation is what was negated."""
    return m[x]


@rule(pat.not_(pat.not_(x).shared()))
def not_twice(m: Match, build: Builder) -> Value:
    """The opposite of the opposite is what it was."""
    return m[x]


@rule(pat.add(x, pat.neg(y)))
def add_negation(m: Match, build: Builder) -> Value:
    """Adding a negation is subtracting."""
    return build.sub(m[x], m[y])


@rule(pat.sub(x, pat.neg(y)))
def subtract_negation(m: Match, build: Builder) -> Value:
    """Subtracting a negation is adding."""
    return build.add(m[x], m[y])


@rule(pat.abs(pat.neg(x)))
def absolute_of_negation(m: Match, build: Builder) -> Value:
    """The sign does not matter to the absolute value."""
    return build.abs(m[x])


IDEMPOTENT = ("abs", "relu", "floor", "ceil", "round", "sign")


def _idempotent(name: str) -> Rule:
    @rule(getattr(pat, name)(getattr(pat, name)(x).shared()))
    def repeat(m: Match, build: Builder) -> Value:
        """Applying some functions to their own result changes nothing."""
        value = m.root.operands[0]
        return value

    return Rule(f"{name}-of-{name}", repeat.pattern, repeat.body, repeat.doc)


@rule(pat.clip(x))
def clip_without_limits(m: Match, build: Builder) -> Value:
    """A clip without limits is its operand."""
    return m[x]


@rule(pat.any_of("sum", "max", "min", "mean")(x))
def only_operand(m: Match, build: Builder) -> Value:
    """The sum, maximum, minimum or mean of one tensor is that tensor."""
    return m[x]


@rule(pat.sum(x, y))
def sum_of_two(m: Match, build: Builder) -> Value:
    """The sum of two tensors is an addition."""
    m.require(m[x].type.dtype.is_float, "only floats have a sum")
    return build.add(m[x], m[y])


@rule(pat.where(condition, x, x))
def same_branches(m: Match, build: Builder) -> Value:
    """A choice between a tensor and itself is that tensor."""
    m.require(m[x].type == m.root.result.type, "the condition broadcasts it")
    return m[x]


@rule(pat.where(Const("condition"), x, y))
def known_choice(m: Match, build: Builder) -> Value:
    """A choice that is known everywhere is one of the tensors."""
    truth = uniform(m.root.operands[0])
    m.require(truth is not None, "the condition differs among the elements")
    chosen = m[x] if truth else m[y]
    m.require(chosen.type == m.root.result.type, "the others broadcast it")
    return chosen


@rule(
    pat.any_of(
        "add", "sub", "mul", "div", "max", "min", "pow", "where", "equal", "less", "greater"
    )(...).fed_by("expand")
)
def broadcast_by_itself(m: Match, build: Builder) -> Value:
    """What an elementwise operation broadcasts anyway need not be expanded before."""
    operands = [_unexpanded(value) for value in m.root.operands]
    m.fits(operands != list(m.root.operands))
    types = [value.type.shape for value in operands]
    rank, shape = m.root.result.type.rank, m.root.result.type.shape
    kept = all(
        any(len(other) >= rank - axis and other[axis - rank] == shape[axis] for other in types)
        for axis in range(rank)
    )
    m.require(kept, "only the expanded tensor has these extents")
    names = m.root.operand_names
    return build.op(m.root.definition, operands, m.root.attrs, names=names).result


def _unexpanded(value: Value) -> Value:
    if value.producer is not None and value.producer.name == "expand":
        return value.producer.operands[0]
    return value


RULES = (
    drop_identity, drop_dropout, add_zero, subtract_zero, multiply_by_one, divide_by_one,
    multiply_by_minus_one, divide_by_power_of_two, negate_twice, not_twice, add_negation,
    subtract_negation, absolute_of_negation, *map(_idempotent, IDEMPOTENT), clip_without_limits,
    only_operand, sum_of_two, same_branches, known_choice, broadcast_by_itself,
)  # fmt: skip
