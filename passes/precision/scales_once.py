"""Numbers that are scaled before they are quantised are scaled once, and divided by nothing."""

from __future__ import annotations

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.build import Builder
from leptonc.ir.graph import Op, Value
from leptonc.ir.types import DType
from leptonc.passes.constants import uniform
from leptonc.passes.pattern import Const, Match, Var, pat
from leptonc.passes.precision.integral import BYTES
from leptonc.passes.precision.products_of_bytes import LARGEST, SMALLEST
from leptonc.passes.rewrite import Rule, rule

sums, factor, row = Var("sums"), Const("factor"), Const("row")
y_scale, y_point = Const("result's scale"), Var("result's zero point")
multiplied = pat.mul(pat.cast(sums), factor)
scaled = pat.add(multiplied, row)


@rule(pat.quantize_linear(scaled, y_scale, y_point.optional()))
def scaled_once(m: Match, build: Builder) -> Value:
    """Sums that are scaled, and quantised, are scaled once: by what the result's scale leaves."""
    _require_sums(m, m[scaled])
    parts = _divided(m, m[factor], m[row])
    real_sums = build.op("cast", [m[sums]], {"to": DType.F32}).result
    real_sums = build.mul(real_sums, build.const(parts[0]))
    return _by_one(m, build, build.add(real_sums, build.const(parts[1])))


@rule(pat.quantize_linear(multiplied, y_scale, y_point.optional()))
def scaled_once_without_bias(m: Match, build: Builder) -> Value:
    """As `scaled-once`, where nothing is added to the sums."""
    _require_sums(m, m[multiplied])
    (part,) = _divided(m, m[factor])
    real_sums = build.op("cast", [m[sums]], {"to": DType.F32}).result
    return _by_one(m, build, build.mul(real_sums, build.const(part)))


left, left_scale, left_point = Var("left"), Const("left scale"), Const("left point")
right, right_scale, right_point = Var("right"), Const("right scale"), Const("right point")
left_real = pat.dequantize_linear(left, left_scale, left_point.optional()).shared()
right_real = pat.dequantize_linear(right, right_scale, right_point.optional()).shared()
total = pat.add(left_real, right_real)


@rule(pat.quantize_linear(total, y_scale, y_point.optional()))
def added_once(m: Match, build: Builder) -> Value:
    """Bytes that are made real, added and quantised are scaled by what the result's scale leaves.

    A division takes as long as ten multiplications, and stands in the register tiles of whatever
    convolution is before it.
    """
    m.fits(m[total].result.type.dtype is DType.F32)
    _require_scale(m)
    m.fits(all(m[value].type.dtype in BYTES for value in (left, right)))
    one = all(m[value].type.shape in ((), (1,)) for value in (left_scale, right_scale))
    m.require(one, "there is a scale for each channel")
    parts = _divided(m, m[left_scale], m[right_scale])
    reals = [
        build.op(
            m[real].definition, [m[real].operands[0], build.const(part), *m[real].operands[2:]],
            m[real].attrs, names=m[real].operand_names,
        ).result
        for real, part in zip((left_real, right_real), parts, strict=True)
    ]  # fmt: skip
    return _by_one(m, build, build.add(*reals))


def _require_sums(m: Match, inner: Op) -> None:
    """Go on only for sums of 32 bits that keep their shape."""
    m.fits(m[sums].type.dtype is DType.I32)
    m.fits(inner.result.type.dtype is DType.F32 and inner.result.type.shape == m[sums].type.shape)
    _require_scale(m)


def _require_scale(m: Match) -> None:
    """Go on only where one usual number, which is not one, divides what is quantised."""
    one = uniform(m[y_scale])
    m.fits(one != 1 and m.root.attrs["precision"] in (None, DType.F32))
    m.fits(m[y_scale].type.dtype is DType.F32)
    usual = one is not None and SMALLEST <= one <= LARGEST
    m.require(usual and m[y_scale].type.shape in ((), (1,)), "the scale is no usual number")


def _divided(m: Match, *constants: Value) -> list[Array]:
    """The constants, divided by the result's scale."""
    one = uniform(m[y_scale]) or 1.0
    blobs = [value.blob for value in constants]
    parts = [np.asarray(blob.array / one, np.float32) for blob in blobs if blob is not None]
    small = all(bool(((np.abs(part) <= LARGEST) | (part == 0)).all()) for part in parts)
    m.require(len(parts) == len(constants) and small, "a number is too large")
    return parts


def _by_one(m: Match, build: Builder, value: Value) -> Value:
    """The value quantised as it is: its scale is one."""
    op = m.root
    scale = build.const(np.ones(m[y_scale].type.extents, np.float32))
    operands = [value, scale, *op.operands[2:]]
    return build.op(op.definition, operands, op.attrs, names=op.operand_names).result


SCALED_ONCE: tuple[Rule, ...] = (scaled_once, scaled_once_without_bias, added_once)
