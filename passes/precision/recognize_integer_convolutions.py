"""recognize-integer-convolutions: planes of bytes are convolved in integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.build import Builder
from leptonc.ir.graph import Graph, Value
from leptonc.ir.ops.integer_linear import extra_steps
from leptonc.ir.types import DType, TensorType
from leptonc.passes.base import RewritePass, option
from leptonc.passes.constants import uniform
from leptonc.passes.context import PassContext
from leptonc.passes.contract import REASSOCIATES, Contract
from leptonc.passes.pattern import Match, Var, pat
from leptonc.passes.precision import products_of_bytes
from leptonc.passes.precision.keep_integers import ANY, MOST, MOST_EXTRA, SMALL
from leptonc.passes.precision.never_negative import is_never_negative
from leptonc.passes.precision.products_of_bytes import (
    NARROW,
    SHALLOW,
    bias,
    point,
    real,
    weight,
    x,
)
from leptonc.passes.precision.quantised_convolution import quantised_conv, requantised
from leptonc.passes.precision.scales_once import SCALED_ONCE
from leptonc.passes.precision.scaling import scalar
from leptonc.passes.precision.windows_of_bytes import window_of
from leptonc.passes.rewrite import Rewriter, Rule, RuleSet, rule

FEW_CHANNELS = 8
"""With fewer channels, most of a block of them would be filled up: fours of them are."""
FILLED = 0.75
"""So much of those fours must be channels: without an instruction that adds four products, bytes
are twice as fast as floats."""
TOGETHER = 4
"""The channels whose products are added at once."""


@dataclass(frozen=True)
class Planes:
    """Bytes without a sign, and which of them stands for zero."""

    bytes: Value
    zero: int


@rule(pat.conv(real, weight, bias=bias.optional()))
def planes_of_bytes(m: Match, build: Builder) -> Value:
    """Convolved planes of bytes made real: sums of products of bytes, then scaled.

    The weights are known by their numbers, as those of `products-of-bytes`. 16 bits must hold the
    products of nearly all pairs of neighbours, as `small-bytes-at-once` says.
    """
    return _convolved(m, build, SMALL)


@rule(pat.conv(real, weight, bias=bias.optional()))
def planes_of_any_bytes(m: Match, build: Builder) -> Value:
    """As `planes-of-bytes`, for instructions that add four products to 32 bits."""
    return _convolved(m, build, ANY)


@rule(pat.qlinear_conv(...))
def quantised_planes(m: Match, build: Builder) -> Value:
    """Convolved planes of bytes that are quantised again: the sums, then their scale, rounded."""
    return _quantised(m, build, SMALL)


@rule(pat.qlinear_conv(...))
def quantised_planes_of_any(m: Match, build: Builder) -> Value:
    """As `quantised-planes`, for instructions that add four products to 32 bits."""
    return _quantised(m, build, ANY)


x_point, w_point = Var("zero point"), Var("weight's zero point")
of_bytes = pat.conv_integer(
    x, weight, x_zero_point=x_point.optional(), w_zero_point=w_point.optional()
)  # fmt: skip


@rule(of_bytes)
def convolved_bytes(m: Match, build: Builder) -> Value:
    """Convolved bytes whose zero point may be known at run time only.

    Few weights need more than 8 bits: the tools take them for bytes, less a zero point of theirs.
    """
    return _of_bytes(m, build, SMALL)


@rule(of_bytes)
def convolved_any_bytes(m: Match, build: Builder) -> Value:
    """As `convolved-bytes`, for instructions that add four products to 32 bits."""
    return _of_bytes(m, build, ANY)


def _of_bytes(m: Match, build: Builder, most: int) -> Value:
    blob, offset, point = m[weight].blob, m.get(w_point), m.get(x_point)
    m.fits(blob is not None and m[x].type.dtype is DType.U8 and m[x].blob is None)
    assert blob is not None
    attrs = _attrs_of(m, m[x].type, blob.type, most)
    m.require(offset is None or offset.blob is not None, "the weight's zero point is not known")
    whole = blob.array.astype(np.int32)
    if offset is not None and offset.blob is not None:
        whole = whole - offset.blob.array.astype(np.int32).reshape(-1, *(1,) * (whole.ndim - 1))
    largest = int(np.abs(whole).sum((1, 2, 3), dtype=np.int64).max(initial=0))
    m.require(largest * 255 < MOST, "sums might not fit in 32 bits")
    fits = whole.min(initial=0) >= -128 and whole.max(initial=0) <= 127
    integers = whole.astype(np.int8 if fits else np.int16)
    if attrs["group"] == 1 and most != ANY:
        _require_few(m, integers, most)
    if point is None or point.blob is not None or _is_of_zero(point):
        known = 0 if point is None or point.blob is None else int(uniform(point) or 0)
        return _sums(build, Planes(m[x], known), integers, attrs)
    operands = [m[x], build.const(integers), scalar(build, point)]
    return build.op("integer_conv", operands, attrs, names=("x", "w", "point")).result


def _is_of_zero(point: Value) -> bool:
    """True for the zero point of a range of nothing below zero: its lowest byte."""
    op = point.producer
    if op is None or op.name != "dynamic_quantize_linear":
        return False
    return is_never_negative(op.operands[0])


def _convolved(m: Match, build: Builder, most: int) -> Value:
    blob = m[weight].blob
    assert blob is not None
    row = m.get(bias)
    attrs = _attrs_of(m, m[x].type, blob.type, most)
    least = SHALLOW if attrs["group"] == 1 else 1
    m.require(row is None or row.blob is not None, "the bias is not known")
    filters, *rest = blob.type.extents
    weights = products_of_bytes.scaled(m, blob.array.reshape(filters, -1).T, least)
    m.require(weights.weight.points is None, "the weights have more than 8 bits")
    integers = weights.weight.bytes.T.reshape(filters, *rest)
    if attrs["group"] == 1:
        _require_few(m, integers, most)
    offset = m.get(point)
    planes = _unsigned(build, m[x], 0 if offset is None else int(uniform(offset) or 0))
    result = build.mul(
        _real(build, _sums(build, planes, integers, attrs)), _by_channel(build, weights.factor)
    )
    if row is None or row.blob is None:
        return result
    return build.add(result, _by_channel(build, row.blob.array))


def _quantised(m: Match, build: Builder, most: int) -> Value:
    conv = quantised_conv(m)
    attrs = _attrs_of(m, conv.source.type, m.root.operands[3].type, most)
    filters, depth = conv.integers.shape[0], conv.integers[0].size
    enough = depth >= SHALLOW or attrs["group"] != 1
    m.require(enough and filters >= NARROW, "few products are faster in floats")
    weights = products_of_bytes.in_bytes(m, conv.integers.reshape(filters, -1).T, conv.most)
    m.require(weights.points is None, "the weights have more than 8 bits")
    integers = weights.bytes.T.reshape(conv.integers.shape)
    if attrs["group"] == 1:
        _require_few(m, integers, most)
    planes = _unsigned(build, conv.source, conv.zero)
    return requantised(build, _sums(build, planes, integers, attrs), conv, (-1, 1, 1))


def _attrs_of(
    m: Match, x: TensorType, w: TensorType, most: int
) -> dict[str, tuple[int, ...] | int]:
    """Strides, dilations, pads and groups; the match goes on only for planes that are worth it."""
    m.fits(x.rank == 4)
    window = window_of(m.root)
    group, (filters, channels, *_) = m.root.int("group"), w.extents
    # without an instruction that adds products of pairs, floats have fewer instructions
    single = channels == 1 and filters == group and most == ANY
    m.require(group == 1 or single, "there are groups")
    filled = channels + -channels % TOGETHER
    full = channels >= FEW_CHANNELS or channels >= FILLED * filled
    m.require(full or group > 1, "few channels are faster in floats")
    pads = [extent for extent in (*window.before, *window.after) if isinstance(extent, int)]
    m.require(len(pads) == 4 and min(pads) >= 0, "the pads are not known")
    return {
        "strides": tuple(window.strides), "dilations": tuple(window.dilations), "pads": (*pads,),
        "group": group,
    }  # fmt: skip


def _require_few(m: Match, integers: Array, most: int) -> None:
    """Go on only where few neighbours are too large: fours of the channels are read together."""
    filters, channels = integers.shape[:2]
    shape = filters, channels + -channels % TOGETHER, *integers.shape[2:]
    filled = np.zeros(shape, integers.dtype)
    filled[:, :channels] = integers
    matrix = np.moveaxis(filled, (2, 3), (0, 1)).swapaxes(2, 3).reshape(-1, filters)
    few = extra_steps(matrix, most) < MOST_EXTRA
    m.require(few, "too many neighbouring weights are too large for sums of 16 bits")


def _unsigned(build: Builder, x: Value, zero: int) -> Planes:
    """The bytes as such without a sign."""
    if x.type.dtype is DType.U8:
        return Planes(x, zero)
    wide = build.op("cast", [x], {"to": DType.I16}).result
    moved = build.add(wide, build.const(np.array(128, np.int16)))
    return Planes(build.op("cast", [moved], {"to": DType.U8}).result, zero + 128)


def _sums(
    build: Builder, planes: Planes, weight: Array, attrs: dict[str, tuple[int, ...] | int]
) -> Value:
    """The sums of products with bytes less their zero point, in 32 bits."""
    known = build.const(np.ascontiguousarray(weight))
    sums = build.op("integer_conv", [planes.bytes, known], {**attrs, "filler": planes.zero}).result
    if not planes.zero:
        return sums
    whole = weight.sum((1, 2, 3), dtype=np.int32) * np.int32(planes.zero)
    return build.sub(sums, _by_channel(build, whole))


def _real(build: Builder, sums: Value) -> Value:
    return build.op("cast", [sums], {"to": DType.F32}).result


def _by_channel(build: Builder, row: Array) -> Value:
    return build.const(np.ascontiguousarray(row.reshape(-1, 1, 1)))


@dataclass(frozen=True)
class RecognizeIntegerConvolutions(RewritePass):
    """Convolves planes of quantised numbers in integers, with scales behind the exact sums.

    It is for targets with a kernel that multiplies bytes: twice as many at a time as floats, or
    four times. What is quantised takes a quarter of the memory, too.
    """

    name: ClassVar[str] = "recognize-integer-convolutions"
    numbers: ClassVar[Contract] = REASSOCIATES
    rules: ClassVar[tuple[Rule, ...]] = (
        planes_of_bytes, planes_of_any_bytes, quantised_planes, quantised_planes_of_any,
        convolved_bytes, convolved_any_bytes, *SCALED_ONCE,
    )  # fmt: skip
    neighbours: int = option(ANY, "what two weights that bytes are multiplied by may add up to")

    def run(self, graph: Graph, context: PassContext) -> None:
        """Apply the rules for which the target has instructions."""
        wanted = {
            SMALL: (planes_of_bytes, quantised_planes, convolved_bytes, *SCALED_ONCE),
            ANY: (planes_of_any_bytes, quantised_planes_of_any, convolved_any_bytes, *SCALED_ONCE),
        }.get(self.neighbours, ())
        rules = [each for each in wanted if each.name not in context.disabled]
        Rewriter(RuleSet(rules), self.budget, context).run(graph)
