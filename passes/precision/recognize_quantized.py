"""recognize-quantized: numbers that are quantized again as they were stay integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.blob import Blob
from leptonc.ir.build import Builder
from leptonc.ir.graph import Op, Value
from leptonc.ir.types import DType
from leptonc.passes.base import RewritePass
from leptonc.passes.cleanup import requantize_rules
from leptonc.passes.constants import array_of, uniform
from leptonc.passes.contract import EXACT, Contract
from leptonc.passes.pattern import Const, Match, Var, pat
from leptonc.passes.rewrite import Rule, rule

INTEGERS = frozenset({DType.I8, DType.U8, DType.I16, DType.U16})
SMALLEST, LARGEST = 1e-30, 1e30
"""Between these scales, no multiple of one by a 16-bit number loses digits."""

x, scale, offset = Var("x"), Const("scale"), Const("offset")
inner_scale, inner_offset = Const("inner scale"), Const("inner offset")
real = pat.dequantize_linear(x, inner_scale, inner_offset.optional()).shared()


def _require_same_form(m: Match, outer: Op, inner: Op) -> None:
    """Go on only where `outer` quantizes just as what `inner` makes real was quantized."""
    dtype = m[x].type.dtype
    m.fits(dtype in INTEGERS and outer.results[0].type.dtype is dtype)
    m.fits(m[scale].type.dtype is DType.F32 and inner.results[0].type.dtype is DType.F32)
    m.fits(outer.attrs["precision"] in (None, DType.F32))
    same = _same(m[scale], m[inner_scale]) and _same(m.get(offset), m.get(inner_offset))
    m.require(same, "the scales or zero points differ")
    data = array_of(m[scale])
    assert data is not None
    usual = bool(((np.abs(data) >= SMALLEST) & (np.abs(data) <= LARGEST)).all())
    m.require(usual, "a scale is no usual number")


def _same(a: Value | None, b: Value | None) -> bool:
    if a is None or b is None:
        given = a if a is not None else b
        return given is None or uniform(given) == 0
    left, right = array_of(a), array_of(b)
    if left is None or right is None:
        return False
    same = left.dtype == right.dtype and left.shape == right.shape
    return same and left.tobytes() == right.tobytes()


@rule(pat.quantize_linear(real, scale, offset.optional()))
def quantized_again(m: Match, build: Builder) -> Value:
    """What is made real and quantized again in the same way is what it was."""
    inner = m[real]
    _require_same_form(m, m.root, inner)
    one = m[scale].type.shape in ((), (1,))
    rank = m[x].type.rank
    axes = {op.int("axis") % max(rank, 1) for op in (m.root, inner)}
    blocks = {op.int("block_size") for op in (m.root, inner)}
    m.require(one or (len(axes) == 1 and len(blocks) == 1), "the scales go along other axes")
    return m[x]


pooled = pat.max_pool(...)
moved_again = pat.quantize_linear(
    requantize_rules.moved, requantize_rules.scale, requantize_rules.offset.optional()
)


@rule(moved_again)
def signed_moved_while_real(m: Match, build: Builder) -> Value:
    """Signed integers are moved as such, too: kernels need no pair of quantisations to see them."""
    m.fits(m.root.result.type.dtype.is_signed)
    return requantize_rules.moved_as_integers(m, build)


@rule(pat.quantize_linear(pooled, requantize_rules.scale, requantize_rules.offset.optional()))
def pooled_while_real(m: Match, build: Builder) -> Value:
    """The largest of numbers that a positive scale makes real is the largest integer made real."""
    op = m[pooled]
    m.fits(not any(value.is_used for value in op.results[1:]))
    m.fits(m.root.result.type.dtype in requantize_rules.BYTES)
    m.require((uniform(m[requantize_rules.scale]) or 0.0) > 0, "the scale is not positive")
    return build.op(
        "max_pool", requantize_rules.quantised_sources(m, op.operands), op.attrs
    ).results[0]


factor, shift = Const("factor"), Const("shift")
wide = pat.cast(x)


@rule(pat.mul(pat.sub(wide, shift), factor))
def dequantized_by_arithmetic(m: Match, build: Builder) -> Value:
    """Integers less a zero point, times a scale, are made real by one operation."""
    zero_point = uniform(m[shift])
    dtype = m[x].type.dtype
    m.fits(dtype in INTEGERS and zero_point is not None)
    limits = np.iinfo(dtype.numpy)
    whole = zero_point is not None and zero_point.is_integer()
    m.require(whole and limits.min <= (zero_point or 0) <= limits.max, "it is no zero point")
    return _dequantized(m, build, zero_point or 0.0)


def _dequantized(m: Match, build: Builder, zero_point: float) -> Value:
    number, type = uniform(m[factor]), m[x].type
    result = m.root.result.type
    m.fits(type.dtype in INTEGERS and m[x].blob is None and result.dtype is DType.F32)
    m.fits(number is not None and result.shape == type.shape)
    m.fits(m[wide].result.type.dtype is DType.F32)
    m.require(number is not None and SMALLEST <= number <= LARGEST, "it is no usual scale")
    factors = np.array(number, np.float32), np.array(zero_point, type.dtype.numpy)
    return build.dequantize_linear(m[x], *(build.const(Blob.of(each)) for each in factors))


@dataclass(frozen=True)
class RecognizeQuantized(RewritePass):
    """Cancels pairs of conversions between integers and real numbers, and recognises the latter.

    A quantization behind the opposite one of the same scale and zero point gives the integers
    back, or the largest of them. Pairs the other way round, which round, are kept. Runtimes pool
    bytes by far slower than floats, so this is for targets that do not.
    """

    name: ClassVar[str] = "recognize-quantized"
    numbers: ClassVar[Contract] = EXACT
    rules: ClassVar[tuple[Rule, ...]] = (
        quantized_again, signed_moved_while_real, pooled_while_real, dequantized_by_arithmetic,
    )  # fmt: skip
