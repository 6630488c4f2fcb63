# pyright: standard
"""Tensors as bytes by their own range: one sweep for the range, one for the bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.emit import Extent, Register, Shape
from leptonc.backends.cpu.sweep import CHAINS, Visit, sweep, whole_vectors
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.tvm.binding import Buffer, PrimExpr, tirx

TOP = 255.0
SHARED = 1 << 17
"""From so many elements on threads share them: one takes 17 us for these, waking another 5."""
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
    if cpu.threads == 1 or (isinstance(count, int) and count < SHARED):
        _Emitter(spec, cpu, buffers, 1).emit()
    elif isinstance(count, int):
        _Emitter(spec, cpu, buffers, cpu.threads).emit()
    else:
        with T.If(emit.integer(count) >= SHARED):
            with T.Then():
                _Emitter(spec, cpu, buffers, cpu.threads).emit()
            with T.Else():
                _Emitter(spec, cpu, buffers, 1).emit()


class _Emitter:
    """Emits both sweeps, in so many parts that threads share."""

    def __init__(
        self, spec: DynamicSpec, cpu: CpuTarget, buffers: DynamicBuffers, parts: int
    ) -> None:
        self.spec, self.cpu, self.lanes, self.parts = spec, cpu, cpu.lanes, parts
        self.buffers, self.count = buffers, emit.product(spec.shape)
        self.flat = emit.view(buffers.x, (self.count,))

    def emit(self) -> None:
        """Emits the whole kernel."""
        found = _scale(*self.range())
        if self.buffers.scale is not None:
            T.buffer_store(self.buffers.scale, found.scale, [])
        if self.buffers.point is not None:
            T.buffer_store(self.buffers.point, found.point.astype("uint8"), [])
        if self.buffers.y is not None:
            self.write(emit.view(self.buffers.y, (self.count,)), found)

    def range(self) -> tuple[PrimExpr, PrimExpr]:
        """The lowest and highest element, or zero where it is beyond; not-a-number is one of both.

        As integers with a sign, floats from zero on are in order, and behind them those that are no
        numbers; without a sign, so are those below zero, from the highest to the lowest.
        """
        if self.parts == 1:
            low, high = self.extremes(emit.integer(0))
            return low, high
        found = emit.workspace((2, self.parts))
        with emit.outer_loop(self.parts, parallel=True) as part:
            for kind, value in enumerate(self.extremes(part)):
                emit.store(found, value, [kind, part])
        low, high = (
            emit.let(
                _largest([emit.load(found, [kind, part]) for part in range(self.parts)], dtype)
            )
            for kind, dtype in enumerate(("uint32", "int32"))
        )
        return low, high

    def extremes(self, part: PrimExpr) -> list[PrimExpr]:
        """Those of a part."""
        kinds = ("uint32", -0.0), ("int32", 0.0)
        folds = [_Extreme(self.lanes, dtype, start) for dtype, start in kinds]

        def take(value: PrimExpr, width: int, chain: int) -> None:
            kept = emit.let(value)
            for fold in folds:
                fold.take(kept, width, chain)

        self.read(take, part)
        return [fold.total() for fold in folds]

    def read(self, take: Callable[..., None], part: PrimExpr) -> None:
        """Visits all elements of a part but those that fill up a last block."""
        used = self.spec.channels % self.lanes

        def visit(start: Extent, *, masked: bool) -> Visit:
            def one(offset: PrimExpr, width: int, chain: int, seen: Extent) -> None:
                value = emit.load(self.flat, [start + offset], width)
                if masked:
                    lane = tirx.Ramp(tirx.const(0, "int32"), tirx.const(1, "int32"), width)
                    inside = lane < tirx.Broadcast(tirx.const(used, "int32"), width)
                    # zero belongs to the range anyway
                    value = tirx.Select(inside, value, emit.broadcast(emit.const(0.0), width))
                take(value, width, chain)

            return one

        if not used:
            self.sweep(visit(emit.integer(0), masked=False), part)
            return
        batch, blocks, *pixels = self.spec.shape
        plane = emit.product(pixels)
        with emit.serial(batch) as image:
            start = emit.let(image * emit.integer(emit.product((blocks, plane))))
            rest = emit.product((blocks - 1, plane))
            for first, size, masked in ((start, rest, False), (start + rest, plane, True)):
                begin, length = self.share(size, part)
                whole_vectors(length, self.lanes, visit(first + begin, masked=masked))

    def sweep(self, visit: Visit, part: PrimExpr) -> None:
        """Visits the elements of a part; what is behind the last vector is in all of them."""
        count, lanes = self.count, self.lanes
        if self.parts == 1:
            if not (isinstance(count, int) and count == 0):
                sweep(count, lanes, visit)
            return
        begin, length = self.share(count, part)
        whole_vectors(length, lanes, lambda offset, *rest: visit(begin + offset, *rest))
        visit(emit.integer(count) - lanes, lanes, 0, 0)

    def share(self, count: Extent, part: PrimExpr) -> tuple[Extent, Extent]:
        """Where the vectors of a part begin, and how many elements they have."""
        if self.parts == 1:
            return 0, count
        vectors = tirx.floordiv(emit.integer(count), self.lanes)
        begin, end = (
            emit.let(tirx.floordiv(vectors * each, self.parts)) for each in (part, part + 1)
        )
        return emit.let(begin * self.lanes), emit.let((end - begin) * self.lanes)

    def write(self, out: Buffer, found: _Scale) -> None:
        """Stores all bytes; a division takes longer than three multiplications."""

        def divide(x: PrimExpr) -> PrimExpr:
            return x / emit.broadcast(found.scale, _lanes(x))

        if "fma" not in self.cpu.features:
            self.bytes(out, found, divide)
            return
        usual = tirx.And(found.scale > emit.const(SMALLEST), found.scale < emit.const(LARGEST))
        with T.If(usual):
            with T.Then():
                inverse = emit.let(emit.const(1.0) / found.scale)
                self.bytes(out, found, lambda x: _divided(x, found.scale, inverse))
            with T.Else():
                self.bytes(out, found, divide)

    def bytes(self, out: Buffer, found: _Scale, divide: Callable[[PrimExpr], PrimExpr]) -> None:
        """Stores the bytes of quotients."""
        point = found.point.astype("float32")
        low, high = emit.let(-point), emit.let(emit.const(TOP) - point)
        shift = emit.let(found.point - tirx.const(ROUNDING_BITS, "int32"))

        def visit(offset: PrimExpr, width: int, chain: int, seen: Extent) -> None:
            value = emit.let(divide(emit.let(emit.load(self.flat, [offset], width))))
            limits = (emit.broadcast(limit, width) for limit in (low, high))
            moved = emit.let(_within(value, *limits) + emit.broadcast(emit.const(ROUNDING), width))
            number = tirx.reinterpret(_typed("int32", width), moved) + emit.broadcast(shift, width)
            emit.store(out, number.astype(_typed("uint8", width)), [offset], width)

        if isinstance(self.count, int) and self.count < self.lanes:
            with emit.serial(self.count) as at:
                visit(at, 1, 0, 0)
            return
        with emit.outer_loop(self.parts, parallel=self.parts > 1) as part:
            self.sweep(visit, part)


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


def _divided(x: PrimExpr, scale: PrimExpr, inverse: PrimExpr) -> PrimExpr:
    """The quotient, by the reciprocal of the scale and what that leaves."""
    by, inverse = (emit.broadcast(each, _lanes(x)) for each in (scale, inverse))
    first = emit.let(x * inverse)
    left = emit.let(emit.fma(-first, by, x))
    return emit.fma(left, inverse, first)


def _largest(values: Sequence[PrimExpr], dtype: str) -> PrimExpr:
    """The largest of floats taken for integers."""
    return tirx.reinterpret(
        "float32", reduce(tirx.max, [tirx.reinterpret(dtype, value) for value in values])
    )


def _lanes(value: PrimExpr) -> int:
    return int(str(value.ty).partition("x")[2] or 1)


def _typed(dtype: str, lanes: int) -> str:
    return dtype if lanes == 1 else f"{dtype}x{lanes}"
