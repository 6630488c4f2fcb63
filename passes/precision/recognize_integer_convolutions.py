"""recognize-integer-convolutions: planes of bytes are convolved in integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.build import Builder
from leptonc.ir.graph import Graph, Value
from leptonc.ir.ops.integer_linear import extra_steps
from leptonc.ir.types import DType
from leptonc.passes.base import RewritePass, option
from leptonc.passes.constants import uniform
from leptonc.passes.context import PassContext
from leptonc.passes.contract import REASSOCIATES, Contract
from leptonc.passes.pattern import Match, pat
from leptonc.passes.precision import products_of_bytes
from leptonc.passes.precision.keep_integers import ANY, MOST_EXTRA, SMALL
from leptonc.passes.precision.products_of_bytes import bias, point, real, weight, x
from leptonc.passes.precision.windows_of_bytes import window_of
from leptonc.passes.rewrite import Rewriter, Rule, RuleSet, rule

FEW_CHANNELS = 8
"""With fewer channels, most of a block of them would be filled up."""
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


def _convolved(m: Match, build: Builder, most: int) -> Value:
    blob = m[weight].blob
    assert blob is not None
    attrs = _attrs_of(m)
    filters, *rest = blob.type.extents
    weights = products_of_bytes.scaled(m, blob.array.reshape(filters, -1).T)
    m.require(weights.weight.points is None, "the weights have more than 8 bits")
    integers = weights.weight.bytes.T.reshape(filters, *rest)
    few = extra_steps(_in_order(integers), most) < MOST_EXTRA
    m.require(few, "too many neighbouring weights are too large for sums of 16 bits")
    offset = m.get(point)
    planes = _unsigned(build, m[x], 0 if offset is None else int(uniform(offset) or 0))
    sums = _sums(build, planes, integers, attrs)
    result = build.mul(_real(build, sums), _by_channel(build, weights.factor))
    if m.get(bias) is None:
        return result
    known = m[bias].blob
    assert known is not None
    return build.add(result, _by_channel(build, known.array))


def _attrs_of(m: Match) -> dict[str, tuple[int, ...] | int]:
    """Strides, dilations and pads; the match goes on only for planes that are worth it."""
    type, window, row = m[x].type, window_of(m.root), m.get(bias)
    m.fits(type.rank == 4)
    m.require(m.root.int("group") == 1, "there are groups")
    m.require(row is None or row.blob is not None, "the bias is not known")
    channels = m[weight].type.extents[1]
    m.require(channels >= FEW_CHANNELS, "few channels are faster in floats")
    pads = [extent for extent in (*window.before, *window.after) if isinstance(extent, int)]
    m.require(len(pads) == 4 and min(pads) >= 0, "the pads are not known")
    return {
        "strides": tuple(window.strides), "dilations": tuple(window.dilations), "pads": (*pads,),
    }  # fmt: skip


def _in_order(weight: Array) -> Array:
    """The weight as a matrix of depth and filters, as it is read: by fours of the channels."""
    filters, channels = weight.shape[:2]
    filled = np.zeros((filters, channels + -channels % TOGETHER, *weight.shape[2:]), weight.dtype)
    filled[:, :channels] = weight
    return np.moveaxis(filled, (2, 3), (0, 1)).swapaxes(2, 3).reshape(-1, filters)


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
    rules: ClassVar[tuple[Rule, ...]] = (planes_of_bytes, planes_of_any_bytes)
    neighbours: int = option(ANY, "what two weights that bytes are multiplied by may add up to")

    def run(self, graph: Graph, context: PassContext) -> None:
        """Apply the rules for which the target has instructions."""
        wanted = {SMALL: planes_of_bytes, ANY: planes_of_any_bytes}.get(self.neighbours)
        rules = [each for each in self.rules if each is wanted]
        rules = [each for each in rules if each.name not in context.disabled]
        Rewriter(RuleSet(rules), self.budget, context).run(graph)
