"""keep-integers: products of quantised numbers with known weights are computed in integers."""

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
from leptonc.passes.context import PassContext
from leptonc.passes.contract import EXACT, Contract
from leptonc.passes.pattern import Const, Match, Var, pat
from leptonc.passes.precision.integral import BYTES, largest_difference
from leptonc.passes.precision.scaling import is_zero, limited, scalar
from leptonc.passes.rewrite import Rewriter, Rule, RuleSet, rule

MOST = 1 << 31
"""No sum of 32 bits reaches this."""
SHALLOW = 2
"""An instruction takes so many products at once: less is done faster in floats."""
SMALL, ANY = 32767 // 255, 256
"""What two neighbours add up to at most where 16 bits hold their products with bytes, and ever."""

MOST_EXTRA = 1 / 8
"""With more steps for large weights, products of pairs of 16 bits are faster."""
DEEP = 4
"""The products of bytes that are added at once."""

a, b = Var("a"), Const("b")
a_point, b_point = Var("zero point"), Var("weight's zero point")
product = pat.matmul_integer(
    a, b, a_zero_point=a_point.optional(), b_zero_point=b_point.optional()
)  # fmt: skip


def _weight(m: Match) -> Array:
    """The weight less its zero points, in the smallest type that holds it."""
    blob, point = m[b].blob, m.get(b_point)
    m.fits(blob is not None and blob.type.rank == 2 and blob.type.dtype in BYTES)
    m.fits(m[a].type.rank > 1 and m[a].type.dtype in BYTES)
    m.require(point is None or point.blob is not None, "the weight's zero point is not known")
    first = m.get(a_point)
    one = first is None or all(dim == 1 for dim in first.type.shape)
    m.require(one, "there is a zero point for each row")
    assert blob is not None
    m.require(blob.type.extents[0] >= SHALLOW, "a single product is faster in floats")
    weight = blob.array.astype(np.int32)
    if point is not None and point.blob is not None:
        offset = point.blob.array.astype(np.int32)
        m.require(offset.size == 1 or offset.ndim == 1, "zero points of an unusual shape")
        weight = weight - (offset.reshape(()) if offset.size == 1 else offset)
    largest = int(np.abs(weight).sum(0, dtype=np.int64).max(initial=0))
    m.require(largest * 255 < MOST, "sums might not fit in 32 bits")
    fits = weight.min(initial=0) >= -128 and weight.max(initial=0) <= 127
    return weight.astype(np.int8 if fits else np.int16)


def _as(build: Builder, x: Value, dtype: DType) -> Value:
    return build.op("cast", [x], {"to": dtype}).result


@rule(product)
def small_bytes_at_once(m: Match, build: Builder) -> Value:
    """Bytes times weights of which 16 bits hold two products, but for a few; these take more steps.

    Weights of 7 bits are small enough: for those, tools quantise weights for processors that have
    no better instruction. Nearly all others are where one scale is that of a whole weight.
    """
    weight = _weight(m)
    m.fits(_takes_few(weight, SMALL))
    return _of_bytes(m, build, weight)


@rule(product)
def bytes_at_once(m: Match, build: Builder) -> Value:
    """Bytes times bytes, of which an instruction adds four products to 32 bits."""
    weight = _weight(m)
    m.fits(_takes_few(weight, ANY))
    return _of_bytes(m, build, weight)


def _takes_few(weight: Array, most: int) -> bool:
    """True where few steps are needed for pairs of weights that add up to more."""
    return weight.shape[0] >= DEEP and extra_steps(weight, most) < MOST_EXTRA


