# pyright: standard
"""Convolution of 3 x 3 with stride 1 through fewer products, of pairs of bf16 with sums of fp32.

As `winograd` with tiles of 2 x 2 outputs: both transforms are in fp32, and what the points take of
inputs and weights is rounded where it is stored. That is off by 1.1 to 1.8 times what a direct
convolution of bf16 is; with tiles of 4 x 4 it would be by 2 to 5 times.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm.tirx import PrimFunc

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.bf16_packing import TOGETHER, bf16_winograd_weight_shape
from leptonc.backends.cpu.emit import Extent, Register
from leptonc.backends.cpu.instructions import as_bf16, pairs_of_bf16, with_bf16
from leptonc.backends.cpu.packing import channel_blocks
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.cpu.winograd import Emitter, WinogradSpec
from leptonc.backends.cpu.winograd_transform import Inputs
from leptonc.backends.tvm.binding import Buffer, PrimExpr, tirx


def bf16_winograd(name: str, spec: WinogradSpec, cpu: CpuTarget) -> PrimFunc:
    """The kernel (x, weight, bias?, *operands, out); the weight is of pairs of bf16."""
    lanes = cpu.lanes
    blocks = channel_blocks(spec.filters, lanes)
    inputs = (spec.batch, channel_blocks(spec.channels, lanes), spec.height, spec.width, lanes)
    parameters = [
        ("x", inputs, "float32"),
        ("weight", bf16_winograd_weight_shape(spec.channels, spec.filters, spec.panel), "uint16"),
        *([("bias", (blocks * lanes,), "float32")] if spec.bias else []),
        *spec.epilogue.parameters(),
        ("out", (spec.batch, blocks, *spec.out_extents(), lanes), spec.out_dtype),
    ]

    def body(*buffers: Buffer) -> None:
        with with_bf16(cpu):
            _Emitter(spec, cpu, buffers).emit()

    return emit.function(name, parameters, body)


class _Inputs(Inputs):
    """The inputs at the points, rounded to bf16."""

    def stored(self, value: PrimExpr) -> PrimExpr:
        """What is kept of a value at a point."""
        return as_bf16(self.parent.cpu, value)


class _Emitter(Emitter):
    """Emits one convolution whose steps multiply two channels."""

    element = "uint16"
    element_bytes = 2
    inputs = _Inputs

    def __init__(self, spec: WinogradSpec, cpu: CpuTarget, buffers: Sequence[Buffer]) -> None:
        super().__init__(spec, cpu, buffers)
        points, panels, *panel = bf16_winograd_weight_shape(spec.channels, spec.filters, spec.panel)
        self.weight = emit.view(self.weight, (points, panels, 1, emit.product(panel)))

    def products(
        self,
        registers: list[list[Register]],
        sources: Buffer,
        count: Extent,
        place: tuple[PrimExpr, PrimExpr],
        source: tuple[PrimExpr, PrimExpr],
        channels: int,
    ) -> None:
        """Adds the products of some channels of one input block, two at a time."""
        (point, panel), (block, first), lanes = place, source, self.lanes
        begin = emit.let((block * count + first) * lanes)
        size = lanes * TOGETHER
        with emit.serial(channels // TOGETHER) as step:
            at = (block * (lanes // TOGETHER) + step) * (self.spec.panel * TOGETHER)
            filters = [
                tirx.reinterpret(
                    f"int32x{lanes}",
                    emit.load(self.weight, [point, panel, emit.integer(0), at + v * size], size),
                )
                for v in range(len(registers[0]))
            ]
            for r, row in enumerate(registers):
                pair = emit.load(sources, [point, begin + r * lanes + step * TOGETHER], TOGETHER)
                value = emit.broadcast(tirx.reinterpret("int32", pair), lanes)
                for register, column in zip(row, filters, strict=True):
                    register.set(pairs_of_bf16(self.cpu, register.get(), value, column))
