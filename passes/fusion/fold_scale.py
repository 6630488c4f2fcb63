"""fold-scale: factors and summands per channel become part of the weights beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.blob import Blob
from leptonc.ir.build import Builder
from leptonc.ir.graph import Op, Value
from leptonc.ir.types import DType
from leptonc.passes.base import RewritePass
from leptonc.passes.constants import array_of, uniform
from leptonc.passes.contract import REASSOCIATES, Contract
from leptonc.passes.fusion.weights import (
    WEIGHTED,
    affine_after,
    bias,
    channel_axis,
    pads_nothing,
    per_channel,
    rebuilt,
    response_to,
    scaled_inputs,
    weight,
    weighted,
    x,
)  # fmt: skip
from leptonc.passes.pattern import Const, Match, OpPattern, Var, pat
from leptonc.passes.rewrite import Rule, rule

product = weighted()
c = Const("c")


def _require_shape(m: Match) -> None:
    m.require(m.root.result.type == m[product].result.type, "the constant broadcasts the product")
    m.fits(m[x].type.dtype.is_float)


@rule(pat.mul(product, c))
def factor_into_product(m: Match, build: Builder) -> Value:
    """A factor per channel becomes part of the weight and bias before it."""
    _require_shape(m)
    op = m[product]
    factor = per_channel(m, m[c], op.result, channel_axis(op))
    return affine_after(m, build, op, factor, None)


@rule(pat.div(product, c))
def divisor_into_product(m: Match, build: Builder) -> Value:
    """A divisor per channel becomes part of the weight and bias before it."""
    _require_shape(m)
    op = m[product]
    divisor = per_channel(m, m[c], op.result, channel_axis(op))
    m.require(bool(divisor.all()), "the divisor is zero")
    return affine_after(m, build, op, 1 / divisor, None)


@rule(pat.add(product, c))
def summand_into_bias(m: Match, build: Builder) -> Value:
    """A summand per channel becomes part of the bias."""
    _require_shape(m)
    op = m[product]
    summand = per_channel(m, m[c], op.result, channel_axis(op))
    return affine_after(m, build, op, None, summand)


@rule(pat.sub(product, c))
def subtrahend_into_bias(m: Match, build: Builder) -> Value:
    """A subtrahend per channel becomes part of the bias."""
    _require_shape(m)
    op = m[product]
    return affine_after(m, build, op, None, -per_channel(m, m[c], op.result, channel_axis(op)))


movement = pat.any_of("transpose", "reshape")(...)


@rule(pat.mul(movement, c))
def factor_before_movement(m: Match, build: Builder) -> Value:
    """One factor is applied before its product's result is moved, where it joins the weight."""
    m.fits(uniform(m[c]) is not None and m.root.result.type.dtype.is_float)
    op = m[movement]
    m.require(m.root.result.type == op.result.type, "the constant broadcasts the tensor")
    m.require(_comes_from_product(op), "no product with a constant weight is before it")
    number = np.full((), uniform(m[c]), op.result.type.dtype.numpy)
    scaled = build.mul(op.operands[0], build.const(Blob.of(number)))
    operands = [scaled, *op.operands[1:]]
    return build.op(op.definition, operands, op.attrs, names=op.operand_names).result


def _comes_from_product(op: Op) -> bool:
    """True where only moves are between a product with a constant weight and `op`."""
    while True:
        source = op.operands[0].producer
        if source is None or len(op.operands[0].uses) != 1:
            return False
        if source.name in WEIGHTED:
            return all(value.blob is not None for value in source.operands[1:])
        if source.name not in ("transpose", "reshape"):
            return False
        op = source


y = Var("y")
inner = Const("inner")
scaled = pat.mul(x, c)


def _factor_behind(pattern: OpPattern, side: int, name: str) -> Rule:
    @rule(pattern)
    def body(m: Match, build: Builder) -> Value:
        """One factor of an operand of a matrix product is applied to the product instead."""
        m.fits(uniform(m[c]) is not None and m[x].type.dtype in (DType.F32, DType.F64))
        m.require(m[scaled].result.type == m[x].type, "the constant broadcasts the operand")
        operands = [m[x], m[y]] if side == 0 else [m[y], m[x]]
        result = build.op(m.root.definition, operands, m.root.attrs).result
        number = np.full((), uniform(m[c]), m[x].type.dtype.numpy)
        return build.mul(result, build.const(Blob.of(number)))

    return Rule(name, body.pattern, body.body, body.doc)


PRODUCTS = pat.any_of("matmul", "fused_matmul")
factor_behind_left = _factor_behind(PRODUCTS(scaled, y), 0, "factor-behind-left-operand")
factor_behind_right = _factor_behind(PRODUCTS(y, scaled), 1, "factor-behind-right-operand")


@rule(pat.mul(pat.mul(x, inner), c))
def merge_factors(m: Match, build: Builder) -> Value:
    """Two constant factors are one."""
    first, second = array_of(m[inner]), array_of(m[c])
    m.fits(first is not None and second is not None and m[x].type.dtype.is_float)
    assert first is not None
    assert second is not None
    m.require(m.root.result.type == m[x].type, "a constant broadcasts the other operand")
    with np.errstate(all="ignore"):
        number = (first.astype(np.float64) * second.astype(np.float64)).astype(first.dtype)
    size = np.abs(number.astype(np.float64))
    m.require(bool(((size > 1e-30) & (size < 1e30)).all()), "the product is too large or too small")
    return build.mul(m[x], build.const(Blob.of(number)))


@rule(pat.any_of("conv", "conv_transpose", "linear")(scaled, weight, bias=bias.optional()))
def factor_before_product(m: Match, build: Builder) -> Value:
    """A factor per input channel becomes part of the weight behind it."""
    axis = m[x].type.rank - 1 if m.root.name == "linear" else 1
    m.require(m[scaled].result.type == m[x].type, "the constant broadcasts the input")
    factor = per_channel(m, m[c], m[x], axis)
    data = scaled_inputs(m.root, m.blob(weight).array, factor)
    return rebuilt(build, m.root, m[x], data, array_of(m[bias]) if m.get(bias) else None)


shifted = pat.add(x, c)


@rule(pat.any_of("conv", "linear")(shifted, weight, bias=bias.optional()))
def summand_before_product(m: Match, build: Builder) -> Value:
    """A summand per input channel becomes part of the bias behind it."""
    axis = m[x].type.rank - 1 if m.root.name == "linear" else 1
    m.require(m[shifted].result.type == m[x].type, "the constant broadcasts the input")
    summand = per_channel(m, m[c], m[x], axis)
    m.require(pads_nothing(m.root), "nothing is added to what is padded")
    data = m.blob(weight).array
    shift = response_to(m.root, data, summand)
    old = array_of(m[bias]) if m.get(bias) is not None else None
    if old is not None:
        shift = shift + old.astype(np.float64)
    return rebuilt(build, m.root, m[x], data, shift)


@dataclass(frozen=True)
class FoldScale(RewritePass):
    """Folds factors and summands per channel into the weights and biases of products beside them.

    Behind a product both are always legal; before one, a summand only where no padding is read.
    One factor of an operand of a product of two tensors is moved behind it.
    """

    name: ClassVar[str] = "fold-scale"
    numbers: ClassVar[Contract] = REASSOCIATES
    rules: ClassVar[tuple[Rule, ...]] = (
        factor_before_movement, factor_into_product, divisor_into_product, summand_into_bias,
        subtrahend_into_bias, factor_before_product, summand_before_product, factor_behind_left,
        factor_behind_right, merge_factors,
    )  # fmt: skip
