# pyright: standard
"""Depthwise convolution over blocks of channels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

from tvm.tirx import PrimFunc

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.decision import UNDECIDED, Decision
from leptonc.backends.cpu.emit import IDENTITY, Epilogue, Extent, Register, Shape
from leptonc.backends.cpu.packing import channel_blocks
from leptonc.backends.cpu.sharing import shares_channels, shares_of
from leptonc.backends.cpu.short_floats import Stored, around
from leptonc.backends.cpu.sliding import Place, Sliding, Taps
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.cpu.window import Window
from leptonc.backends.tvm.binding import Buffer, PrimExpr

MOST_PIXELS = 14
# Registers for the numbers of an approximated function, beside that which it is of.
LONG_EPILOGUE = 8


@dataclass(frozen=True)
class DepthwiseSpec:
    """`out[n, c, h, w, lane] = epilogue(sum of x times weight + bias)`, one filter a channel.

    x is f32[batch, C / lanes, height, width, lanes]. The weight is packed by
    `packing.pack_depthwise_weight`, the bias by `pack_channels`. The epilogue is also applied to
    the unused lanes of the last block.
    """

    batch: Extent
    channels: int
    height: Extent
    width: Extent
    window: Window
    bias: bool = True
    epilogue: Epilogue = IDENTITY
    out_dtype: str = "float32"
    decision: Decision = UNDECIDED


def depthwise(name: str, spec: DepthwiseSpec, cpu: CpuTarget) -> PrimFunc:
    """The kernel (x, weight, bias?, *operands, out)."""
    lanes, blocks = cpu.lanes, channel_blocks(spec.channels, cpu.lanes)
    outputs = (spec.window.outputs(0, spec.height), spec.window.outputs(1, spec.width))
    area = math.prod(spec.window.kernel)
    enough = shares_channels(cpu, blocks * lanes, outputs, 2 * area)

    def body(*buffers: Buffer) -> None:
        with around(cpu, spec.out_dtype):
            slide(*buffers)

    def slide(x: Buffer, weight: Buffer, *rest: Buffer) -> None:
        bias = rest[0] if spec.bias else None
        operands, out = rest[int(spec.bias) : -1], Stored.of(rest[-1], cpu)

        kept: dict[tuple[int, int], Register] = {}

        def keep(block: PrimExpr) -> None:
            height, width = spec.window.kernel
            for row, column in product(range(height), range(width)):
                kept[row, column] = Register(lanes)
                kept[row, column].set(emit.load(weight, [block, row, column, 0], lanes))

        def combine(
            total: PrimExpr, value: PrimExpr, block: PrimExpr, row: Extent, column: Extent
        ) -> PrimExpr:
            if isinstance(row, int) and isinstance(column, int):
                return emit.fma(value, kept[row, column].get(), total)
            return emit.fma(value, emit.load(weight, [block, row, column, 0], lanes), total)

        def finish(place: Place, total: Register, taps: Taps) -> None:
            index = [place.image, place.block, place.row, place.column]

            def result(lane: PrimExpr) -> PrimExpr:
                value = total.lane(lane)
                if bias is not None:
                    value = value + emit.load(bias, [place.block * lanes + lane])
                return spec.epilogue.apply(value, [*index, lane], operands)

            out.put(index, lanes, result)

        long = spec.epilogue.is_long(len(outputs) + 3)
        keeps = holds_weights(spec.window, cpu, long=long) and spec.decision.keep != 0
        pixels = spec.decision.tile_rows(most_pixels(spec.window, cpu, keeps=keeps))
        shared = spec.decision.is_shared(cpu.threads, otherwise=enough)
        Sliding(
            x=x,
            window=spec.window,
            outputs=outputs,
            lanes=lanes,
            pixels=pixels,
            shares=shares_of(cpu, blocks * lanes, outputs, shared=shared),
            start=0.0,
            combine=combine,
            finish=finish,
            keep=keep if keeps else None,
        ).emit()

    return emit.function(name, _parameters(spec, blocks, outputs, lanes), body)


def _parameters(
    spec: DepthwiseSpec, blocks: int, outputs: tuple[Extent, Extent], lanes: int
) -> list[tuple[str, Shape, str]]:
    return [
        ("x", (spec.batch, blocks, spec.height, spec.width, lanes), "float32"),
        ("weight", (blocks, *spec.window.kernel, lanes), "float32"),
        *([("bias", (blocks * lanes,), "float32")] if spec.bias else []),
        *spec.epilogue.parameters(),
        ("out", (spec.batch, blocks, *outputs, lanes), spec.out_dtype),
    ]


def most_pixels(window: Window, cpu: CpuTarget, *, keeps: bool) -> int:
    """The pixels of the widest tile, beside the weights of a row where they are not all kept."""
    if keeps:
        return MOST_PIXELS
    return max(1, min(MOST_PIXELS, cpu.registers - 1 - window.kernel[1]))


def holds_weights(window: Window, cpu: CpuTarget, *, long: bool = False) -> bool:
    """Whether the registers hold all weights of a block, beside the sums that one column adds to.

    Two more hold the element that is read and what an epilogue needs; a long one needs more, and
    takes a fifth longer where weights are in its way.
    """
    height, width = window.kernel
    needed = height * width + width + 3 + (LONG_EPILOGUE if long else 0)
    return needed <= cpu.registers
