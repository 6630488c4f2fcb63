# pyright: standard
"""Direct convolution of pairs of bf16 over blocks of channels, with sums of fp32.

As `conv`, but that a step multiplies two channels of a pixel, or two columns of a plain image. Each
chunk of the input is rounded to bf16 where it is copied, once for all filters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tvm.tirx import PrimFunc

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.bf16_packing import TOGETHER, bf16_conv_weight_shape, in_pairs
from leptonc.backends.cpu.conv import Emitter, Source
from leptonc.backends.cpu.conv_spec import ConvSpec
from leptonc.backends.cpu.conv_tile import Pixels, Tile
from leptonc.backends.cpu.emit import Extent, Register
from leptonc.backends.cpu.instructions import as_bf16, pairs_of_bf16, with_bf16
from leptonc.backends.cpu.packing import channel_blocks
from leptonc.backends.cpu.short_floats import as_bits
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.tvm.binding import Buffer, PrimExpr, tirx


@dataclass(frozen=True)
class Bf16ConvSpec(ConvSpec):
    """As `ConvSpec`, of operands that are rounded to bf16.

    The channels of a group are a multiple of two, or the columns of a plain convolution follow each
    other. The weight holds the bits of bf16, packed by `bf16_packing.pack_bf16_conv_weight`.
    """

    element_bytes: ClassVar[int] = 2

    x_dtype: str = "float32"
    """That of the input, or bf16 where it is rounded already."""


def bf16_conv(name: str, spec: Bf16ConvSpec, cpu: CpuTarget) -> PrimFunc:
    """The kernel (x, weight, bias?, *operands, out)."""
    sizes, lanes = spec.weight, cpu.lanes
    blocks = channel_blocks(sizes.filters, lanes)
    channels = channel_blocks(sizes.channels, lanes)
    blocked = (spec.batch, channels, spec.height, spec.width, lanes)
    plain = (spec.batch, sizes.channels, spec.height, spec.width)
    parameters = [
        ("x", plain if sizes.plain else blocked, spec.x_dtype),
        ("weight", bf16_conv_weight_shape(sizes, spec.panel), "uint16"),
        *([("bias", (blocks * lanes,), "float32")] if spec.bias else []),
        *spec.epilogue.parameters(),
        ("out", (spec.batch, blocks, *spec.out_extents(), lanes), spec.out_dtype),
    ]

    def body(*buffers: Buffer) -> None:
        with with_bf16(cpu):
            _Emitter(spec, cpu, buffers).emit()

    return emit.function(name, parameters, body)


class _Tile(Tile):
    """A register tile whose steps multiply two channels."""

    def block_products(
        self, sums: list[list[Register]], bases: Sequence[PrimExpr], block: PrimExpr, channels: int
    ) -> None:
        """Adds the products of some channels of one input block."""
        (height, width), inner = self.spec.weight.kernel, self.parent.inner
        (down, right), source = self.spec.window.dilations, self.source
        with emit.serial(height) as row, emit.serial(width) as column:
            offset = block * source.plane + row * down * source.row + column * right * inner
            tap = row * width + column
            first = block * (height * width * inner // TOGETHER) + tap * (channels // TOGETHER)
            with emit.serial(channels // TOGETHER) as pair:
                places = [base + offset + pair * TOGETHER for base in bases]
                self.step(sums, places, first + pair)

    def emit(self, at: Pixels) -> None:
        """One whole tile; that of an image is one loop over all pairs of columns.

        Of loops in each other the inner ones, of a few steps, would be unrolled, and what they keep
        in registers would not stay there.
        """
        if not self.spec.weight.plain:
            super().emit(at)
            return
        height, width = in_pairs(self.spec.weight).kernel
        down, source, pairs = self.spec.window.dilations[0], self.source, width // TOGETHER
        sums, bases = self.registers(at), self.bases(at)
        for register in (r for row in sums for r in row):
            register.set(self.zeros(register.lanes))
        with emit.serial(self.spec.weight.channels * height * pairs) as step:
            line, pair = tirx.floordiv(step, pairs), tirx.floormod(step, pairs)
            channel, row = tirx.floordiv(line, height), tirx.floormod(line, height)
            offset = channel * source.plane + row * down * source.row + pair * TOGETHER
            offset = emit.let(offset)
            self.step(sums, [base + offset for base in bases], step)
        self.finish(sums, at)

    def step(
        self, sums: list[list[Register]], places: Sequence[PrimExpr], product: PrimExpr
    ) -> None:
        """Adds two products to every accumulator."""
        weight, size = self.parent.weight, self.lanes * TOGETHER
        filters = [
            tirx.reinterpret(
                f"int32x{width}",
                emit.load(weight, [self.panel, product, v * size], width * TOGETHER),
            )
            for v, width in enumerate(self.widths)
        ]
        for row, place in zip(sums, places, strict=True):
            pair = tirx.reinterpret("int32", emit.load(self.source.data, [place], TOGETHER))
            for register, column in zip(row, filters, strict=True):
                value = emit.broadcast(pair, register.lanes)
                register.set(pairs_of_bf16(self.parent.cpu, register.get(), value, column))


class _Emitter(Emitter):
    """Emits one convolution of pairs of bf16."""

    tile = _Tile
    copied = "uint16"

    def __init__(self, spec: Bf16ConvSpec, cpu: CpuTarget, buffers: Sequence[Buffer]) -> None:
        super().__init__(spec, cpu, buffers)
        self.x = as_bits(self.x)
        panels, steps, panel, together = bf16_conv_weight_shape(spec.weight, spec.panel)
        self.weight = emit.view(self.weight, (panels, steps, panel * together))
        # the last pair of columns may have one that no window reads, times zero
        self.copied_columns += in_pairs(spec.weight).kernel[1] - spec.weight.kernel[1]

    @property
    def pad(self) -> PrimExpr:
        """What stands around the input."""
        return tirx.const(0, "uint16")

    def source(self, image: PrimExpr, first: PrimExpr, height: Extent) -> Source:
        """A copy of the chunk with what pads it has, unless it is rounded and has none."""
        if self.x.dtype == self.copied and not self.spec.window.is_padded:
            return self.direct(image, first)
        return self.padded(image, first, height)

    def copied_row(
        self,
        copy: Buffer,
        x: Buffer,
        index: tuple[PrimExpr, PrimExpr, PrimExpr],
        source_row: PrimExpr,
        width: Extent,
    ) -> None:
        """One row of the copy; of a plain input whole vectors of columns, then the others."""
        if not self.spec.weight.plain:
            super().copied_row(copy, x, index, source_row, width)
            return
        (image, block, row), left, lanes = index, self.spec.window.pads[1], self.cpu.lanes
        target = emit.view(copy, copy.shape[:3])
        used = tirx.min(emit.integer(self.spec.width), emit.integer(width - left))
        whole = emit.let(tirx.floordiv(used, lanes) * lanes)

        def move(column: PrimExpr, count: int) -> None:
            value = emit.load(self.x, [image, block, source_row, column], count)
            emit.store(target, self.taken(value), [block, row, column + left], count)

        for column in range(left):
            emit.store(target, self.pad, [block, row, column])
        with emit.serial(tirx.floordiv(used, lanes)) as step:
            move(step * lanes, lanes)
        with emit.serial(used - whole) as column:
            move(whole + column, 1)
        with emit.serial(width - left - used) as column:
            emit.store(target, self.pad, [block, row, column + left + used])

    def taken(self, value: PrimExpr) -> PrimExpr:
        """What the copy holds of some channels."""
        return value if self.x.dtype == self.copied else as_bf16(self.cpu, value)
