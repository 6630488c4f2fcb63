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

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tvm.tirx import PrimFunc

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
C11, C22, C12, C21 = range(4)
SUMS, A11, A22 = 5, 5, 6
Value = Callable[[PrimExpr], PrimExpr]


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
    """One of the seven products: of which pixels, and where it is added.

    Pixels are a number of the sums, or a quarter that may be read where it is. `to` has the sign
    for each quarter of the result, and whether that is complete then.
    """

    pixels: int
    to: tuple[tuple[int, str], ...]


STEPS = (
    Step(0, ((C11, "="),)),
    Step(A11, ((C12, "="), (C22, "C11 +"))),
    Step(1, ((C21, "="), (C22, "-"))),
    Step(3, ((C22, "+!"),)),
    Step(2, ((C12, "+!"), (C11, "-"))),
    Step(A22, ((C21, "+!"), (C11, "+"))),
    Step(4, ((C11, "+!"),)),
)
"""P1, P3, P2, P6, P5, P4, P7. The first is the start of two quarters, and stored once."""


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

    @property
    def factors(self) -> int:
        """How many factors of pixels are made: A11 and A22, too, where pixels are apart."""
        return SUMS if self.spec.window.strides == (1, 1) else SUMS + 2

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
        sums = emit.workspace((self.factors, self.blocks // 2, half, lanes))
        quarters = emit.workspace((4, half, self.spec.panel))
        self.add_pixels(source, sums, half)
        with emit.serial(pairs[1] - pairs[0]) as step:
            pair = emit.let(pairs[0] + step)
            for number, product in enumerate(STEPS):
                read = self.factor(product.pixels, source, sums, half)
                factor = emit.let(pair * PRODUCTS + number)
                panel = emit.integer(0), factor, pair * (self.spec.panel // lanes)
                tile = HalvedTile(self, read, (place[0], first), panel, product, quarters)
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
            made = a11 + a22, a21 + a22, a11 + a12, a21 - a11, a12 - a22, a11, a22
            for number, value in enumerate(made[: self.factors]):
                emit.store(sums, value, [number, block, pixel, 0], lanes)

    def place(self, source: Source, pixel: PrimExpr) -> PrimExpr:
        """Where a pixel of a chunk is read in the first plane."""
        down, right = self.spec.window.strides
        columns = emit.integer(self.columns)
        row, column = tirx.floordiv(pixel, columns), tirx.floormod(pixel, columns)
        return source.start + row * down * source.row + column * (right * self.cpu.lanes)

    def factor(self, pixels: int, source: Source, sums: Buffer, half: int) -> Source:
        """Where a product reads its pixels."""
        lanes, blocks = self.cpu.lanes, self.blocks // 2
        plane = half * lanes
        if pixels >= self.factors:
            below = 0 if pixels == A11 else blocks * source.plane + plane
            return replace(source, start=emit.let(source.start + below), far=False)
        flat = emit.view(sums, (self.factors * blocks * plane,))
        row = emit.product((self.columns, lanes))
        return Source(flat, emit.integer(pixels * blocks * plane), row, plane)


class HalvedTile(Tile):
    """Emits the tiles of one of the seven products."""

    fetched_bytes = FETCHED_BYTES

    def __init__(
        self,
        parent: HalvedEmitter,
        source: Source,
        place: tuple[PrimExpr, PrimExpr],
        panel: tuple[PrimExpr, PrimExpr, PrimExpr],
        product: Step,
        quarters: Buffer,
    ) -> None:
        lanes = parent.cpu.lanes
        super().__init__(parent, source, place, panel, [lanes] * (parent.spec.panel // lanes))
        self.spec, self.product, self.quarters = parent.half_spec, product, quarters
        self.half = quarters.shape[1]

    def finish(self, sums: list[list[Register]], at: Pixels) -> None:
        """Adds a tile to its quarters of the result, and stores those that are complete."""
        for pixel, row in enumerate(sums):
            for vector, register in enumerate(row):
                for quarter, how in self.product.to:
                    self.add(register, (quarter, how), at.start + pixel, vector)
        for quarter, how in self.product.to:
            if "!" in how and self.parent.long:
                with emit.serial(at.count) as pixel:
                    for vector in range(self.vectors):
                        self.complete_one(quarter, emit.let(at.start + pixel), vector)

    def add(self, register: Register, to: tuple[int, str], pixel: PrimExpr, vector: int) -> None:
        """Adds a vector to a quarter, or takes it from there."""
        (quarter, how), lanes = to, self.lanes
        place, value = [pixel, vector * lanes], register.get()
        if how != "=":
            before = emit.load(self.quarters, [C11 if "C11" in how else quarter, *place], lanes)
            value = before - value if how == "-" else before + value
        if "!" in how and not self.parent.long:
            done = Register(lanes)
            done.set(value)
            self.write(quarter, pixel, vector, done.lane)
            return
        emit.store(self.quarters, value, [quarter, *place], lanes)

    def complete_one(self, quarter: int, pixel: PrimExpr, vector: int) -> None:
        """Stores a vector of the result that is complete in its quarter."""
        start = vector * self.lanes
        self.write(
            quarter, pixel, vector,
            lambda lane: emit.load(self.quarters, [quarter, pixel, start + lane]),
        )  # fmt: skip

    def write(self, quarter: int, pixel: PrimExpr, vector: int, value: Value) -> None:
        """Stores a vector of the result through the epilogue."""
        blocks = self.spec.weight.filters // self.lanes
        block = self.block + vector + (blocks if quarter in (C12, C22) else 0)
        below = self.half if quarter in (C21, C22) else 0
        row, column = (emit.let(i) for i in self.position(pixel + below))
        index = [self.image, block, self.first + row, column]
        self.parent.out.put(
            index, self.lanes, lambda lane: self.result(value(lane), [*index, lane])
        )
