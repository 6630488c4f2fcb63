# pyright: standard
"""Pointwise convolutions through fewer products: one step of Strassen's algorithm.

Pixels, channels and filters are taken in halves, and of the eight products of these seven are
computed, of sums of them (Strassen, Gaussian Elimination is not Optimal, 1969):

    P1 = (A11 + A22) (B11 + B22)   P2 = (A21 + A22) B11   P3 = A11 (B12 - B22)
    P4 = A22 (B21 - B11)           P5 = (A11 + A12) B22   P6 = (A21 - A11) (B11 + B12)
    P7 = (A12 - A22) (B21 + B22)
    C11 = P1 + P4 - P5 + P7   C12 = P3 + P5   C21 = P2 + P4   C22 = P1 + P3 - P2 + P6

A are pixels by channels, B channels by filters. The sums of weights are packed; those of pixels are
made once for a chunk, and the quarters of the result stay in the cache until they are complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.conv import Emitter, Place, Source, conv
from leptonc.backends.cpu.conv_spec import ConvSpec
from leptonc.backends.cpu.conv_tile import Pixels, Tile
from leptonc.backends.cpu.emit import Register
from leptonc.backends.cpu.halved_packing import PRODUCTS, half_of, halved_weight_shape
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.cpu.window import Window
from leptonc.backends.tvm.binding import Buffer, PrimExpr, tirx

# Smaller weights arrive in time by themselves. Each factor is read for half of the pixels alone:
# ResNet-50 takes 0.99 of the time that it takes with the bytes of a direct convolution, 2 MB.
FETCHED_BYTES = 384 * 1024
Value = Callable[[PrimExpr], PrimExpr]
Position = tuple[PrimExpr, PrimExpr]
"""A vector of a quarter: its pixel and its first filter."""


@dataclass(frozen=True)
class HalvedConvSpec(ConvSpec):
    """A pointwise `ConvSpec` whose channels and filters are twice whole blocks and panels.

    Its extents are known, and the columns of its outputs even: each band of rows has halves.
    """

    @property
    def packed_shape(self) -> tuple[int, ...]:
        """The shape of the packed weight."""
        return halved_weight_shape(self.weight, self.panel)


@dataclass(frozen=True)
class Step:
    """One of the seven products: the quarter that it is added to first, and another.

    The first is then complete where it is not `new`. The other becomes the sum, or the difference,
    of what is in a quarter and the product.
    """

    to: int
    new: bool = False
    other: tuple[int, int, float] | None = None


C11, C21, C12, C22 = range(4)
"""The quarters of the result: bit 0 are the lower pixels, bit 1 the further filters."""

STEPS = (
    Step(C11, new=True),
    Step(C12, new=True, other=(C22, C11, 1.0)),
    Step(C21, new=True, other=(C22, C22, -1.0)),
    Step(C22),
    Step(C12, other=(C11, C11, -1.0)),
    Step(C21, other=(C11, C11, 1.0)),
    Step(C11),
)
"""P1, P3, P2, P6, P5, P4, P7. The first is the start of two quarters, and stored once."""


def of_step(number: PrimExpr, facts: Sequence[int]) -> PrimExpr:
    """The fact of a step that is not known here: numbers below four, by twos of bits."""
    table = sum(fact << 2 * place for place, fact in enumerate(facts))
    return emit.let((emit.integer(table) >> (number * 2)) & emit.integer(3))


def halved_conv(name: str, spec: HalvedConvSpec, cpu: CpuTarget) -> PrimFunc:
    """The kernel (x, weight, bias?, *operands, out)."""
    return conv(name, spec, cpu, HalvedEmitter)


class HalvedEmitter(Emitter):
    """Emits chunks of pixels in halves, and of each all pairs of panels."""

    def __init__(self, spec: ConvSpec, cpu: CpuTarget, buffers: Sequence[Buffer]) -> None:
        super().__init__(spec, cpu, buffers)
        panels, products, *panel = self.weight.shape
        self.weight = emit.view(self.weight, (panels * products, *panel))
        self.half_spec = replace(spec, weight=half_of(spec.weight), window=Window((1, 1)))
        self.pairs = halved_weight_shape(spec.weight, spec.panel)[0]

    def depth_parts(self, pixels: int) -> int:
        """One: halves of the depth are few enough."""
        return 1

    def panels(self, source: Source, place: Place) -> None:
        """All tiles of a chunk, for all pairs of panels."""
        self.some_pairs(source, place, (emit.integer(0), emit.integer(self.pairs)))

    def share_of_filters(self, place: Place, part: PrimExpr) -> None:
        """All tiles of a chunk for the pairs of panels of one thread."""
        threads = self.cpu.threads
        begin, end = (tirx.floordiv(each * self.pairs, threads) for each in (part, part + 1))
        self.some_pairs(self.source(*place), place, (emit.let(begin), emit.let(end)))

    def some_pairs(self, source: Source, place: Place, pairs: tuple[PrimExpr, PrimExpr]) -> None:
        """All tiles of a chunk, for some pairs of panels."""
        _, first, height = place
        assert isinstance(height, int)
        assert isinstance(self.columns, int)
        lanes, half = self.cpu.lanes, height * self.columns // 2
        sums = emit.workspace((PRODUCTS, self.blocks // 2, half, lanes))
        quarters = emit.workspace((4, half, self.spec.panel))
        self.add_pixels(source, sums, half)
        plane = half * lanes
        size = self.blocks // 2 * plane
        flat, row = emit.view(sums, (PRODUCTS * size,)), emit.product((self.columns, lanes))
        with emit.serial(pairs[1] - pairs[0]) as step, emit.serial(PRODUCTS) as each:
            # one body: seven would take seven times as long to compile
            pair, number = emit.let(pairs[0] + step), emit.let(each)
            read = Source(flat, emit.let(number * size), row, plane)
            factor = emit.let(pair * PRODUCTS + number)
            panel = emit.integer(0), factor, pair * (self.spec.panel // lanes)
            tile = HalvedTile(self, read, (place[0], first), panel, number, quarters)
            self.each_tile(half, tile.emit)

    def add_pixels(self, source: Source, sums: Buffer, half: int) -> None:
        """The sums of the quarters of a chunk that are multiplied."""
        lanes, blocks = self.cpu.lanes, self.blocks // 2
        with emit.serial(blocks) as block, emit.serial(half) as pixel:
            upper, lower = (emit.let(self.place(source, p)) for p in (pixel, pixel + half))
            (a11, a12), (a21, a22) = (
                [
                    emit.let(emit.load(source.data, [place + plane * source.plane], lanes))
                    for plane in (block, block + blocks)
                ]
                for place in (upper, lower)
            )
            made = a11 + a22, a11, a21 + a22, a21 - a11, a11 + a12, a22, a12 - a22
            for number, value in enumerate(made):
                emit.store(sums, value, [number, block, pixel, 0], lanes)

    def place(self, source: Source, pixel: PrimExpr) -> PrimExpr:
        """Where a pixel of a chunk is read in the first plane."""
        down, right = self.spec.window.strides
        columns = emit.integer(self.columns)
        row, column = tirx.floordiv(pixel, columns), tirx.floormod(pixel, columns)
        return source.start + row * down * source.row + column * (right * self.cpu.lanes)


class HalvedTile(Tile):
    """Emits the tiles of one of the seven products."""

    fetched_bytes = FETCHED_BYTES

    def __init__(
        self,
        parent: HalvedEmitter,
        source: Source,
        place: tuple[PrimExpr, PrimExpr],
        panel: tuple[PrimExpr, PrimExpr, PrimExpr],
        number: PrimExpr,
        quarters: Buffer,
    ) -> None:
        lanes = parent.cpu.lanes
        super().__init__(parent, source, place, panel, [lanes] * (parent.spec.panel // lanes))
        self.spec, self.number, self.quarters = parent.half_spec, number, quarters
        self.half = quarters.shape[1]

    def finish(self, sums: list[list[Register]], at: Pixels) -> None:
        """Adds a tile to its quarters of the result, and stores that which is complete."""
        to = of_step(self.number, [step.to for step in STEPS])
        is_new = of_step(self.number, [int(step.new) for step in STEPS])
        has_other = of_step(self.number, [int(step.other is not None) for step in STEPS])
        with T.If(is_new > 0):
            with T.Then():
                for register, place in self.placed(sums, at):
                    emit.store(self.quarters, register.get(), [to, *place], self.lanes)
            with T.Else():
                self.complete_quarter(sums, at, to)
        with T.If(has_other > 0), T.Then():
            self.add_other(sums, at)

    def placed(self, sums: list[list[Register]], at: Pixels) -> Iterator[tuple[Register, Position]]:
        """The vectors of a tile, with where they are in a quarter."""
        for pixel, row in enumerate(sums):
            for vector, register in enumerate(row):
                yield register, (at.start + pixel, emit.integer(vector * self.lanes))

    def add_other(self, sums: list[list[Register]], at: Pixels) -> None:
        """Adds a tile to the quarter that is its second."""
        others = [step.other or (0, 0, 0.0) for step in STEPS]
        to = of_step(self.number, [quarter for quarter, _, _ in others])
        before = of_step(self.number, [quarter for _, quarter, _ in others])
        is_less = of_step(self.number, [int(sign < 0) for _, _, sign in others])
        sign = emit.let(tirx.Select(is_less > 0, emit.const(-1.0), emit.const(1.0)))
        signs = emit.let(emit.broadcast(sign, self.lanes))
        for register, place in self.placed(sums, at):
            value = emit.load(self.quarters, [before, *place], self.lanes)
            value = emit.fma(signs, register.get(), value)
            emit.store(self.quarters, value, [to, *place], self.lanes)

    def complete_quarter(self, sums: list[list[Register]], at: Pixels, to: PrimExpr) -> None:
        """Adds a tile to a quarter and stores that through the epilogue."""
        for register, place in self.placed(sums, at):
            value = emit.load(self.quarters, [to, *place], self.lanes) + register.get()
            if self.parent.long:
                emit.store(self.quarters, value, [to, *place], self.lanes)
                continue
            done = Register(self.lanes)
            done.set(value)
            self.write(to, place, done.lane)
        if self.parent.long:
            with emit.serial(at.count) as pixel:
                for vector in range(self.vectors):
                    place = emit.let(at.start + pixel), emit.integer(vector * self.lanes)
                    self.write(to, place, self.in_quarter(to, place))

    def in_quarter(self, quarter: PrimExpr, place: Position) -> Value:
        """The lanes of a vector of a quarter."""
        pixel, start = place
        return lambda lane: emit.load(self.quarters, [quarter, pixel, start + lane])

    def write(self, quarter: PrimExpr, place: Position, value: Value) -> None:
        """Stores a vector of the result through the epilogue."""
        pixel, start = place
        blocks = self.spec.weight.filters // self.lanes
        block = self.block + tirx.floordiv(start, self.lanes) + (quarter >> 1) * blocks
        row, column = self.position(emit.let(pixel + (quarter & 1) * self.half))
        index = [self.image, emit.let(block), emit.let(self.first + row), emit.let(column)]
        self.parent.out.put(
            index, self.lanes, lambda lane: self.result(value(lane), [*index, lane])
        )
