# pyright: standard
"""Depthwise convolution of bytes over blocks of channels, exact in 32 bits.

As `depthwise`, with bytes widened to words where they are read: their products with the weights
are those of pairs of 16 bits, of which the upper one of the weight is zero. What stands around the
input is taken from every byte, so that nothing need be read there, and given back to the sums.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.decision import UNDECIDED, Decision
from leptonc.backends.cpu.depthwise import holds_weights, most_pixels
from leptonc.backends.cpu.emit import IDENTITY, Epilogue, Extent, Register
from leptonc.backends.cpu.integer_steps import IntegerProducts
from leptonc.backends.cpu.packing import channel_blocks
from leptonc.backends.cpu.sharing import shares_channels, shares_of
from leptonc.backends.cpu.sliding import Place, Sliding, Taps
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.cpu.window import Window
from leptonc.backends.tvm.binding import Buffer, PrimExpr, tirx


@dataclass(frozen=True)
class IntegerDepthwiseSpec:
    """`out[n, c, h, w, lane] = epilogue(sum of x times weight)`, sums in 32 bits, each channel's.

    x is u8[batch, C / lanes, height, width, lanes]; around it stands `filler`. The weight is packed
    by `integer_packing.pack_words`. If `centred`, the bytes are less a zero point that run time
    knows, and zeros stand around them.
    """

    batch: Extent
    channels: int
    height: Extent
    width: Extent
    window: Window
    filler: int = 0
    epilogue: Epilogue = IDENTITY
    out_dtype: str = "int32"
    decision: Decision = UNDECIDED
    centred: bool = False


def integer_depthwise(name: str, spec: IntegerDepthwiseSpec, cpu: CpuTarget) -> PrimFunc:
    """The kernel (x, weight, point?, *operands, out)."""
    lanes, blocks = cpu.lanes, channel_blocks(spec.channels, cpu.lanes)
    outputs = (spec.window.outputs(0, spec.height), spec.window.outputs(1, spec.width))
    parameters = [
        ("x", (spec.batch, blocks, spec.height, spec.width, lanes), "uint8"),
        ("weight", (blocks, math.prod(spec.window.kernel) + 1, lanes), "int32"),
        *([("point", (), "uint8")] if spec.centred else []),
        *spec.epilogue.parameters(),
        ("out", (spec.batch, blocks, *outputs, lanes), spec.out_dtype),
    ]

    def body(x: Buffer, weight: Buffer, *rest: Buffer) -> None:
        first = int(spec.centred)
        emitter = _Emitter(spec, cpu, weight, (*rest[first:-1],), rest[-1])
        if spec.centred:
            point = tirx.BufferLoad(rest[0], []).astype("int32")
            emitter.point = emit.let(emit.broadcast(point, cpu.lanes))
        emitter.emit(x, outputs)

    return emit.function(name, parameters, body)


class _Emitter:
    """Emits one convolution."""

    def __init__(
        self, spec: IntegerDepthwiseSpec, cpu: CpuTarget, weight: Buffer,
        operands: tuple[Buffer, ...], out: Buffer,
    ) -> None:  # fmt: skip
        self.spec, self.cpu, self.lanes = spec, cpu, cpu.lanes
        self.weight, self.operands, self.out = weight, operands, out
        self.taps = math.prod(spec.window.kernel)
        self.kept: dict[int, Register] = {}
        self.products = IntegerProducts(cpu)
        filler = tirx.const(spec.filler, "int32")
        self.point = emit.broadcast(filler, self.lanes) if spec.filler else None
        """What is taken from every byte, in each lane."""

    def emit(self, x: Buffer, outputs: tuple[Extent, Extent]) -> None:
        """Emits all outputs."""
        spec, cpu = self.spec, self.cpu
        channels = channel_blocks(spec.channels, self.lanes) * self.lanes
        keeps = holds_weights(spec.window, cpu, long=spec.epilogue.is_long(5, "int32"))
        enough = shares_channels(cpu, channels, outputs, 2 * self.taps)
        shared = spec.decision.is_shared(cpu.threads, otherwise=enough)
        Sliding(
            x=x,
            window=spec.window,
            outputs=outputs,
            lanes=self.lanes,
            pixels=spec.decision.tile_rows(most_pixels(spec.window, cpu, keeps=keeps)),
            shares=shares_of(cpu, channels, outputs, shared=shared),
            start=0,
            combine=self.combine,
            finish=self.finish,
            keep=self.keep if keeps else None,
            sums="int32",
            begin=self.begin if spec.filler and not spec.centred else None,
        ).emit()

    def keep(self, block: PrimExpr) -> None:
        """Puts the weights of a block into registers."""
        height, width = self.spec.window.kernel
        for row, column in product(range(height), range(width)):
            tap = row * width + column
            self.kept[tap] = Register(self.lanes, "int32")
            self.kept[tap].set(self.words(block, tap))

    def begin(self, block: PrimExpr) -> PrimExpr:
        """What the filler adds to the sum over a whole window."""
        return self.words(block, self.taps)

    def words(self, block: PrimExpr, row: Extent) -> PrimExpr:
        """A row of the packed weight."""
        return emit.load(self.weight, [block, row, 0], self.lanes)

    def combine(
        self, total: PrimExpr, value: PrimExpr, block: PrimExpr, row: Extent, column: Extent
    ) -> PrimExpr:
        """A sum with one product more."""
        tap = row * self.spec.window.kernel[1] + column
        weights = self.kept[tap].get() if isinstance(tap, int) else self.words(block, tap)
        shorts = tirx.reinterpret(f"int16x{2 * self.lanes}", weights)
        wide = value.astype(f"int32x{self.lanes}")
        if self.point is not None:
            wide = wide - self.point
        return self.products.add_pairs(wide, shorts, total)

    def finish(self, place: Place, total: Register, taps: Taps) -> None:
        """Stores an output through the epilogue."""
        with emit.vectorized(self.lanes) as lane:
            index = [place.image, place.block, place.row, place.column, lane]
            result = self.spec.epilogue.apply(total.lane(lane), index, self.operands)
            T.buffer_store(self.out, result, index)
