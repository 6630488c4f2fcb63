# pyright: standard
"""Direct convolution of a few planes of bytes: a first layer, whose input has no blocks.

As `integer_conv` with blocks of four channels, which are what a step multiplies: the rows of a
chunk are copied, and what lies in several planes is put side by side on the way.
"""

from __future__ import annotations

from functools import reduce

from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.conv import Source
from leptonc.backends.cpu.emit import Extent
from leptonc.backends.cpu.integer_conv import (
    TOGETHER,
    IntegerConvSpec,
    IntegerEmitter,
    integer_function,
)
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.tvm.binding import Buffer, PrimExpr, tirx

PIXELS = 16
"""So many pixels are copied at once."""


def integer_planes(name: str, spec: IntegerConvSpec, cpu: CpuTarget) -> PrimFunc:
    """The kernel (x, weight, point?, extra?, places?, starts?, whole?, *operands, out)."""
    shape = (spec.batch, spec.weight.channels, spec.height, spec.width)
    return integer_function(name, spec, cpu, shape, _Emitter)


class _Emitter(IntegerEmitter):
    """Emits one convolution of planes."""

    def source(self, image: PrimExpr, first: PrimExpr, height: Extent) -> Source:
        """A copy of the input rows of a chunk, with its pads, in blocks of four channels."""
        spec, window = self.spec, self.spec.window
        rows, width = window.reach(0, height), window.reach(1, self.columns)
        row_bytes = emit.product((width, TOGETHER))
        plane = emit.product((rows, row_bytes))
        copy = emit.workspace((emit.product((self.blocks, plane)),), "uint8")
        begin = first * window.strides[0] - window.pads[0]
        for block in range(self.blocks):
            with emit.serial(rows) as row:
                start = emit.let(row * row_bytes + block * emit.integer(plane))
                line = emit.let(begin + row)
                with T.If(tirx.And(line >= 0, line < spec.height)):
                    with T.Then():
                        self.words_of_row(copy, start, (image, block, line), width)
                    with T.Else():
                        self.fill(copy, start, width)
        return Source(copy, emit.integer(0), row_bytes, plane)

    def words_of_row(
        self, copy: Buffer, start: PrimExpr, place: tuple[PrimExpr, int, PrimExpr], width: Extent
    ) -> None:
        """One row of the copy: pad, input, pad."""
        image, block, line = place
        left, channels = self.spec.window.pads[1], self.spec.weight.channels
        planes = range(block * TOGETHER, min(channels, (block + 1) * TOGETHER))
        # The windows may not reach the end of the input, nor the end of the pads.
        used = emit.let(tirx.min(emit.integer(self.spec.width), emit.integer(width - left)))

        def store(column: PrimExpr, count: int) -> None:
            words = [
                self.shifted(emit.load(self.x, [image, plane, line, column], count), number)
                for number, plane in enumerate(planes)
            ]
            value = reduce(tirx.bitwise_or, words)
            self.store(copy, start + (column + left) * TOGETHER, value, count)

        self.fill(copy, start, left)
        whole = emit.let(tirx.floordiv(used, PIXELS))
        with emit.serial(whole) as step:
            store(step * PIXELS, PIXELS)
        with emit.serial(used - whole * PIXELS) as rest:
            store(whole * PIXELS + rest, 1)
        self.fill(copy, start + (used + left) * TOGETHER, width - left - used)

    def shifted(self, values: PrimExpr, number: int) -> PrimExpr:
        """Bytes as the part of words with this number."""
        _, _, lanes = str(values.ty).partition("x")
        words = values.astype("int32" + (f"x{lanes}" if lanes else ""))
        bits = emit.broadcast(tirx.const(8 * number, "int32"), int(lanes or 1))
        return tirx.shift_left(words, bits) if number else words

    def fill(self, copy: Buffer, start: PrimExpr, pixels: Extent) -> None:
        """Pixels of the copy where there is no input."""
        with emit.serial(pixels) as column:
            pad = emit.broadcast(self.pad, TOGETHER)
            emit.store(copy, pad, [start + column * TOGETHER], TOGETHER)

    def store(self, copy: Buffer, start: PrimExpr, words: PrimExpr, count: int) -> None:
        """Stores so many words."""
        size = count * TOGETHER
        emit.store(copy, tirx.reinterpret(f"uint8x{size}", words), [start], size)