def _of_bytes(m: Match, build: Builder, weight: Array) -> Value:
    x, point = m[a], m.get(a_point)
    column = weight.sum(0, dtype=np.int32)
    shift = 0
    if x.type.dtype is DType.I8:
        shift = 128
        wide = build.add(_as(build, x, DType.I16), build.const(np.array(shift, np.int16)))
        x = _as(build, wide, DType.U8)
    sums = build.integer_linear(x, build.const(weight))
    if is_zero(point):
        return build.sub(sums, build.const(column * shift)) if shift else sums
    assert point is not None
    if point.blob is not None:
        known = int(point.blob.array.reshape(())) + shift
        return build.sub(sums, build.const(column * np.int32(known)))
    offset = scalar(build, _as(build, point, DType.I32))
    if shift:
        offset = build.add(offset, build.const(np.array(shift, np.int32)))
    return build.sub(sums, build.mul(build.const(column), offset))


@rule(product)
def pairs_at_once(m: Match, build: Builder) -> Value:
    """Bytes less their zero point have 16 bits, of which an instruction adds two products."""
    weight = _weight(m)
    reach = largest_difference(m[a], m.get(a_point))
    largest = int(np.abs(weight.astype(np.int64)).sum(0).max(initial=0))
    m.require(largest * reach < MOST, "sums might not fit in 32 bits")
    x, point = _as(build, m[a], DType.I16), m.get(a_point)
    if point is not None and not is_zero(point):
        x = build.sub(x, scalar(build, _as(build, point, DType.I16)))
    return build.integer_linear(x, build.const(weight))


a_scale, b_scale = Const("scale"), Const("weight's scale")
y_scale, y_point = Const("result's scale"), Var("result's zero point")


@rule(pat.qlinear_matmul(a, a_scale, a_point, b, b_scale, b_point, y_scale, y_point))
def requantized_sums(m: Match, build: Builder) -> Value:
    """Sums in integers, then times the scales as floats, rounded and limited."""
    _weight(m)
    dtype = m.root.result.type.dtype
    scales = [m[hole].blob for hole in (a_scale, b_scale, y_scale)]
    left, right, out = (blob.array for blob in scales if blob is not None)
    m.fits(all(each.dtype == np.float32 for each in (left, right, out)) and dtype in BYTES)
    m.require(left.size == 1 == out.size and right.ndim < 2, "there is a scale for each row")
    column = right.reshape(()) if right.size == 1 else right
    with np.errstate(all="ignore"):
        factor = np.asarray(left.reshape(()) * column / out.reshape(()), np.float32)
    m.require(bool(np.isfinite(factor).all()), "the scales together are no finite number")
    sums = build.op(
        "matmul_integer", [m[a], m[b], m[a_point], m[b_point]],
        names=("a", "b", "a_zero_point", "b_zero_point"),
    ).result  # fmt: skip
    rounded = build.round(build.mul(_as(build, sums, DType.F32), build.const(factor)))
    if not is_zero(m[y_point]):
        rounded = build.add(rounded, scalar(build, _as(build, m[y_point], DType.F32)))
    return _as(build, limited(build, rounded, dtype).value, dtype)


@dataclass(frozen=True)
class KeepIntegers(RewritePass):
    """Computes products of bytes with known weights in integers, where no sum exceeds 32 bits.

    For targets that multiply pairs of 16-bit integers in one instruction, which is twice as many
    products as of floats, or four pairs of bytes; what is quantised takes less memory, too.
    """

    name: ClassVar[str] = "keep-integers"
    numbers: ClassVar[Contract] = EXACT
    rules: ClassVar[tuple[Rule, ...]] = (
        requantized_sums, small_bytes_at_once, bytes_at_once, pairs_at_once,
    )  # fmt: skip
    neighbours: int = option(ANY, "what two weights that bytes are multiplied by may add up to")

    def run(self, graph: Graph, context: PassContext) -> None:
        """Apply the rules that the target is faster with."""
        left_out = {*context.disabled}
        if self.neighbours < ANY:
            left_out.add(bytes_at_once.name)
        if self.neighbours < SMALL:
            left_out.add(small_bytes_at_once.name)
        rules = [each for each in self.rules if each.name not in left_out]
        Rewriter(RuleSet(rules), self.budget, context).run(graph)
