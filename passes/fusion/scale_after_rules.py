"""Rules of `fold-scale` about what stands behind a product with constant weights."""

from __future__ import annotations

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.build import Builder
from leptonc.ir.graph import Value
from leptonc.passes.fusion.weights import (
    affine_after,
    channel_axis,
    per_channel,
    weighted,
    x,
)
from leptonc.passes.pattern import Const, Match, pat
from leptonc.passes.rewrite import rule

product = weighted()
c = Const("c")


def _constant(m: Match) -> Array:
    """The constant of the match, one number for each output of the product."""
    m.require(m.root.result.type == m[product].result.type, "the constant broadcasts the product")
    m.fits(m[x].type.dtype.is_float)
    op = m[product]
    return per_channel(m, m[c], op.result, channel_axis(op))


@rule(pat.mul(product, c))
def factor_into_product(m: Match, build: Builder) -> Value:
    """A factor per channel becomes part of the weight and bias before it."""
    return affine_after(m, build, m[product], _constant(m), None)


@rule(pat.div(product, c))
def divisor_into_product(m: Match, build: Builder) -> Value:
    """A divisor per channel becomes part of the weight and bias before it."""
    divisor = _constant(m)
    m.require(bool(divisor.all()), "the divisor is zero")
    return affine_after(m, build, m[product], 1 / divisor, None)


@rule(pat.add(product, c))
def summand_into_bias(m: Match, build: Builder) -> Value:
    """A summand per channel becomes part of the bias."""
    return affine_after(m, build, m[product], None, _constant(m))


@rule(pat.sub(product, c))
def subtrahend_into_bias(m: Match, build: Builder) -> Value:
    """A subtrahend per channel becomes part of the bias."""
    return affine_after(m, build, m[product], None, -_constant(m))


@rule(pat.sub(c, product))
def minuend_into_bias(m: Match, build: Builder) -> Value:
    """A product that is subtracted from a number per channel gets a weight of the other sign."""
    minuend = _constant(m)
    return affine_after(m, build, m[product], 0 * minuend - 1, minuend)


@rule(pat.neg(product))
def sign_into_product(m: Match, build: Builder) -> Value:
    """The opposite of a product is a product with a weight of the other sign."""
    op = m[product]
    extent = op.result.type.shape[channel_axis(op)]
    m.fits(m[x].type.dtype.is_float and isinstance(extent, int))
    assert isinstance(extent, int)
    return affine_after(m, build, op, -np.ones(extent), None)
