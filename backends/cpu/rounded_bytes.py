# pyright: standard
"""Floats that an epilogue rounds, limits and stores as bytes, in fewer steps than it spells out."""

from __future__ import annotations

from dataclasses import dataclass

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.dynamic_scale import ROUNDING
from leptonc.backends.tvm.binding import PrimExpr, tirx
from leptonc.backends.tvm.lowering import TVM_DTYPE
from leptonc.backends.tvm.vector_math import let
from leptonc.ir.graph import Op, Value
from leptonc.ir.types import DType

BYTES = {DType.U8: (0, 255), DType.I8: (-128, 127)}


@dataclass(frozen=True)
class RoundedBytes:
    """`cast(limited(round(source) + point))`, and the operations that say so.

    Limits are integers: what is limited first is rounded to the same, and to a small number, which
    an addition does: it is then in the lowest bits. That takes the place of a rounding, of the
    conversion, and of an addition to floats.
    """

    source: Value
    steps: frozenset[Op]
    low: int
    high: int
    point: int
    dtype: str

    def apply(self, x: PrimExpr) -> PrimExpr:
        """The byte of an element; not-a-number gives the lower limit, as it is spelled out."""
        low, high = (emit.const(limit - self.point) for limit in (self.low, self.high))

        def limited(above: PrimExpr) -> PrimExpr:
            moved = tirx.Select(above < high, above, high) + emit.const(ROUNDING)
            number = tirx.reinterpret("int32", moved).astype(self.dtype)
            return number + tirx.const(self.point, self.dtype) if self.point else number

        return let(x, lambda x: let(tirx.Select(x > low, x, low), limited))


def rounded_bytes(out: Value) -> RoundedBytes | None:
    """What the last operations before `out` are, if nothing else reads what they compute."""
    cast = out.producer
    if cast is None or cast.name != "cast" or out.type.dtype not in BYTES:
        return None
    value, limits, before = cast.operands[0], list[int](), list[Op]()
    for comparison in ("less", "greater"):
        found = _limited(value, comparison)
        if found is None:
            return None
        value, limit, ops = found
        limits.append(limit)
        before += ops
    rounding, point = value.producer, 0
    if rounding is not None and rounding.name == "add":
        before.append(rounding)
        value, moved = rounding.operands
        rounding, point = value.producer, _integer(moved)
    if rounding is None or rounding.name != "round" or value.type.dtype is not DType.F32:
        return None
    before.append(rounding)
    inside = {cast, *before}
    if point is None or any(user not in inside for op in before for user in op.result.users):
        return None
    (least, most), (high, low) = BYTES[out.type.dtype], limits
    if not least <= min(low, point) <= max(high, point) <= most:
        return None
    dtype = TVM_DTYPE[out.type.dtype]
    return RoundedBytes(rounding.operands[0], frozenset(inside), low, high, point, dtype)


def _limited(value: Value, comparison: str) -> tuple[Value, int, list[Op]] | None:
    """What `where(comparison(x, limit), x, limit)` limits, by what, and the two operations."""
    choice = value.producer
    if choice is None or choice.name != "where":
        return None
    condition, x, limit = choice.operands
    test, number = condition.producer, _integer(limit)
    if test is None or test.name != comparison or number is None or test.operands[0] is not x:
        return None
    return (x, number, [choice, test]) if _integer(test.operands[1]) == number else None


def _integer(value: Value) -> int | None:
    """The integer that a constant of one element is."""
    producer = value.producer
    blob = None if producer is None or producer.name != "const" else producer.result.blob
    if blob is None or blob.size != 1:
        return None
    number = float(blob.array.reshape(-1)[0])
    return int(number) if number.is_integer() else None
