# pyright: standard
"""A window that slides over each channel alone, for depthwise convolution and for pooling.

Nothing is padded: the rows of the window are a loop over those inside the input, and the tiles at
the left and right edge leave out the columns that are not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.emit import Extent, Register
from leptonc.backends.cpu.tiles import split_rows
from leptonc.backends.cpu.window import Window
from leptonc.backends.tvm.binding import Buffer, PrimExpr, tirx


@dataclass(frozen=True)
class Place:
    """An output pixel of a block of channels."""

    image: PrimExpr
    block: PrimExpr
    row: PrimExpr
    column: PrimExpr


@dataclass(frozen=True)
class Taps:
    """The rows [low, high) of the window that are inside the input, and as many columns."""

    low: PrimExpr
    high: PrimExpr
    columns: Extent


@dataclass(frozen=True)
class Sliding:
    """Emits one sliding window over x f32[N, blocks, H, W, lanes].

    `combine(sum, value, block, row, column)` takes in an element of the window, `finish(place, sum,
    taps)` stores a sum. `pixels` is the width of the register tile.
    """

    x: Buffer
    window: Window
    outputs: tuple[Extent, Extent]
    lanes: int
    pixels: int
    parallel: bool
    start: float
    combine: Callable[[PrimExpr, PrimExpr, PrimExpr, PrimExpr, Extent], PrimExpr]
    finish: Callable[[Place, Register, Taps], None]

    def emit(self) -> None:
        """Emits all outputs."""
        batch, blocks = self.x.shape[0], self.x.shape[1]
        with emit.outer_loop(emit.product((batch, blocks)), parallel=self.parallel) as step:
            image, block = tirx.floordiv(step, blocks), tirx.floormod(step, blocks)
            with emit.serial(self.outputs[0]) as row:
                low, high = (emit.let(bound) for bound in self.bounds(0, row))
                self.row(Place(image, block, row, emit.integer(0)), (low, high))

    def bounds(self, axis: int, output: PrimExpr) -> tuple[PrimExpr, PrimExpr]:
        """The part of the kernel that is inside the input for one output."""
        window, extent = self.window, emit.integer(self.x.shape[2 + axis])
        dilation = window.dilations[axis]
        begin = output * window.strides[axis] - window.pads[axis]
        low = tirx.max(tirx.floordiv(-begin + (dilation - 1), dilation), emit.integer(0))
        high = tirx.min(
            tirx.floordiv(extent - begin + (dilation - 1), dilation),
            emit.integer(window.kernel[axis]),
        )
        return low, high

    def row(self, place: Place, rows: tuple[PrimExpr, PrimExpr]) -> None:
        """Emits one row of outputs."""
        width, columns = self.x.shape[3], self.outputs[1]
        if isinstance(columns, int) and isinstance(width, tirx.IntImm):
            self.known_row(place, rows, int(width), columns)
        else:
            self.symbolic_row(place, rows)

    def known_row(
        self, place: Place, rows: tuple[PrimExpr, PrimExpr], width: int, columns: int
    ) -> None:
        """A row of known width: tiles in which the same columns are missing share their code."""
        tiles: list[tuple[int, int]] = []
        for size, count in split_rows(columns, self.pixels):
            first = sum(size for _, size in tiles)
            tiles += [(first + index * size, size) for index in range(count)]

        def missing(tile: tuple[int, int]) -> tuple[tuple[bool, ...], ...]:
            return tuple(self.inside(column, width) for column in range(tile[0], sum(tile)))

        for inside, same in groupby(tiles, missing):
            members = list(same)
            size = members[0][1]
            with emit.serial(len(members)) as step:
                first = step * size + members[0][0]
                self.tile(place, rows, first, inside)

    def inside(self, output: int, width: int) -> tuple[bool, ...]:
        """Which columns of the window of an output are inside the input."""
        begin = output * self.window.strides[1] - self.window.pads[1]
        taps = range(self.window.kernel[1])
        return tuple(0 <= begin + tap * self.window.dilations[1] < width for tap in taps)

    def symbolic_row(self, place: Place, rows: tuple[PrimExpr, PrimExpr]) -> None:
        """A row of symbolic width: tiles inside, single pixels at the edges and at the end."""
        window, columns = self.window, emit.integer(self.outputs[1])
        stride, left = window.strides[1], window.pads[1]
        begin = tirx.min(emit.integer(-(-left // stride)), columns)
        room = emit.integer(self.x.shape[3]) + (left - window.span(1))
        end = tirx.min(tirx.floordiv(room, stride) + 1, columns)
        count = emit.let(tirx.max(tirx.floordiv(end - begin, self.pixels), emit.integer(0)))
        inside = ((True,) * window.kernel[1],) * self.pixels
        with emit.serial(begin) as column:
            self.pixel(place, rows, column)
        with emit.serial(count) as step:
            self.tile(place, rows, begin + step * self.pixels, inside)
        done = begin + count * self.pixels
        with emit.serial(columns - done) as step:
            self.pixel(place, rows, done + step)

    def load(self, place: Place, tap_row: PrimExpr, column: PrimExpr, tap: Extent) -> PrimExpr:
        """The input under one element of the window of an output."""
        window = self.window
        down = place.row * window.strides[0] + tap_row * window.dilations[0] - window.pads[0]
        right = column * window.strides[1] + tap * window.dilations[1] - window.pads[1]
        return emit.load(self.x, [place.image, place.block, down, right, 0], self.lanes)

    def tile(
        self,
        place: Place,
        rows: tuple[PrimExpr, PrimExpr],
        first: PrimExpr,
        inside: tuple[tuple[bool, ...], ...],
    ) -> None:
        """Neighbouring outputs, each with the columns of its window that are inside."""
        sums = [Register(self.lanes) for _ in inside]
        for register in sums:
            register.set(emit.broadcast(emit.const(self.start), self.lanes))
        low, high = rows
        with emit.serial(high - low) as step:
            row = low + step
            for tap in range(self.window.kernel[1]):
                for pixel, register in enumerate(sums):
                    if inside[pixel][tap]:
                        value = self.load(place, row, first + pixel, tap)
                        total = self.combine(register.get(), value, place.block, row, tap)
                        register.set(total)
        for pixel, register in enumerate(sums):
            here = Place(place.image, place.block, place.row, emit.let(first + pixel))
            self.finish(here, register, Taps(low, high, sum(inside[pixel])))

    def pixel(self, place: Place, rows: tuple[PrimExpr, PrimExpr], column: PrimExpr) -> None:
        """One output, wherever it is."""
        total = Register(self.lanes)
        total.set(emit.broadcast(emit.const(self.start), self.lanes))
        (low, high), bounds = rows, [emit.let(bound) for bound in self.bounds(1, column)]
        with emit.serial(high - low) as step, emit.serial(bounds[1] - bounds[0]) as other:
            row, tap = low + step, bounds[0] + other
            value = self.load(place, row, column, tap)
            total.set(self.combine(total.get(), value, place.block, row, tap))
        here = Place(place.image, place.block, place.row, column)
        self.finish(here, total, Taps(low, high, bounds[1] - bounds[0]))
