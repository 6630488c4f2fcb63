# pyright: standard
"""Direct convolution of pairs of bf16 over blocks of channels, with sums of fp32.

As `conv`, but that a step multiplies two channels of a pixel. Each chunk of the input is rounded to
bf16 where it is copied, once for all filters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tvm.tirx import PrimFunc

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.bf16_packing import TOGETHER
from leptonc.backends.cpu.conv import Emitter, Source
from leptonc.backends.cpu.conv_spec import ConvSpec
from leptonc.backends.cpu.conv_tile import Tile
from leptonc.backends.cpu.emit import Extent, Register
from leptonc.backends.cpu.instructions import as_bf16, pairs_of_bf16, with_bf16
from leptonc.backends.cpu.packing import channel_blocks, conv_weight_shape
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.tvm.binding import Buffer, PrimExpr, tirx


@dataclass(frozen=True)
class Bf16ConvSpec(ConvSpec):
    """As `ConvSpec`, of operands that are rounded to bf16.

    The channels of a group are a multiple of two. The weight holds the bits of bf16, packed by
    `bf16_packing.pack_bf16_conv_weight`.
    """

    element_bytes: ClassVar[int] = 2
    halves: ClassVar[bool] = False


def bf16_conv(name: str, spec: Bf16ConvSpec, cpu: CpuTarget) -> PrimFunc:
    """The kernel (x, weight, bias?, *operands, out)."""
    sizes, lanes = spec.weight, cpu.lanes
    blocks = channel_blocks(sizes.filters, lanes)
    channels = channel_blocks(sizes.channels, lanes)
    panels, depth, panel = conv_weight_shape(sizes, spec.panel)
    parameters = [
        ("x", (spec.batch, channels, spec.height, spec.width, lanes), "float32"),
        ("weight", (panels, depth // TOGETHER, panel, TOGETHER), "uint16"),
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

    def step(
        self, sums: list[list[Register]], places: Sequence[PrimExpr], product: PrimExpr
    ) -> None:
        """Adds two products to every accumulator."""
        size = self.lanes * TOGETHER
        filters = [
            tirx.reinterpret(
                f"int32x{self.lanes}",
                emit.load(self.parent.weight, [self.panel, product, v * size], size),
            )
            for v in range(self.vectors)
        ]
        for row, place in zip(sums, places, strict=True):
            pair = tirx.reinterpret("int32", emit.load(self.source.data, [place], TOGETHER))
            value = emit.broadcast(pair, self.lanes)
            for register, column in zip(row, filters, strict=True):
                register.set(pairs_of_bf16(self.parent.cpu, register.get(), value, column))


class _Emitter(Emitter):
    """Emits one convolution of pairs of bf16."""

    tile = _Tile
    copied = "uint16"

    def __init__(self, spec: Bf16ConvSpec, cpu: CpuTarget, buffers: Sequence[Buffer]) -> None:
        super().__init__(spec, cpu, buffers)
        panels, depth, panel = conv_weight_shape(spec.weight, spec.panel)
        self.weight = emit.view(self.weight, (panels, depth // TOGETHER, panel * TOGETHER))

    @property
    def pad(self) -> PrimExpr:
        """What stands around the input."""
        return tirx.const(0, "uint16")

    def source(self, image: PrimExpr, first: PrimExpr, height: Extent) -> Source:
        """A copy of the chunk, with what pads it has."""
        return self.padded(image, first, height)

    def taken(self, value: PrimExpr) -> PrimExpr:
        """What the copy holds of some channels."""
        return as_bf16(self.cpu, value)
