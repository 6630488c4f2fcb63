"""What follows for sums, extremes, signs and bits of integers that lie between limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from leptonc.ir.blob import Blob
from leptonc.ir.dims import is_positive, product
from leptonc.ir.graph import Op
from leptonc.passes.constants import integers
from leptonc.passes.shapes.interval import Facts, Known, affine, anything, span, within


def _constant_of_shape(op: Op, facts: Facts) -> Known:
    """One number everywhere."""
    blob, type = op.attrs["value"], op.result.type
    if not isinstance(blob, Blob) or blob.size != 1:
        return anything(type)
    return affine(int(blob.array.reshape(-1)[0]), (0,) * type.rank, type)


def _sign(op: Op, facts: Facts) -> Known:
    known = facts(op.operands[0])
    low, high = (max(min(end, 1), -1) for end in (known.low, known.high))
    return within(low, high, op.result.type)


def _bits(op: Op, facts: Facts) -> Known:
    """Bits of numbers that are not negative, or of which one is not for `and`."""
    type, (a, b) = op.result.type, (facts(value) for value in op.operands)
    if op.name == "bitwise_and":
        tops = [known.high for known in (a, b) if known.low >= 0]
        return within(0, min(tops), type) if tops else anything(type)
    if a.low < 0 or b.low < 0:
        return anything(type)
    return within(0, (1 << max(a.high, b.high).bit_length()) - 1, type)


def _largest(op: Op, facts: Facts) -> Known:
    """The largest or the smallest over axes that have elements is one of them."""
    x = op.operands[0]
    known = facts(x)
    if not all(is_positive(dim) for dim in x.type.shape):
        return anything(op.result.type)
    return Known(known.low, known.high)


def _total(op: Op, facts: Facts) -> Known:
    """A sum over axes; one of no elements is 0."""
    x = op.operands[0]
    known, given = facts(x), op.operand("axes")
    axes = tuple(range(x.type.rank)) if given is None else integers(given)
    if axes is None:
        axes = tuple(range(x.type.rank))
    count = span(product(x.type.shape[axis] for axis in axes or range(x.type.rank)))[1]
    return within(min(known.low * count, known.low, 0), max(known.high * count, known.high, 0),
                  op.result.type)  # fmt: skip


MORE: Mapping[str, Callable[[Op, Facts], Known]] = MappingProxyType({
    "bitwise_and": _bits, "bitwise_or": _bits, "bitwise_xor": _bits,
    "constant_of_shape": _constant_of_shape, "reduce_max": _largest, "reduce_min": _largest,
    "reduce_sum": _total, "sign": _sign,
})  # fmt: skip
"""By operation."""
