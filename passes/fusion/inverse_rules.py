"""Rules of `reduce-strength` about operations that undo each other, and signs of zeros."""

from __future__ import annotations

from leptonc.ir.build import Builder
from leptonc.ir.graph import Value
from leptonc.passes.constants import uniform
from leptonc.passes.fusion.zero_signs import require_sign_unseen
from leptonc.passes.pattern import Const, Match, Var, pat
from leptonc.passes.rewrite import rule

x, y = Var("x"), Var("y")
c = Const("c")

NEVER_NEGATIVE = frozenset({
    "abs", "exp", "sigmoid", "softmax", "relu", "hard_sigmoid", "sqrt", "softplus",
    "reduce_sum_square", "reduce_l1", "reduce_l2",
})  # fmt: skip
"""Operations on floats that give nothing below zero."""


def _is_never_negative(value: Value) -> bool:
    op = value.producer
    if op is None:
        return False
    if op.name in ("reduce_sum", "reduce_mean", "reduce_min"):
        op = op.operands[0].producer
    if op is None:
        return False
    is_square = op.name == "mul" and op.operands[0] is op.operands[1]
    return is_square or op.name in NEVER_NEGATIVE


def _float(m: Match) -> None:
    m.fits(m.root.result.type.dtype.is_float)


@rule(pat.reciprocal(pat.reciprocal(x).shared()))
def reciprocal_twice(m: Match, build: Builder) -> Value:
    """The reciprocal of a reciprocal is what it is of."""
    return m[x]


@rule(pat.mul(x, pat.reciprocal(y)))
def product_with_reciprocal(m: Match, build: Builder) -> Value:
    """A product with as many reciprocals is a quotient."""
    same = m[y].type == m.root.result.type
    m.require(same, "one reciprocal serves many elements")
    return build.div(m[x], m[y])


@rule(pat.div(x, pat.reciprocal(y)))
def quotient_by_reciprocal(m: Match, build: Builder) -> Value:
    """A quotient by a reciprocal is a product."""
    return build.mul(m[x], m[y])


root = pat.sqrt(x).shared()


@rule(pat.mul(root, root))
def square_of_root(m: Match, build: Builder) -> Value:
    """The square of a root of what is never negative is that."""
    m.require(_is_never_negative(m[x]), "negative numbers have no root")
    return m[x]


@rule(pat.exp(pat.log(x).shared()))
def exponential_of_logarithm(m: Match, build: Builder) -> Value:
    """The exponential of a logarithm of what is never negative is that."""
    m.require(_is_never_negative(m[x]), "negative numbers have no logarithm")
    return m[x]


@rule(pat.any_of("relu", "abs")(x))
def sign_of_never_negative(m: Match, build: Builder) -> Value:
    """What is never negative is its own absolute value, but for the sign of a zero."""
    _float(m)
    m.fits(_is_never_negative(m[x]))
    require_sign_unseen(m)
    return m[x]


@rule(pat.sub(c, x))
def zero_minus(m: Match, build: Builder) -> Value:
    """What is subtracted from 0.0 is negated, but for the sign of a zero."""
    m.fits(uniform(m[c]) == 0)
    _float(m)
    m.require(m.root.result.type == m[x].type, "the constant broadcasts the other operand")
    require_sign_unseen(m)
    return build.neg(m[x])


@rule(pat.neg(pat.sub(x, y)))
def negated_difference(m: Match, build: Builder) -> Value:
    """The negation of a difference is the difference the other way round."""
    _float(m)
    require_sign_unseen(m)
    return build.sub(m[y], m[x])


@rule(pat.max(x, pat.neg(x)))
def larger_of_both_signs(m: Match, build: Builder) -> Value:
    """The larger of a number and its negation is its absolute value."""
    _float(m)
    return build.abs(m[x])


@rule(pat.where(pat.any_of("less", "less_or_equal")(x, c), Const("zero"), x))
def choice_to_relu(m: Match, build: Builder) -> Value:
    """A choice of zero for what is less than zero is a relu; NaNs stay as they do there."""
    zero = m.root.operands[1]
    m.fits(uniform(m[c]) == 0 and uniform(zero) == 0)
    _float(m)
    m.require(m.root.result.type == m[x].type, "the constant broadcasts the other operand")
    require_sign_unseen(m)
    return build.relu(m[x])


RULES = (
    reciprocal_twice, product_with_reciprocal, quotient_by_reciprocal, square_of_root,
    exponential_of_logarithm, sign_of_never_negative, zero_minus, negated_difference,
    larger_of_both_signs, choice_to_relu,
)  # fmt: skip
