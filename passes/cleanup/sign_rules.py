"""Rules of `simplify` about signs, which move through products without changing a bit."""

from __future__ import annotations

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.graph import Value
from leptonc.passes.constants import array_of, is_exactly, uniform
from leptonc.passes.pattern import Const, Match, Var, pat
from leptonc.passes.rewrite import rule

x, y = Var("x"), Var("y")
c = Const("c")


def negated(build: Builder, constant: Value) -> Value:
    """The constant with other signs."""
    data = array_of(constant)
    assert data is not None
    return build.const(np.asarray(np.negative(data), data.dtype))


@rule(pat.any_of("mul", "div")(pat.neg(x), c))
def negation_times_constant(m: Match, build: Builder) -> Value:
    """The sign of a factor is that of the constant beside it."""
    m.require(m[x].type.dtype.is_float, "the lowest integer has no negation")
    return build.op(m.root.definition, [m[x], negated(build, m[c])]).result


@rule(pat.div(c, pat.neg(x)))
def constant_over_negation(m: Match, build: Builder) -> Value:
    """The sign of a divisor is that of the constant that is divided."""
    m.require(m[x].type.dtype.is_float, "the lowest integer has no negation")
    return build.div(negated(build, m[c]), m[x])


product = pat.any_of("mul", "div")(x, c)


@rule(pat.neg(product))
def negation_of_product(m: Match, build: Builder) -> Value:
    """The negation of a product with a constant is the product with its negation."""
    m.require(m[x].type.dtype.is_float, "the lowest integer has no negation")
    return build.op(m[product].definition, [m[x], negated(build, m[c])]).result


@rule(pat.neg(pat.div(c, x)))
def negation_of_quotient(m: Match, build: Builder) -> Value:
    """The negation of a divided constant is the division of its negation."""
    m.require(m[x].type.dtype.is_float, "the lowest integer has no negation")
    return build.div(negated(build, m[c]), m[x])


@rule(pat.any_of("mul", "div")(pat.neg(x), pat.neg(y)))
def negations_cancel(m: Match, build: Builder) -> Value:
    """Two signs in a product cancel."""
    m.require(m[x].type.dtype.is_float, "the lowest integer has no negation")
    return build.op(m.root.definition, [m[x], m[y]]).result


@rule(pat.mul(pat.any_of("neg", "abs")(x), pat.any_of("neg", "abs")(x)))
def square_without_sign(m: Match, build: Builder) -> Value:
    """The sign does not matter to a square."""
    left, right = (value.producer for value in m.root.operands)
    m.fits(left is not None and right is not None and left.name == right.name)
    return build.mul(m[x], m[x])


@rule(pat.neg(pat.sub(x, y)))
def negation_of_difference(m: Match, build: Builder) -> Value:
    """The negation of a difference is the difference the other way round."""
    m.require(not m[x].type.dtype.is_float, "the negation of 0.0 is -0.0")
    return build.sub(m[y], m[x])


@rule(pat.sub(c, x))
def subtract_from_zero(m: Match, build: Builder) -> Value:
    """What is subtracted from -0.0, or from an integer 0, is negated."""
    dtype = m[x].type.dtype
    m.fits(uniform(m[c]) == 0 and dtype.is_signed)
    m.require(m[x].type == m.root.result.type, "the constant broadcasts the other operand")
    exact = not dtype.is_float or is_exactly(m[c], -0.0)
    m.require(exact, "subtracting 0.0 from 0.0 gives 0.0, the negation of 0.0 is -0.0")
    return build.neg(m[x])


RULES = (
    negation_times_constant, constant_over_negation, negation_of_product, negation_of_quotient,
    negations_cancel, square_without_sign, negation_of_difference, subtract_from_zero,
)  # fmt: skip
