# pyright: standard
"""Tensors as bytes by their own range: one sweep for the range, one for the bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.emit import Extent, Register, Shape
from leptonc.backends.cpu.sweep import CHAINS, Visit, sweep, whole_vectors
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.tvm.binding import Buffer, PrimExpr, tirx

TOP = 255.0
ROUNDING = 1.5 * 2**23
"""A float of up to 2^22 added to this is rounded to an integer, which its lowest bits are."""
ROUNDING_BITS = 0x4B400000
SMALLEST, LARGEST = 2.0**-100, 2.0**100
"""Between these a scale has a reciprocal that neither overflows nor loses digits."""


@dataclass(frozen=True)
class DynamicSpec:
    """Bytes, scale and zero point of x; of `channels` in blocks of its last axis, if not zero."""

    shape: Shape
    channels: int = 0


@dataclass(frozen=True)
class DynamicBuffers:
    """The operand, and of the results those that are asked for."""

    x: Buffer
    y: Buffer | None
    scale: Buffer | None
    point: Buffer | None


@dataclass(frozen=True)
class _Scale:
    """The numbers that elements are quantised with."""

    scale: PrimExpr
    point: PrimExpr


def dynamic_quantize(spec: DynamicSpec, cpu: CpuTarget, buffers: DynamicBuffers) -> None:
    """Emits the body of the kernel."""
    count = emit.product(spec.shape)
    flat = emit.view(buffers.x, (count,))
    found = _scale(*_range(spec, cpu, flat))
    if buffers.scale is not None:
        T.buffer_store(buffers.scale, found.scale, [])
    if buffers.point is not None:
        T.buffer_store(buffers.point, found.point.astype("uint8"), [])
    if buffers.y is not None:
        _write(flat, emit.view(buffers.y, (count,)), count, found, cpu)


def _range(spec: DynamicSpec, cpu: CpuTarget, flat: Buffer) -> tuple[PrimExpr, PrimExpr]:
    """The lowest and highest element, or zero where it is beyond them; not-a-number is one of both.

    As integers with a sign, floats from zero on are in order, and behind them those that are no
    numbers; without a sign, so are those below zero, from the highest to the lowest.
    """
    kinds = ("uint32", -0.0), ("int32", 0.0)
    folds = [_Extreme(cpu.lanes, dtype, start) for dtype, start in kinds]

    def take(value: PrimExpr, width: int, chain: int) -> None:
        kept = emit.let(value)
        for fold in folds:
            fold.take(kept, width, chain)

    _read(spec, cpu, flat, take)
    low, high = (fold.total() for fold in folds)
    return low, high


class _Extreme:
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
        number = tirx.reinterpret(_typed(self.dtype, width), value)
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


def _read(spec: DynamicSpec, cpu: CpuTarget, flat: Buffer, take: Callable[..., None]) -> None:
    """Visits all elements but those that fill up a last block."""
    lanes, used = cpu.lanes, spec.channels % cpu.lanes

    def visit(start: Extent, *, masked: bool) -> Visit:
        def one(offset: PrimExpr, width: int, chain: int, seen: Extent) -> None:
            value = emit.load(flat, [start + offset], width)
            if masked:
                lane = tirx.Ramp(tirx.const(0, "int32"), tirx.const(1, "int32"), width)
                inside = lane < tirx.Broadcast(tirx.const(used, "int32"), width)
                # zero belongs to the range anyway
                value = tirx.Select(inside, value, emit.broadcast(emit.const(0.0), width))
            take(value, width, chain)

        return one

    count = emit.product(spec.shape)
    if isinstance(count, int) and count == 0:
        return
    if not used:
        sweep(count, lanes, visit(emit.integer(0), masked=False))
        return
    batch, blocks, *pixels = spec.shape
    plane = emit.product(pixels)
    with emit.serial(batch) as image:
        start = emit.let(image * emit.integer(emit.product((blocks, plane))))
        rest = emit.product((blocks - 1, plane))
        whole_vectors(rest, lanes, visit(start, masked=False))
        whole_vectors(plane, lanes, visit(start + rest, masked=True))


def _scale(low: PrimExpr, high: PrimExpr) -> _Scale:
    """Of a range that holds zero."""
    zero, one = emit.const(0.0), emit.const(1.0)
    span = emit.let((high - low) / emit.const(TOP))
    scale = emit.let(tirx.Select(tirx.EQ(span, zero), one, span))
    point = _within(emit.let((zero - low) / scale), zero, emit.const(TOP))
    rounded = tirx.call_llvm_pure_intrin("float32", "llvm.nearbyint", point)
    return _Scale(scale, emit.let(emit.let(rounded).astype("int32")))


def _within(value: PrimExpr, low: PrimExpr, high: PrimExpr) -> PrimExpr:
    """The value between limits; not-a-number becomes the lower one."""
    above = emit.let(tirx.Select(value > low, value, low))
    return emit.let(tirx.Select(above < high, above, high))


def _write(flat: Buffer, out: Buffer, count: Extent, found: _Scale, cpu: CpuTarget) -> None:
    """Stores all bytes; a division takes longer than three multiplications."""
    usual = tirx.And(found.scale > emit.const(SMALLEST), found.scale < emit.const(LARGEST))
    with T.If(usual):
        with T.Then():
            inverse = emit.let(emit.const(1.0) / found.scale)
            _each(flat, out, count, found, cpu, lambda x: _divided(x, found.scale, inverse))
        with T.Else():
            _each(
                flat, out, count, found, cpu,
                lambda x: x / emit.broadcast(found.scale, _lanes(x)),
            )  # fmt: skip


def _divided(x: PrimExpr, scale: PrimExpr, inverse: PrimExpr) -> PrimExpr:
    """The quotient, by the reciprocal of the scale and what that leaves."""
    by, inverse = (emit.broadcast(each, _lanes(x)) for each in (scale, inverse))
    first = emit.let(x * inverse)
    left = emit.let(emit.fma(-first, by, x))
    return emit.fma(left, inverse, first)


def _each(
    flat: Buffer, out: Buffer, count: Extent, found: _Scale, cpu: CpuTarget,
    divide: Callable[[PrimExpr], PrimExpr],
) -> None:  # fmt: skip
    point = found.point.astype("float32")
    low, high = emit.let(-point), emit.let(emit.const(TOP) - point)
    shift = emit.let(found.point - tirx.const(ROUNDING_BITS, "int32"))

    def visit(offset: PrimExpr, width: int, chain: int, seen: Extent) -> None:
        value = emit.let(divide(emit.let(emit.load(flat, [offset], width))))
        limits = (emit.broadcast(limit, width) for limit in (low, high))
        moved = emit.let(_within(value, *limits) + emit.broadcast(emit.const(ROUNDING), width))
        number = tirx.reinterpret(_typed("int32", width), moved) + emit.broadcast(shift, width)
        emit.store(out, number.astype(_typed("uint8", width)), [offset], width)

    if isinstance(count, int) and count < cpu.lanes:
        with emit.serial(count) as at:
            visit(at, 1, 0, 0)
        return
    sweep(count, cpu.lanes, visit)


def _lanes(value: PrimExpr) -> int:
    return int(str(value.ty).partition("x")[2] or 1)


def _typed(dtype: str, lanes: int) -> str:
    return dtype if lanes == 1 else f"{dtype}x{lanes}"
