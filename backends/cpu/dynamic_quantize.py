# pyright: standard
"""Tensors as bytes by their own range: one sweep for the range, one for the bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.dynamic_scale import (
    LARGEST,
    MIDDLE,
    ROUNDING,
    ROUNDING_BITS,
    SMALLEST,
    TOP,
    Extreme,
    Scale,
    divided,
    lanes_of,
    largest,
    saturated,
    scale_of,
    typed,
    within,
)
from leptonc.backends.cpu.emit import Extent, Shape
from leptonc.backends.cpu.sweep import sweep, whole_vectors
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.tvm.binding import Buffer, PrimExpr, tirx

SHARED = 1 << 17
"""From so many elements on threads share them: one takes 17 us for these, waking another 5."""

# `visit(value, offset, count, chain)`: so many elements that begin at `offset`.
Visitor = Callable[[PrimExpr, PrimExpr, int, int], None]


@dataclass(frozen=True)
class DynamicSpec:
    """Bytes, scale and zero point of x; of `channels` in blocks of its last axis, if not zero."""

    shape: Shape
    channels: int = 0


@dataclass(frozen=True)
class DynamicBuffers:
    """The operand, of the results those that are asked for, and what x is multiplied by.

    That is a number for each channel of an image, where x is in blocks.
    """

    x: Buffer
    y: Buffer | None
    scale: Buffer | None
    point: Buffer | None
    factor: Buffer | None = None


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
        self.factor = None
        if buffers.factor is not None:
            self.factor = emit.view(buffers.factor, (emit.product(buffers.factor.shape),))

    def emit(self) -> None:
        """Emits the whole kernel."""
        found = scale_of(*self.range())
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
            emit.let(largest([emit.load(found, [kind, part]) for part in range(self.parts)], dtype))
            for kind, dtype in enumerate(("uint32", "int32"))
        )
        return low, high

    def extremes(self, part: PrimExpr) -> list[PrimExpr]:
        """Those of a part."""
        kinds = ("uint32", -0.0), ("int32", 0.0)
        folds = [Extreme(self.lanes, dtype, start) for dtype, start in kinds]

        def take(value: PrimExpr, width: int, chain: int) -> None:
            kept = emit.let(value)
            for fold in folds:
                fold.take(kept, width, chain)

        self.read(take, part)
        return [fold.total() for fold in folds]

    def read(self, take: Callable[..., None], part: PrimExpr) -> None:
        """Visits all elements of a part but those that fill up a last block."""
        used = self.spec.channels % self.lanes

        def visit(value: PrimExpr, offset: PrimExpr, width: int, chain: int) -> None:
            take(value, width, chain)

        def visit_last(value: PrimExpr, offset: PrimExpr, width: int, chain: int) -> None:
            lane = tirx.Ramp(tirx.const(0, "int32"), tirx.const(1, "int32"), width)
            inside = lane < tirx.Broadcast(tirx.const(used, "int32"), width)
            # zero belongs to the range anyway
            take(tirx.Select(inside, value, emit.broadcast(emit.const(0.0), width)), width, chain)

        if not used and self.factor is None:
            self.sweep(visit, part)
        else:
            self.planes(visit, part, visit_last if used else visit)

    def planes(self, visit: Visitor, part: PrimExpr, visit_last: Visitor) -> None:
        """Visits blocked elements of a part, plane by plane, in the last ones of an image apart."""
        batch, blocks, *pixels = self.spec.shape
        plane, lanes = emit.product(pixels), self.lanes
        begin, length = self.share(plane, part)
        with emit.serial(emit.product((batch, blocks))) as place:
            start = emit.let(place * emit.integer(plane) + begin)
            factor = self.factor_of(place)

            def each(visit: Visitor) -> None:
                def one(offset: PrimExpr, width: int, chain: int, seen: Extent) -> None:
                    value = emit.load(self.flat, [start + offset], width)
                    value = value if factor is None else value * factor
                    visit(emit.let(value), start + offset, width, chain)

                whole_vectors(length, lanes, one)

            if visit is visit_last:
                each(visit)
                return
            with T.If(tirx.floormod(place, emit.integer(blocks)) < emit.integer(blocks) - 1):
                with T.Then():
                    each(visit)
                with T.Else():
                    each(visit_last)

    def factor_of(self, place: PrimExpr) -> PrimExpr | None:
        """What the elements of a plane are multiplied by."""
        if self.factor is None:
            return None
        return emit.let(emit.load(self.factor, [place * self.lanes], self.lanes))

    def sweep(self, visit: Visitor, part: PrimExpr) -> None:
        """Visits the elements of a part; what is behind the last vector is in all of them."""
        count, lanes = self.count, self.lanes

        def one(offset: PrimExpr, width: int, chain: int, seen: Extent) -> None:
            visit(emit.let(emit.load(self.flat, [offset], width)), offset, width, chain)

        if self.parts == 1:
            if not (isinstance(count, int) and count == 0):
                sweep(count, lanes, one)
            return
        begin, length = self.share(count, part)
        whole_vectors(length, lanes, lambda offset, *rest: one(begin + offset, *rest))
        one(emit.integer(count) - lanes, lanes, 0, 0)

    def share(self, count: Extent, part: PrimExpr) -> tuple[Extent, Extent]:
        """Where the vectors of a part begin, and how many elements they have."""
        if self.parts == 1:
            return 0, count
        vectors = tirx.floordiv(emit.integer(count), self.lanes)
        begin, end = (
            emit.let(tirx.floordiv(vectors * each, self.parts)) for each in (part, part + 1)
        )
        return emit.let(begin * self.lanes), emit.let((end - begin) * self.lanes)

    def write(self, out: Buffer, found: Scale) -> None:
        """Stores all bytes; a division takes longer than three multiplications."""

        def divide(x: PrimExpr) -> PrimExpr:
            return x / emit.broadcast(found.scale, lanes_of(x))

        if "fma" not in self.cpu.features:
            self.bytes(out, found, divide)
            return
        usual = tirx.And(found.scale > emit.const(SMALLEST), found.scale < emit.const(LARGEST))
        with T.If(usual):
            with T.Then():
                inverse = emit.let(emit.const(1.0) / found.scale)
                self.bytes(out, found, lambda x: divided(x, found.scale, inverse), usual=True)
            with T.Else():
                self.bytes(out, found, divide)

    def bytes(
        self, out: Buffer, found: Scale, divide: Callable[[PrimExpr], PrimExpr], *,
        usual: bool = False,
    ) -> None:  # fmt: skip
        """Stores the bytes of quotients; usual ones are limited when they are integers."""
        point = found.point.astype("float32")
        low, high = emit.let(-point), emit.let(emit.const(TOP) - point)
        less = ROUNDING_BITS + (MIDDLE if usual else 0)
        shift = emit.let(found.point - tirx.const(less, "int32"))

        def visit(value: PrimExpr, offset: PrimExpr, width: int, chain: int) -> None:
            value = emit.let(divide(value))
            if not usual:
                value = within(value, *(emit.broadcast(limit, width) for limit in (low, high)))
            moved = emit.let(value + emit.broadcast(emit.const(ROUNDING), width))
            number = tirx.reinterpret(typed("int32", width), moved) + emit.broadcast(shift, width)
            stored = saturated(number, width) if usual else number.astype(typed("uint8", width))
            emit.store(out, stored, [offset], width)

        if isinstance(self.count, int) and self.count < self.lanes:
            with emit.serial(self.count) as at:
                visit(emit.let(emit.load(self.flat, [at])), at, 1, 0)
            return
        with emit.outer_loop(self.parts, parallel=self.parts > 1) as part:
            if self.factor is None:
                self.sweep(visit, part)
            else:
                self.planes(visit, part, visit)
