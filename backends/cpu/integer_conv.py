# pyright: standard
"""Direct convolution of bytes over blocks of channels, exact in 32 bits.

As `conv`, but that a step multiplies four channels of a pixel: what is a float there is a number
with four bytes here. What products of bytes need of their weights is said in `integer_matmul`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import ClassVar

from tvm.tirx import PrimFunc

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.conv import Emitter
from leptonc.backends.cpu.conv_spec import ConvSpec
from leptonc.backends.cpu.conv_tile import Pixels, Tile
from leptonc.backends.cpu.emit import Register, Shape
from leptonc.backends.cpu.integer_packing import integer_weight_shape
from leptonc.backends.cpu.integer_steps import IntegerProducts
from leptonc.backends.cpu.packing import channel_blocks
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.cpu.tiles import integer_tile_rows
from leptonc.backends.tvm.binding import Buffer, PrimExpr, tirx

# The bytes that one step multiplies.
TOGETHER = 4


@dataclass(frozen=True)
class IntegerConvSpec(ConvSpec):
    """`out[n, o, h, w, lane] = epilogue(sum of x times weight)`, sums in 32 bits.

    x is u8[batch, C / lanes, height, width, lanes], or u8[batch, C, height, width] of a plain
    convolution, whose blocks have four channels; around it stands `filler`. The weight is that of a
    product whose depth is in the order in which the input is read, whole blocks of channels:
    `integer_packing.ByteWeight`, with its `extra` steps and `folds`. If `centred`, the bytes are
    less a zero point that run time knows, and zeros stand around them: the sums begin with what
    that takes from them, of the sums of the filters.
    """

    filler: int = 0
    extra: int = 0
    folds: int = 1
    centred: bool = False

    element_bytes: ClassVar[int] = 1
    halves: ClassVar[bool] = False

    def block(self, cpu: CpuTarget) -> int:
        """The channels of a block."""
        return TOGETHER if self.weight.plain else cpu.lanes

    def weight_shape(self, cpu: CpuTarget) -> tuple[int, int, int, int]:
        """The shape of the packed weight."""
        block, sizes = self.block(cpu), self.weight
        depth = channel_blocks(sizes.channels, block) * block * math.prod(sizes.kernel)
        return integer_weight_shape(depth, sizes.filters, self.panel, TOGETHER)


def integer_conv(name: str, spec: IntegerConvSpec, cpu: CpuTarget) -> PrimFunc:
    """The kernel (x, weight, point?, extra?, places?, starts?, whole?, *operands, out)."""
    blocks = channel_blocks(spec.weight.channels, cpu.lanes)
    shape = (spec.batch, blocks, spec.height, spec.width, cpu.lanes)
    return integer_function(name, spec, cpu, shape, IntegerEmitter)


def integer_function(
    name: str, spec: IntegerConvSpec, cpu: CpuTarget, inputs: Shape, emitter: type[IntegerEmitter]
) -> PrimFunc:
    """The kernel of a convolution that reads bytes of this shape."""
    sizes, lanes, shape = spec.weight, cpu.lanes, spec.weight_shape(cpu)
    extra = [
        ("extra", (spec.extra, spec.panel, TOGETHER), "int8"),
        ("places", (spec.extra,), "int32"),
        ("starts", (shape[0] + 1,), "int32"),
    ]
    blocks = channel_blocks(sizes.filters, lanes)
    outputs = (spec.batch, blocks, *spec.out_extents(), lanes)
    point, whole = [("point", (), "uint8")], [("whole", (blocks * lanes,), "int32")]
    parameters = [
        ("x", inputs, "uint8"),
        ("weight", shape, "int8"),
        *(point if spec.centred else ()),
        *(extra if spec.extra else ()),
        *(whole if spec.centred else ()),
        *spec.epilogue.parameters(),
        ("out", outputs, spec.out_dtype),
    ]
    return emit.function(name, parameters, lambda *given: emitter(spec, cpu, given).emit())


class _Tile(Tile):
    """A register tile whose steps multiply four channels."""

    def emit(self, at: Pixels) -> None:
        """One whole tile."""
        sums, bases = self.registers(at), self.bases(at)
        for row in sums:
            for register, start in zip(row, self.starts(), strict=True):
                register.set(start)
        with emit.serial(self.parent.blocks) as block:
            if self.streams:
                size = at.count * self.parent.inner
                self.fetch_ahead(bases[0] + block * self.source.plane, size)
            self.fetch_weights(at, block)
            self.block_products(sums, bases, block, self.parent.inner)
        self.finish_sums(sums, bases, at)

    def clear(self, memory: Buffer, at: Pixels) -> None:
        """The sums of a tile in memory are what they begin with."""
        starts = self.starts()
        for pixel in range(at.count):
            for v, start in enumerate(starts):
                place = [at.start + pixel, v * self.lanes]
                emit.store(memory, start, place, self.lanes)

    def starts(self) -> list[PrimExpr]:
        """What the sums of each vector of filters begin with."""
        assert isinstance(self.parent, IntegerEmitter)
        centre, lanes = self.parent.centre, self.lanes
        if centre is None:
            return [self.zeros(lanes)] * self.vectors
        point, whole = centre
        less = emit.broadcast(-tirx.BufferLoad(point, []).astype("int32"), lanes)
        return [
            emit.let(emit.load(whole, [(self.block + v) * lanes], lanes) * less)
            for v in range(self.vectors)
        ]

    def complete(self, memory: Buffer, at: Pixels) -> None:
        """Stores a tile whose sums are in memory."""
        self.finish_sums(self.loaded(memory, at), self.bases(at), at)

    def finish_sums(
        self, sums: list[list[Register]], bases: Sequence[PrimExpr], at: Pixels
    ) -> None:
        """Adds what no byte of the weight holds, and stores a tile."""
        if self.parent.extra:
            self.extra_products(sums, bases)
        self.finish(sums, at)

    def block_products(
        self, sums: list[list[Register]], bases: Sequence[PrimExpr], block: PrimExpr, channels: int
    ) -> None:
        """Adds the products of one input block."""
        spec, steps = self.integer_spec, channels // TOGETHER
        height, width = spec.weight.kernel
        (down, right), source = spec.window.dilations, self.source
        with emit.serial(height) as row, emit.serial(width) as column:
            offset = block * source.plane + row * down * source.row + column * right * channels
            first = ((block * height + row) * width + column) * steps
            for start in range(0, steps, spec.folds):
                places = [offset + (start + fold) * TOGETHER for fold in range(spec.folds)]
                weights = [
                    [self.weights(first + start + fold, v) for fold in range(spec.folds)]
                    for v in range(self.vectors)
                ]
                self.steps(sums, bases, places, weights)

    def steps(
        self,
        sums: list[list[Register]],
        bases: Sequence[PrimExpr],
        places: Sequence[PrimExpr],
        weights: Sequence[Sequence[PrimExpr]],
    ) -> None:
        """Adds the products of some steps, in 16 bits first where there are several."""
        products, lanes = IntegerProducts(self.parent.cpu), self.lanes
        for row, base in zip(sums, bases, strict=True):
            values = [emit.broadcast(self.pixel(base + place), lanes) for place in places]
            for register, column in zip(row, weights, strict=True):
                if len(values) == 1:
                    register.set(products.add_bytes(values[0], column[0], register.get()))
                    continue
                parts = map(products.multiply_bytes, values, column)
                register.set(register.get() + products.widen(reduce(add, parts)))

    def extra_products(self, sums: list[list[Register]], bases: Sequence[PrimExpr]) -> None:
        """Adds the products of the extra steps of the panel."""
        (weights, places, starts), inner = self.parent.extra, self.parent.inner
        (height, width), (down, right) = self.spec.weight.kernel, self.spec.window.dilations
        size = self.lanes * TOGETHER
        flat = emit.view(weights, (self.integer_spec.extra, self.spec.panel * TOGETHER))
        first, end = (
            emit.let(emit.load(starts, [self.panel + at]).astype("int64")) for at in (0, 1)
        )
        with emit.serial(end - first) as step:
            place = emit.let(emit.load(places, [first + step]).astype("int64"))
            tap, channel = tirx.truncdiv(place, inner), tirx.truncmod(place, inner)
            line, column = tirx.truncdiv(tap, width), tirx.truncmod(tap, width)
            block, row = tirx.truncdiv(line, height), tirx.truncmod(line, height)
            offset = block * self.source.plane + row * down * self.source.row
            offset = emit.let(offset + column * (right * inner) + channel)
            found = [[emit.load(flat, [first + step, v * size], size)] for v in range(self.vectors)]
            self.steps(sums, bases, [offset], found)

    def pixel(self, place: PrimExpr) -> PrimExpr:
        """Four channels, as the parts of one number."""
        return tirx.reinterpret("int32", emit.load(self.source.data, [place], TOGETHER))

    def weights(self, step: PrimExpr, vector: int) -> PrimExpr:
        """The weights of one vector of filters."""
        size = self.lanes * TOGETHER
        at = step * (self.spec.panel * TOGETHER) + vector * size
        return emit.load(self.parent.weight, [self.panel, emit.integer(0), at], size)

    @property
    def integer_spec(self) -> IntegerConvSpec:
        """What is emitted."""
        assert isinstance(self.spec, IntegerConvSpec)
        return self.spec


class IntegerEmitter(Emitter):
    """Emits one convolution of bytes."""

    sums = "int32"
    tile = _Tile

    def __init__(self, spec: IntegerConvSpec, cpu: CpuTarget, buffers: Sequence[Buffer]) -> None:
        super().__init__(spec, cpu, buffers)
        self.filler = spec.filler
        self.centre = (self.extra.pop(0), self.extra.pop()) if spec.centred else None
        self.inner = spec.block(cpu)
        self.blocks = channel_blocks(spec.weight.channels, self.inner)
        panels, steps, panel, together = spec.weight_shape(cpu)
        self.weight = emit.view(self.weight, (panels, 1, steps * panel * together))

    def tile_rows(self, vectors: int) -> int:
        """The pixels of the largest tile of so many vectors."""
        return integer_tile_rows(vectors, TOGETHER, self.cpu)

    @property
    def pad(self) -> PrimExpr:
        """What stands around the input."""
        if self.centre is not None:
            return tirx.BufferLoad(self.centre[0], [])
        return tirx.const(self.filler, "uint8")
