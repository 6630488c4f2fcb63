# pyright: standard
"""Direct convolution to one filter: lanes are channels, and are added up for each pixel at its end.

With filters in the lanes all but one of them would compute nothing.
"""

from __future__ import annotations

from tvm.tirx import PrimFunc

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.conv import Emitter, conv
from leptonc.backends.cpu.conv_spec import ConvSpec
from leptonc.backends.cpu.conv_tile import Pixels, Tile
from leptonc.backends.cpu.emit import Register
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.tvm.binding import PrimExpr


class SingleConvSpec(ConvSpec):
    """A convolution to one filter, whose panel is one vector but of whose weight nothing is lanes.

    `packing.pack_conv_weight` packs it for panels of one.
    """

    @property
    def weight_panel(self) -> int:
        """The filters of a panel of the packed weight."""
        return 1


def single_conv(name: str, spec: SingleConvSpec, cpu: CpuTarget) -> PrimFunc:
    """The kernel (x, weight, bias?, *operands, out)."""
    return conv(name, spec, cpu, _Emitter)


class _Tile(Tile):
    """Emits tiles whose sums are vectors of channels."""

    def emit(self, at: Pixels) -> None:
        """One whole tile: whole blocks, then what is left of the last one in powers of two."""
        inner, channels = self.parent.inner, self.spec.weight.channels
        full, rest = divmod(channels, inner)
        bases = self.bases(at)
        width = inner if full else 1 << rest.bit_length() - 1
        sums = [Register(width) for _ in range(at.count)]
        for register in sums:
            register.set(self.zeros(width))
        if full:
            with emit.serial(full) as block:
                if self.spec.decision.ahead != 0 and self.streams:
                    ahead = bases[0] + block * self.source.plane
                    self.fetch_ahead(ahead, at.count * inner)
                self.channel_products(sums, bases, block, range(inner))
        start = 0
        while rest > start:
            width = 1 << (rest - start).bit_length() - 1
            sums = [self.narrowed(register, width) for register in sums]
            block = emit.integer(full)
            self.channel_products(sums, bases, block, range(start, start + width), rest)
            start += width
        totals = [self.narrowed(register, 1).get() for register in sums]
        self.finish([self.filled(total) for total in totals], at)

    def channel_products(
        self,
        sums: list[Register],
        bases: list[PrimExpr],
        block: PrimExpr,
        channels: range,
        of: int = 0,
    ) -> None:
        """Adds the products of some channels of a block, of those that it has."""
        (height, width), inner = self.spec.weight.kernel, self.parent.inner
        down, right = self.spec.window.dilations
        weight = emit.view(self.parent.weight, (self.spec.weight.depth,))
        with emit.serial(height) as row, emit.serial(width) as column:
            offset = block * self.source.plane + row * down * self.source.row
            offset = emit.let(offset + column * (right * inner) + channels.start)
            product = block * (height * width * inner) + (row * width + column) * (of or inner)
            factor = emit.let(emit.load(weight, [product + channels.start], len(channels)))
            for register, base in zip(sums, bases, strict=True):
                value = emit.load(self.source.data, [base + offset], len(channels))
                register.set(emit.fma(value, factor, register.get()))

    def narrowed(self, register: Register, width: int) -> Register:
        """The lanes added up to fewer ones, halves at a time."""
        while register.lanes > width:
            lanes = register.lanes // 2
            halves = [emit.load(register.buffer, [first], lanes) for first in (0, lanes)]
            register = Register(lanes)
            register.set(halves[0] + halves[1])
        return register

    def filled(self, total: PrimExpr) -> list[Register]:
        """A sum in all lanes that the output has for it."""
        register = Register(self.widths[0])
        register.set(emit.broadcast(total, register.lanes))
        return [register]


class _Emitter(Emitter):
    """Emits one convolution to one filter."""

    tile = _Tile

    def depth_parts(self, pixels: int) -> int:
        """One: the weight is small."""
        return 1
