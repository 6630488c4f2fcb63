"""Rules of `fold-scale` about what stands before a product with constant weights."""

from __future__ import annotations

import numpy as np

from leptonc.ir.blob import Array, Blob
from leptonc.ir.build import Builder
from leptonc.ir.graph import Value
from leptonc.passes.constants import array_of
from leptonc.passes.fusion.weights import (
    WEIGHTED,
    affine_before,
    bias,
    input_axis,
    input_factors,
    multiplied,
    narrowed,
    pads_nothing,
    per_channel,
    rebuilt,
    require_own,
    weight,
    x,
)
from leptonc.passes.pattern import Const, Match, OpPattern, pat
from leptonc.passes.rewrite import rule

c = Const("c")
scaled, divided = pat.mul(x, c), pat.div(x, c)
shifted, lowered, mirrored = pat.add(x, c), pat.sub(x, c), pat.sub(c, x)
negated = pat.neg(x)


def _before(*inner: OpPattern) -> OpPattern:
    return pat.any_of(*WEIGHTED)(*inner, weight, bias=bias.optional())


def _constant(m: Match, inner: OpPattern) -> Array:
    """The constant of the match, one number for each input of the product."""
    m.require(m[inner].result.type == m[x].type, "the constant broadcasts the input")
    return per_channel(m, m[c], m[x], input_axis(m.root))


@rule(_before(scaled))
def factor_before_product(m: Match, build: Builder) -> Value:
    """A factor per input channel becomes part of the weight behind it."""
    return affine_before(m, build, m.root, _constant(m, scaled), None)


@rule(_before(divided))
def divisor_before_product(m: Match, build: Builder) -> Value:
    """A divisor per input channel becomes part of the weight behind it."""
    divisor = _constant(m, divided)
    m.require(bool(divisor.all()), "the divisor is zero")
    return affine_before(m, build, m.root, 1 / divisor, None)


@rule(_before(negated))
def sign_before_product(m: Match, build: Builder) -> Value:
    """A product with the opposite of something is one with a weight of the other sign."""
    extent = m[x].type.shape[input_axis(m.root)]
    m.fits(m[x].type.dtype.is_float and isinstance(extent, int))
    assert isinstance(extent, int)
    return affine_before(m, build, m.root, -np.ones(extent), None)


def _require_no_padding(m: Match) -> None:
    m.require(pads_nothing(m.root), "nothing is added to what is padded")


@rule(_before(shifted))
def summand_before_product(m: Match, build: Builder) -> Value:
    """A summand per input channel becomes part of the bias behind it."""
    summand = _constant(m, shifted)
    _require_no_padding(m)
    return affine_before(m, build, m.root, None, summand)


@rule(_before(lowered))
def subtrahend_before_product(m: Match, build: Builder) -> Value:
    """A subtrahend per input channel becomes part of the bias behind it."""
    subtrahend = _constant(m, lowered)
    _require_no_padding(m)
    return affine_before(m, build, m.root, None, -subtrahend)


@rule(_before(mirrored))
def minuend_before_product(m: Match, build: Builder) -> Value:
    """What is subtracted from a number per input channel changes the weight's sign and the bias."""
    minuend = _constant(m, mirrored)
    _require_no_padding(m)
    return affine_before(m, build, m.root, 0 * minuend - 1, minuend)


summand = Const("summand")
both = pat.add(scaled, summand)


@rule(_before(both))
def factor_before_summand(m: Match, build: Builder) -> Value:
    """Of a factor and a summand before padding the factor becomes part of the weight behind it."""
    m.require(m[both].result.type == m[x].type, "a constant broadcasts the input")
    axis = input_axis(m.root)
    factor = per_channel(m, m[c], m[x], axis)
    added = per_channel(m, m[summand], m[x], axis)
    m.fits(not pads_nothing(m.root))
    m.require(bool(factor.all()), "the factor is zero")
    require_own(m, m[weight])
    with np.errstate(over="ignore"):
        row = narrowed(m, added / factor, m[x].type.dtype.numpy)
    data = multiplied(m, m.blob(weight).array, input_factors(m.root, factor))
    shape = (len(row), *(1,) * (m[x].type.rank - 1 - axis))
    row = row[:1].reshape(()) if len(row) and (row == row[0]).all() else row.reshape(shape)
    moved = build.add(m[x], build.const(Blob.of(row)))
    return rebuilt(m, build, m.root, moved, data, None)


def _rebuilt(m: Match, build: Builder, data: Array | None, row: Array | None) -> list[Value]:
    """The recurrent layer of the match on `x`, with other input weights and maybe biases."""
    root = m.root
    operands = dict(zip(root.operand_names, root.operands, strict=True))
    operands["x"] = m[x]
    if data is not None:
        operands["w"] = build.const(Blob.of(data))
    if row is not None:
        operands["bias"] = build.const(Blob.of(row))
    names = [each.name for each in root.definition.operands if each.name in operands]
    values = [operands[name] for name in names]
    return list(build.op(root.definition, values, root.attrs, names=names).results)


def _row(m: Match, inner: OpPattern) -> Array:
    m.require(m[inner].result.type == m[x].type, "the constant broadcasts the input")
    m.fits(m.root.operands[0] is m[inner].result)
    return per_channel(m, m[c], m[x], 2)


recurrent_scaled = pat.mul(x, c)


@rule(pat.any_of("lstm", "gru", "rnn")(..., x=recurrent_scaled, w=weight))
def factor_before_recurrent(m: Match, build: Builder) -> list[Value]:
    """A factor per input of a recurrent layer becomes part of its input weights."""
    factor = _row(m, recurrent_scaled)
    require_own(m, m[weight])
    return _rebuilt(m, build, multiplied(m, m.blob(weight).array, factor), None)


recurrent_shifted = pat.add(x, c)


@rule(pat.any_of("lstm", "gru", "rnn")(..., x=recurrent_shifted, w=weight))
def summand_before_recurrent(m: Match, build: Builder) -> list[Value]:
    """A summand per input of a recurrent layer becomes part of its biases."""
    summand = _row(m, recurrent_shifted)
    given, data = m.root.operand("bias"), m.blob(weight).array
    old = None if given is None else array_of(given)
    m.require((given is None) == (old is None), "the bias is not a constant")
    with np.errstate(invalid="ignore"):
        response = data.astype(np.float64) @ summand
    both = np.zeros((len(data), 2 * data.shape[1])) if old is None else old.astype(np.float64)
    both[:, : data.shape[1]] += response
    return _rebuilt(m, build, None, narrowed(m, both, data.dtype))
