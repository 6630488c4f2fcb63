# pyright: standard
"""Scales and zero points of ranges, and bytes by them: what `dynamic_quantize` computes with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.emit import Register
from leptonc.backends.cpu.sweep import CHAINS
from leptonc.backends.tvm.binding import PrimExpr, tirx

TOP = 255.0
MIDDLE = 128
ROUNDING = 1.5 * 2**23
"""A float of up to 2^22 added to this is rounded to an integer, which its lowest bits are."""
ROUNDING_BITS = 0x4B400000
SMALLEST, LARGEST = 2.0**-100, 2.0**100
"""Between these a scale has a reciprocal that neither overflows nor loses digits."""


@dataclass(frozen=True)
class Scale:
    """The numbers that elements are quantised with."""

    scale: PrimExpr
    point: PrimExpr


class Extreme:
    """The largest of floats taken for integers: vectors, and one for what is narrower."""

    def __init__(self, lanes: int, dtype: str, start: float) -> None:
        self.lanes, self.dtype = lanes, dtype
        self.chains = [Register(lanes, dtype) for _ in range(CHAINS)]
        self.single = Register(1, dtype)
        first = tirx.reinterpret(dtype, emit.const(start))
        for register in (*self.chains, self.single):
            register.set(emit.broadcast(first, register.lanes))

    def take(self, value: PrimExpr, width: int, chain: int) -> None:
        """Takes in some elements."""
        number = tirx.reinterpret(typed(self.dtype, width), value)
        if width == self.lanes:
            register = self.chains[chain]
            register.set(tirx.max(register.get(), number))
            return
        part = Register(width, self.dtype)
        part.set(number)
        for lane in range(width):
            self.single.set(tirx.max(self.single.get(), part.lane(lane)))

    def total(self) -> PrimExpr:
        """The largest of all, as a float."""
        first, *others = self.chains
        for register in others:
            first.set(tirx.max(first.get(), register.get()))
        for lane in range(self.lanes):
            self.single.set(tirx.max(self.single.get(), first.lane(lane)))
        return emit.let(tirx.reinterpret("float32", self.single.get()))


def scale_of(low: PrimExpr, high: PrimExpr) -> Scale:
    """Of a range that holds zero."""
    zero, one = emit.const(0.0), emit.const(1.0)
    span = emit.let((high - low) / emit.const(TOP))
    scale = emit.let(tirx.Select(tirx.EQ(span, zero), one, span))
    point = within(emit.let((zero - low) / scale), zero, emit.const(TOP))
    rounded = tirx.call_llvm_pure_intrin("float32", "llvm.nearbyint", point)
    return Scale(scale, emit.let(emit.let(rounded).astype("int32")))


def within(value: PrimExpr, low: PrimExpr, high: PrimExpr) -> PrimExpr:
    """The value between limits; not-a-number becomes the lower one."""
    above = emit.let(tirx.Select(value > low, value, low))
    return emit.let(tirx.Select(above < high, above, high))


def divided(x: PrimExpr, scale: PrimExpr, inverse: PrimExpr) -> PrimExpr:
    """The quotient, by the reciprocal of the scale and what that leaves."""
    by, inverse = (emit.broadcast(each, lanes_of(x)) for each in (scale, inverse))
    first = emit.let(x * inverse)
    left = emit.let(emit.fma(-first, by, x))
    return emit.fma(left, inverse, first)


def saturated(number: PrimExpr, width: int) -> PrimExpr:
    """Integers less the middle of bytes as bytes within their limits: one instruction does that."""
    low, high = (emit.broadcast(tirx.const(each, "int32"), width) for each in (-128, 127))
    limited = tirx.max(tirx.min(number, high), low).astype(typed("int8", width))
    middle = emit.broadcast(tirx.const(-MIDDLE, "int8"), width)
    return tirx.reinterpret(typed("uint8", width), tirx.bitwise_xor(limited, middle))


def largest(values: Sequence[PrimExpr], dtype: str) -> PrimExpr:
    """The largest of floats taken for integers."""
    return tirx.reinterpret(
        "float32", reduce(tirx.max, [tirx.reinterpret(dtype, value) for value in values])
    )


def lanes_of(value: PrimExpr) -> int:
    """How many elements a vector has."""
    return int(str(value.ty).partition("x")[2] or 1)


def typed(dtype: str, lanes: int) -> str:
    """The type of a vector."""
    return dtype if lanes == 1 else f"{dtype}x{lanes}"
