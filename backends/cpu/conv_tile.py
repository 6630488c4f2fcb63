# pyright: standard
"""One register tile of a convolution: neighbouring pixels times the filters of a panel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.emit import Extent, Register
from leptonc.backends.cpu.packing import channel_blocks
from leptonc.backends.tvm.binding import Buffer, PrimExpr, tirx

if TYPE_CHECKING:
    from leptonc.backends.cpu.conv import Emitter, Source


# The bytes of a line of the caches.
LINE_BYTES = 64
# Smaller weights arrive in time by themselves.
FETCHED_BYTES = 2 * 1024 * 1024


@dataclass(frozen=True)
class Pixels:
    """Neighbouring pixels, counted over the rows of a chunk; perhaps known to be in one row."""

    start: PrimExpr
    count: int
    one_row: bool = False
    tiles: int = 0
    """How many tiles all pixels make, where that is known and each reads its whole depth."""


class Tile:
    """Emits the tiles of one chunk and one panel, whose vectors compute so many filters each."""

    fetched_bytes = FETCHED_BYTES

    def __init__(
        self,
        parent: Emitter,
        source: Source,
        place: tuple[PrimExpr, PrimExpr],
        panel: tuple[PrimExpr, PrimExpr, PrimExpr],
        widths: Sequence[int],
    ) -> None:
        self.parent, self.spec, self.lanes = parent, parent.spec, parent.cpu.lanes
        self.source, self.widths, self.vectors = source, widths, len(widths)
        self.image, self.first = place
        self.group, self.panel, self.block = panel
        self.line = LINE_BYTES // parent.spec.element_bytes

    def emit(self, at: Pixels) -> None:
        """One whole tile."""
        sums = self.registers(at)
        for register in (r for row in sums for r in row):
            register.set(self.zeros(register.lanes))
        inner = self.parent.inner
        full, rest = divmod(self.spec.weight.channels // self.spec.weight.groups, inner)
        bases = self.bases(at)
        if full:
            with emit.serial(full) as block:
                asks = self.spec.decision.ahead != 0
                if asks and self.streams:
                    self.fetch_ahead(bases[0] + block * self.source.plane, at.count * inner)
                if asks:
                    self.fetch_weights(at, block)
                self.block_products(sums, bases, block, inner)
        if rest:
            self.block_products(sums, bases, emit.integer(full), rest)
        self.finish(sums, at)

    def clear(self, memory: Buffer, at: Pixels) -> None:
        """The sums of a tile in memory become zero."""
        for pixel in range(at.count):
            for v, width in enumerate(self.widths):
                emit.store(memory, self.zeros(width), [at.start + pixel, v * self.lanes], width)

    def add_part(self, memory: Buffer, at: Pixels, part: PrimExpr, parts: int) -> None:
        """Adds the products of one of so many equal parts of the channels to sums in memory."""
        sums = self.loaded(memory, at)
        inner = self.parent.inner
        count = self.spec.weight.channels // self.spec.weight.groups // inner // parts
        bases = self.bases(at)
        with emit.serial(count) as block:
            self.block_products(sums, bases, part * count + block, inner)
        for pixel, row in enumerate(sums):
            for v, register in enumerate(row):
                place = [at.start + pixel, v * self.lanes]
                emit.store(memory, register.get(), place, register.lanes)

    def complete(self, memory: Buffer, at: Pixels) -> None:
        """Stores a tile whose sums are in memory."""
        self.finish(self.loaded(memory, at), at)

    def zeros(self, lanes: int) -> PrimExpr:
        """A vector of zeros."""
        return emit.broadcast(emit.const(0, self.parent.sums), lanes)

    def registers(self, at: Pixels) -> list[list[Register]]:
        """The accumulators of a tile."""
        return [
            [Register(width, self.parent.sums) for width in self.widths] for _ in range(at.count)
        ]

    def loaded(self, memory: Buffer, at: Pixels) -> list[list[Register]]:
        """The accumulators of a tile, with sums from memory."""
        sums = self.registers(at)
        for pixel, row in enumerate(sums):
            for v, register in enumerate(row):
                place = [at.start + pixel, v * self.lanes]
                register.set(emit.load(memory, place, register.lanes))
        return sums

    def bases(self, at: Pixels) -> list[PrimExpr]:
        """Where the window of each pixel begins in the flat source."""
        start, count = at.start, at.count
        window, inner = self.spec.window, self.parent.inner
        blocks = self.spec.weight.channels // self.spec.weight.groups // inner
        begin = self.source.start + self.group * blocks * self.source.plane
        if self.is_contiguous:
            first = emit.let(begin + start * inner)
            return [first + pixel * inner for pixel in range(count)]
        if not isinstance(self.parent.columns, int):
            return self.walked(begin, at)
        down, right = window.strides

        def base(pixel: PrimExpr) -> PrimExpr:
            row, column = self.position(pixel)
            return emit.let(begin + row * down * self.source.row + column * (right * inner))

        if not at.one_row:
            return [base(start + pixel) for pixel in range(count)]
        only = base(start)
        return [only + pixel * right * inner for pixel in range(count)]

    def walked(self, begin: PrimExpr, at: Pixels) -> list[PrimExpr]:
        """The same in rows of symbolic length, from pixel to pixel: a division takes far longer."""
        (down, right), columns = self.spec.window.strides, emit.integer(self.parent.columns)
        step = emit.integer(right * self.parent.inner)
        row, column = (emit.let(i) for i in self.position(at.start))
        turn = emit.let(down * self.source.row - (columns - 1) * step)
        bases = [emit.let(begin + row * down * self.source.row + column * step)]
        for _ in range(at.count - 1):
            beyond = emit.let(column + 1)
            is_next_row = tirx.EQ(beyond, columns)
            bases.append(emit.let(bases[-1] + tirx.Select(is_next_row, turn, step)))
            column = emit.let(tirx.Select(is_next_row, emit.integer(0), beyond))
        return bases

    @property
    def is_contiguous(self) -> bool:
        """Whether the windows of successive pixels begin one pixel apart, over all rows."""
        window, columns = self.spec.window, emit.product((self.parent.columns, self.parent.inner))
        if window.strides != (1, 1):
            return False
        if isinstance(columns, int):
            return self.source.row == columns
        return window.is_point and not self.spec.weight.plain

    @property
    def streams(self) -> bool:
        """Whether tiles of known extents read one behind the other what is far away."""
        return self.source.far and self.is_contiguous and isinstance(self.parent.columns, int)

    def fetch_ahead(self, place: PrimExpr, size: int) -> None:
        """Asks for as many elements as the tile reads at a place, for the next tile.

        A tile reads a little of each plane: too little for the hardware to notice a stream.
        """
        for offset in range(0, size, self.line):
            emit.prefetch(self.source.data, [place + (size + offset)])

    def fetch_weights(self, at: Pixels, block: PrimExpr) -> None:
        """Asks for a share of the next panel's weights, where they come from memory each time.

        They are read in the order of memory, by all tiles of this panel together.
        """
        weight, panel = self.spec.weight, self.spec.panel
        block_lines = weight.kernel[0] * weight.kernel[1] * self.parent.inner * panel // self.line
        if not at.tiles or at.tiles > block_lines or self.parent.weight_bytes <= self.fetched_bytes:
            return
        share = -(-block_lines // at.tiles)
        tile = tirx.floordiv(at.start, at.count)
        blocks = channel_blocks(weight.channels, self.parent.inner)
        first = (tile * blocks + block) * share
        for line in range(share):
            place = [self.panel + 1, emit.integer(0), (first + line) * self.line]
            emit.prefetch(self.parent.weight, place)

    def position(self, pixel: PrimExpr) -> tuple[PrimExpr, PrimExpr]:
        """The row in the chunk and the column of a pixel."""
        columns = emit.integer(self.parent.columns)
        return tirx.floordiv(pixel, columns), tirx.floormod(pixel, columns)

    def stored(self, pixel: PrimExpr) -> list[PrimExpr]:
        """The row and column that a pixel is stored at; symbolic rows are one, if that is the same.

        Rows lie one behind the other, in the output and in operands that have as many.
        """
        flat = all(_has_both(buffer) for buffer in self.parent.operands)
        if flat and not isinstance(self.parent.columns, int):
            return [emit.integer(0), emit.let(pixel)]
        return [emit.let(i) for i in self.position(pixel)]

    def block_products(
        self, sums: list[list[Register]], bases: Sequence[PrimExpr], block: PrimExpr, channels: int
    ) -> None:
        """Adds the products of some channels of one input block."""
        height, width = self.spec.weight.kernel
        down, right = self.spec.window.dilations
        inner, source = self.parent.inner, self.source

        def taps(row: PrimExpr, column: Extent) -> None:
            offset = block * source.plane + row * down * source.row + column * right * inner
            first = (block * height + row) * width * inner + column * channels
            if channels < inner:
                first = (block * height * width * inner) + (row * width + column) * channels
            with emit.serial(channels) as channel:
                self.step(sums, [base + offset + channel for base in bases], first + channel)

        with emit.serial(height) as row, emit.serial(width) as column:
            taps(row, column)

    def step(
        self, sums: list[list[Register]], places: Sequence[PrimExpr], product: PrimExpr
    ) -> None:
        """Adds one product to every accumulator."""
        weight, lanes = self.parent.weight, self.lanes
        filters = [
            emit.load(weight, [self.panel, product, v * lanes], width)
            for v, width in enumerate(self.widths)
        ]
        for row, place in zip(sums, places, strict=True):
            value = emit.load(self.source.data, [place])
            for register, column in zip(row, filters, strict=True):
                factor = emit.broadcast(value, register.lanes)
                register.set(emit.fma(factor, column, register.get()))

    def finish(self, sums: list[list[Register]], at: Pixels) -> None:
        """Stores a tile through the epilogue."""
        start, count = at.start, at.count
        if not self.parent.long or count * self.vectors < 2:
            for pixel, row in enumerate(sums):
                place = self.stored(start + pixel)
                for v, register in enumerate(row):
                    self.write_vector(register, emit.integer(0), place, v)
            return
        emit.align_stack()
        staged = [Register(width * count, self.parent.sums) for width in self.widths]
        for pixel, row in enumerate(sums):
            for register, stage in zip(row, staged, strict=True):
                emit.store(stage.buffer, register.get(), [pixel * register.lanes], register.lanes)
        with emit.serial(count) as pixel:
            place = self.stored(start + pixel)
            for v, stage in enumerate(staged):
                self.write_vector(stage, pixel * self.widths[v], place, v)

    def write_vector(
        self, register: Register, first: PrimExpr, place: Sequence[PrimExpr], vector: int
    ) -> None:
        """Stores the sums of a pixel, zeros in the place of those that were not computed."""
        width, (row, column) = self.widths[vector], place
        index = [self.image, self.block + vector, self.first + row, column]
        self.parent.out.put(
            index, width, lambda lane: self.result(register.lane(first + lane), [*index, lane])
        )
        if width < self.lanes:
            self.parent.out.clear([*index, width], self.lanes - width)

    def result(self, value: PrimExpr, index: Sequence[PrimExpr]) -> PrimExpr:
        """A sum through bias and epilogue."""
        if self.parent.bias is not None:
            value = value + emit.load(self.parent.bias, [index[1] * self.lanes + index[-1]])
        return self.spec.epilogue.apply(value, index, self.parent.operands)


def _has_both(operand: Buffer) -> bool:
    """True where an operand has all rows and columns of blocks of channels, or one of each."""
    rows, columns = ([1, 1, 1, *operand.shape])[-3:-1]
    return _is_one(rows) == _is_one(columns)


def _is_one(extent: Extent) -> bool:
    return isinstance(extent, int | tirx.IntImm) and int(extent) == 1
