# pyright: standard
"""A window that slides over each channel alone, for depthwise convolution and for pooling.

Nothing is padded: the rows of the window are a loop over those inside the input, and the tiles at
the left and right edge leave out the columns that are not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

from tvm.tirx.script import builder as T  # noqa: N812

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


Rows = tuple[PrimExpr, PrimExpr] | range
"""The rows of the window that are inside the input, where they are not known as bounds."""


@dataclass(frozen=True)
class Sliding:
    """Emits one sliding window over x[N, blocks, H, W, lanes].

    `combine(sum, value, block, row, column)` takes in an element of the window, `finish(place, sum,
    taps)` stores a sum. `pixels` is the width of the register tile. So many `shares` of the rows
    are computed by a thread each; 0 are shares of the channels, 1 is no share.

    With `keep(block)`, which puts the weights of a block into registers, rows of the window are
    known wherever they can be: each element of the input is then read once for a row of outputs.
    """

    x: Buffer
    window: Window
    outputs: tuple[Extent, Extent]
    lanes: int
    pixels: int
    shares: int
    start: float
    combine: Callable[[PrimExpr, PrimExpr, PrimExpr, Extent, Extent], PrimExpr]
    finish: Callable[[Place, Register, Taps], None]
    keep: Callable[[PrimExpr], None] | None = None
    sums: str = ""
    """The type of a sum, where it is not that of the input."""
    begin: Callable[[PrimExpr], PrimExpr] | None = None
    """What the sums of a block begin with, where that is not `start` in every lane."""

    def emit(self) -> None:
        """Emits all outputs."""
        batch, blocks, rows = self.x.shape[0], self.x.shape[1], emit.integer(self.outputs[0])
        if self.shares < 2:
            with emit.outer_loop(emit.product((batch, blocks)), parallel=not self.shares) as step:
                image, block = tirx.floordiv(step, blocks), tirx.floormod(step, blocks)
                self.rows(image, block, (emit.integer(0), rows))
            return
        with emit.outer_loop(emit.product((batch, self.shares)), parallel=True) as step:
            image, part = tirx.floordiv(step, self.shares), tirx.floormod(step, self.shares)
            first, end = (
                emit.let(tirx.floordiv(each * rows, self.shares)) for each in (part, part + 1)
            )
            with emit.serial(blocks) as block:
                self.rows(image, block, (first, end))

    def rows(self, image: PrimExpr, block: PrimExpr, some: tuple[PrimExpr, PrimExpr]) -> None:
        """Emits some rows of a block, from the first one to the one behind the last."""
        if self.keep is not None:
            self.keep(block)
        rows, height = self.outputs[0], self.x.shape[2]
        if self.keep and isinstance(rows, int) and isinstance(height, tirx.IntImm):
            self.known_rows(image, block, some, (rows, int(height)))
            return
        with emit.serial(some[1] - some[0]) as step:
            row = some[0] + step
            place = Place(image, block, row, emit.integer(0))
            low, high = (emit.let(bound) for bound in self.bounds(0, row))
            whole = range(self.window.kernel[0])
            if self.keep is None:
                self.row(place, (low, high))
                return
            with T.If(high - low == len(whole)):
                with T.Then():
                    self.row(place, whole)
                with T.Else():
                    self.row(place, (low, high))

    def register(self) -> Register:
        """One for a sum."""
        return Register(self.lanes, self.sums or self.x.dtype)

    def first_sum(self, block: PrimExpr) -> PrimExpr:
        """What a sum begins with."""
        if self.begin is not None:
            return self.begin(block)
        return emit.broadcast(emit.const(self.start, self.sums or self.x.dtype), self.lanes)

    def known_rows(
        self,
        image: PrimExpr,
        block: PrimExpr,
        some: tuple[PrimExpr, PrimExpr],
        extents: tuple[int, int],
    ) -> None:
        """Some rows of a known count: those with the same part of the window inside share code."""
        rows, height = extents
        for inside, same in groupby(range(rows), lambda row: self.inside(0, row, height)):
            members = list(same)
            taps = [tap for tap, is_inside in enumerate(inside) if is_inside]
            known = range(taps[0], taps[-1] + 1) if taps else range(0)
            first, count = emit.integer(members[0]), emit.integer(len(members))
            if self.shares > 1:
                first = emit.let(tirx.max(first, some[0]))
                end = tirx.min(emit.integer(members[-1] + 1), some[1])
                count = emit.let(tirx.max(end - first, emit.integer(0)))
            with emit.serial(count) as step:
                self.row(Place(image, block, first + step, emit.integer(0)), known)

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

    def row(self, place: Place, rows: Rows) -> None:
        """Emits one row of outputs."""
        width, columns = self.x.shape[3], self.outputs[1]
        if isinstance(columns, int) and isinstance(width, tirx.IntImm):
            self.known_row(place, rows, int(width), columns)
        else:
            self.symbolic_row(place, rows)

    def known_row(self, place: Place, rows: Rows, width: int, columns: int) -> None:
        """A row of known width: tiles in which the same columns are missing share their code."""
        tiles: list[tuple[int, int]] = []
        for size, count in split_rows(columns, self.pixels):
            first = sum(size for _, size in tiles)
            tiles += [(first + index * size, size) for index in range(count)]

        def missing(tile: tuple[int, int]) -> tuple[tuple[bool, ...], ...]:
            return tuple(self.inside(1, column, width) for column in range(tile[0], sum(tile)))

        for inside, same in groupby(tiles, missing):
            members = list(same)
            size = members[0][1]
            with emit.serial(len(members)) as step:
                first = step * size + members[0][0]
                self.tile(place, rows, first, inside)

    def inside(self, axis: int, output: int, extent: int) -> tuple[bool, ...]:
        """Which rows or columns of the window of an output are inside the input."""
        begin = output * self.window.strides[axis] - self.window.pads[axis]
        taps = range(self.window.kernel[axis])
        return tuple(0 <= begin + tap * self.window.dilations[axis] < extent for tap in taps)

    def symbolic_row(self, place: Place, rows: Rows) -> None:
        """A row of symbolic width: tiles inside, single pixels at the edges and at the end."""
        window, columns = self.window, emit.integer(self.outputs[1])
        stride, left = window.strides[1], window.pads[1]
        begin = tirx.min(emit.integer(-(-left // stride)), columns)
        room = emit.integer(self.x.shape[3]) + (left - window.span(1))
        end = tirx.min(tirx.floordiv(room, stride) + 1, columns)
        count = emit.let(end - begin)
        inside = ((True,) * window.kernel[1],) * self.pixels
        with emit.serial(begin) as column:
            self.pixel(place, rows, column)
        with T.If(count >= self.pixels):
            # The last tile begins where it ends with the row: some outputs are computed twice.
            with T.Then(), emit.serial(emit.ceildiv(count, self.pixels)) as step:
                first = tirx.min(step * self.pixels, count - self.pixels)
                self.tile(place, rows, emit.let(begin + first), inside)
            with T.Else(), emit.serial(count) as step:
                self.pixel(place, rows, begin + step)
        done = begin + tirx.max(count, emit.integer(0))
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
        rows: Rows,
        first: PrimExpr,
        inside: tuple[tuple[bool, ...], ...],
    ) -> None:
        """Neighbouring outputs, each with the columns of its window that are inside."""
        sums = [self.register() for _ in inside]
        for register in sums:
            register.set(self.first_sum(place.block))
        if isinstance(rows, range):
            self.known_tile(place, rows, first, inside, sums)
            return
        low, high = bounds_of(rows)
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

    def known_tile(
        self,
        place: Place,
        rows: range,
        first: PrimExpr,
        inside: tuple[tuple[bool, ...], ...],
        sums: list[Register],
    ) -> None:
        """Neighbouring outputs, column by column of the input, where the rows are known."""
        readers = self.readers(inside)
        last = {pixel: column for column in sorted(readers) for pixel, _ in readers[column]}

        def finish(pixel: int) -> None:
            here = Place(place.image, place.block, place.row, emit.let(first + pixel))
            self.finish(here, sums[pixel], Taps(*bounds_of(rows), sum(inside[pixel])))

        for pixel in range(len(sums)):
            if pixel not in last:
                finish(pixel)
        for column in sorted(readers):
            pixel, tap = readers[column][0]
            for row in rows:
                value = emit.let(self.load(place, emit.integer(row), first + pixel, tap))
                for reader, its_tap in readers[column]:
                    total = self.combine(sums[reader].get(), value, place.block, row, its_tap)
                    sums[reader].set(total)
            for reader, _ in readers[column]:
                if last[reader] == column:
                    finish(reader)

    def readers(self, inside: tuple[tuple[bool, ...], ...]) -> dict[int, list[tuple[int, int]]]:
        """Which outputs of a tile read a column of its input, and by which column of the window."""
        window = self.window
        readers: dict[int, list[tuple[int, int]]] = {}
        for pixel, taps in enumerate(inside):
            for tap in (tap for tap, is_inside in enumerate(taps) if is_inside):
                column = pixel * window.strides[1] + tap * window.dilations[1]
                readers.setdefault(column, []).append((pixel, tap))
        return readers

    def pixel(self, place: Place, rows: Rows, column: PrimExpr) -> None:
        """One output, wherever it is."""
        total = self.register()
        total.set(self.first_sum(place.block))
        low, high = bounds_of(rows)
        bounds = [emit.let(bound) for bound in self.bounds(1, column)]
        with emit.serial(high - low) as step, emit.serial(bounds[1] - bounds[0]) as other:
            row, tap = low + step, bounds[0] + other
            value = self.load(place, row, column, tap)
            total.set(self.combine(total.get(), value, place.block, row, tap))
        here = Place(place.image, place.block, place.row, column)
        self.finish(here, total, Taps(low, high, bounds[1] - bounds[0]))


def bounds_of(rows: Rows) -> tuple[PrimExpr, PrimExpr]:
    """The first row of the window that is inside, and the one behind the last."""
    return (emit.integer(rows.start), emit.integer(rows.stop)) if isinstance(rows, range) else rows
