# pyright: standard
"""Direct convolution over blocks of channels, as a product whose rows are pixels.

The register tile holds neighbouring pixels of the flattened output, so that no extent is too odd
for whole tiles. Padded inputs are copied, a band of rows at a time that stays in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.bands import fitting_rows, streaming_rows
from leptonc.backends.cpu.conv_spec import ConvSpec
from leptonc.backends.cpu.conv_tile import Pixels, Tile
from leptonc.backends.cpu.emit import Extent
from leptonc.backends.cpu.packing import channel_blocks
from leptonc.backends.cpu.short_floats import Stored, around
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.cpu.tiles import Tile as Registers
from leptonc.backends.cpu.tiles import split_rows, tile_rows
from leptonc.backends.tvm.binding import Buffer, PrimExpr, tirx


def conv(
    name: str, spec: ConvSpec, cpu: CpuTarget, emitter: type[Emitter] | None = None
) -> PrimFunc:
    """The kernel (x, weight, bias?, *operands, out)."""
    sizes, lanes, made = spec.weight, cpu.lanes, emitter or Emitter
    blocks = channel_blocks(sizes.filters, lanes)
    in_shape = (spec.batch, channel_blocks(sizes.channels, lanes), spec.height, spec.width, lanes)
    plain_shape = (spec.batch, sizes.channels, spec.height, spec.width)
    rows, columns = spec.out_extents()
    parameters = [
        ("x", plain_shape if sizes.plain else in_shape, "float32"),
        ("weight", spec.packed_shape, "float32"),
        *([("bias", (blocks * lanes,), "float32")] if spec.bias else []),
        *spec.epilogue.parameters(),
        ("out", (spec.batch, blocks, rows, columns, lanes), spec.out_dtype),
    ]

    def body(*buffers: Buffer) -> None:
        with around(cpu, spec.out_dtype):
            made(spec, cpu, buffers).emit()

    return emit.function(name, parameters, body)


@dataclass(frozen=True)
class Source:
    """Where the pixels of a chunk are read: a flat buffer and its strides.

    A far source is not in the second-level cache when its first panel begins.
    """

    data: Buffer
    start: PrimExpr
    row: Extent
    plane: Extent
    far: bool = False


Place = tuple[PrimExpr, PrimExpr, Extent]
"""A chunk: the image, its first row of outputs and their number."""


class Emitter:
    """Emits one convolution: chunks of pixels, panels of filters, tiles, products."""

    sums = "float32"
    tile: type[Tile] = Tile
    copied = ""
    """What a copy of the input holds, where that is not what the input does."""

    def __init__(self, spec: ConvSpec, cpu: CpuTarget, buffers: Sequence[Buffer]) -> None:
        self.spec, self.cpu = spec, cpu
        self.x, self.weight, *rest = buffers
        self.bias = rest.pop(0) if spec.bias else None
        self.extra = [rest.pop(0) for _ in range(len(rest) - 1 - len(spec.epilogue.operands))]
        *self.operands, out = rest
        self.out = Stored.of(out, cpu)
        self.rows, self.columns = spec.out_extents()
        self.parallel = spec.is_parallel(cpu)
        self.inner = 1 if spec.weight.plain else cpu.lanes
        self.blocks = channel_blocks(spec.weight.channels, self.inner)
        most = spec.row_pixels(self.tile_rows(spec.panel // cpu.lanes), cpu)
        self.tile_pixels = spec.decision.tile_rows(most)
        self.long = spec.epilogue.is_long(5, self.sums)
        self.weight_bytes = spec.weight_bytes
        self.copied_columns = spec.window.reach(1, self.columns)

    def tile_rows(self, vectors: int) -> int:
        """The pixels of the largest tile of so many vectors."""
        return tile_rows(vectors, self.cpu)

    @property
    def pad(self) -> PrimExpr:
        """What stands around the input."""
        return emit.const(0.0)

    def taken(self, value: PrimExpr) -> PrimExpr:
        """What a copy holds of some channels of a pixel."""
        return value

    def emit(self) -> None:
        """Emits the whole convolution."""
        rows, columns, threads = self.rows, self.columns, self.cpu.threads
        if self.spec.shares_filters(self.cpu):
            with emit.outer_loop(emit.product((self.spec.batch, threads)), parallel=True) as step:
                image, part = tirx.floordiv(step, threads), tirx.floormod(step, threads)
                self.share_of_filters((image, emit.integer(0), rows), part)
        elif isinstance(rows, int) and isinstance(columns, int):
            shares = threads if self.parallel else 1
            bands = split_rows(rows, self.chunk_rows(rows, columns), shares)
            emit.each_band(self.spec.batch, bands, self.chunk, parallel=self.parallel)
        else:
            self.open_bands()

    def open_bands(self) -> None:
        """One band of rows for each thread, of symbolic height or width."""
        batch, threads, rows = self.spec.batch, self.cpu.threads, self.rows
        if not self.parallel:
            with emit.outer_loop(batch, parallel=False) as image:
                self.chunk(image, emit.integer(0), rows)
            return
        with emit.outer_loop(emit.product((batch, threads)), parallel=True) as step:
            image, part = tirx.floordiv(step, threads), tirx.floormod(step, threads)
            band = emit.integer(emit.ceildiv(rows, threads))
            left = tirx.max(emit.integer(rows) - part * band, emit.integer(0))
            source = self.source(image, emit.let(part * band), band)
            self.panels(source, (image, part * band, emit.let(tirx.min(band, left))))

    def chunk_rows(self, rows: int, columns: int) -> int:
        """The output rows that are computed at once."""
        spec, window = self.spec, self.spec.window
        if spec.decision.band is not None:
            return max(1, min(rows, spec.decision.band))
        if self.depth_parts(rows * columns) > 1:
            # So large weights are better read once; the parts of the depth keep the input close.
            return rows
        pixel_bytes = spec.element_bytes * self.blocks * self.inner
        row_bytes = pixel_bytes * window.strides[0] * columns * window.strides[1]
        tile = Registers(self.tile_pixels, spec.panel // self.cpu.lanes)
        # Larger weights are asked for in the order of panels.
        if window.is_point and self.weight_bytes <= self.tile.fetched_bytes:
            found = streaming_rows((rows, columns), row_bytes, self.weight_bytes, tile, self.cpu)
            if found is not None:
                return found
        return min(rows, fitting_rows(row_bytes, columns, tile, self.cpu))

    def chunk(self, image: PrimExpr, first: PrimExpr, height: Extent) -> None:
        """Output rows from `first` on, of one image."""
        self.panels(self.source(image, first, height), (image, first, height))

    def panels(self, source: Source, place: Place) -> None:
        """All tiles of a chunk, for all panels of filters."""
        full, rest = self.spec.group_panels(self.cpu)
        with emit.serial(self.spec.weight.groups) as group:
            start = group * (full + rest)
            if full:
                with emit.serial(full) as panel:
                    self.panel(source, place, group, start + panel)
            if rest:
                self.panel(source, place, group, start + full, last=True)

    def share_of_filters(self, place: Place, part: PrimExpr) -> None:
        """All tiles of a chunk for the panels of one thread."""
        source = self.source(*place)
        full, rest = self.spec.group_panels(self.cpu)
        panels, threads = self.spec.weight.groups * (full + rest), self.cpu.threads
        begin, end = (tirx.floordiv(each * panels, threads) for each in (part, part + 1))
        with emit.serial(end - begin) as step:
            panel = emit.let(begin + step)
            group = emit.let(tirx.floordiv(panel, full + rest))
            if not (full and rest):
                self.panel(source, place, group, panel, last=bool(rest))
                return
            with T.If(tirx.floormod(panel, full + rest) < full):
                with T.Then():
                    self.panel(source, place, group, panel)
                with T.Else():
                    self.panel(source, place, group, panel, last=True)

    def source(self, image: PrimExpr, first: PrimExpr, height: Extent) -> Source:
        """Where a chunk is read: the input, or a copy of it with pads."""
        padded = self.padded(image, first, height) if self.spec.window.is_padded else None
        return padded or self.direct(image, first)

    def direct(self, image: PrimExpr, first: PrimExpr) -> Source:
        """The input as it is."""
        spec = self.spec
        data = emit.view(self.x, (emit.product(self.x.shape),))
        row = emit.product((spec.width, self.inner))
        plane = emit.product((spec.height, row))
        start = image * (plane * self.blocks) + first * spec.window.strides[0] * row
        size = emit.product((plane, self.spec.element_bytes * self.blocks))
        far = not isinstance(size, int) or size > self.cpu.l2_bytes
        return Source(data, emit.let(start), row, plane, far)

    def padded(self, image: PrimExpr, first: PrimExpr, height: Extent) -> Source:
        """A copy of the input rows of a chunk, with its pads."""
        spec, window = self.spec, self.spec.window
        top = window.pads[0]
        rows, width = window.reach(0, height), self.copied_columns
        copy = emit.workspace((self.blocks, rows, width, self.inner), self.copied or self.x.dtype)
        x = emit.view(self.x, (spec.batch, self.blocks, spec.height, spec.width, self.inner))
        pad = emit.broadcast(self.pad, self.inner)
        begin = first * window.strides[0] - top
        with emit.serial(self.blocks) as block, emit.serial(rows) as row:
            inside = tirx.And(begin + row >= 0, begin + row < spec.height)
            with T.If(inside):
                with T.Then():
                    self.copied_row(copy, x, (image, block, row), begin + row, width)
                with T.Else(), emit.serial(width) as column:
                    emit.store(copy, pad, [block, row, column, 0], self.inner)
        row = emit.product((width, self.inner))
        data = emit.view(copy, (emit.product(copy.shape),))
        return Source(data, emit.integer(0), row, emit.product((rows, row)))

    def copied_row(
        self,
        copy: Buffer,
        x: Buffer,
        index: tuple[PrimExpr, PrimExpr, PrimExpr],
        source_row: PrimExpr,
        width: Extent,
    ) -> None:
        """One row of the copy: pad, input, pad."""
        (image, block, row), left = index, self.spec.window.pads[1]
        pad = emit.broadcast(self.pad, self.inner)
        # The windows may not reach the end of the input, nor the end of the pads.
        used = tirx.min(emit.integer(self.spec.width), emit.integer(width - left))
        for column in range(left):
            emit.store(copy, pad, [block, row, column, 0], self.inner)
        with emit.serial(used) as column:
            value = emit.load(x, [image, block, source_row, column, 0], self.inner)
            emit.store(copy, self.taken(value), [block, row, column + left, 0], self.inner)
        with emit.serial(width - left - used) as column:
            emit.store(copy, pad, [block, row, column + left + used, 0], self.inner)

    def panel(
        self, source: Source, place: Place, group: PrimExpr, panel: PrimExpr, *, last: bool = False
    ) -> None:
        """All tiles of a chunk for one panel of filters, which may be the last of its group."""
        image, first, height = place
        vectors, (full, rest) = self.spec.panel // self.cpu.lanes, self.spec.group_panels(self.cpu)
        within = panel - group * (full + rest)
        block = group * self.spec.group_blocks(self.cpu) + within * vectors
        widths = [self.cpu.lanes] * vectors
        if last:
            vectors = self.spec.group_blocks(self.cpu) - full * vectors
            widths = [*widths[: vectors - 1], self.spec.last_lanes(self.cpu)]
        tiles = self.tile(self, source, (image, first), (group, panel, block), widths)
        pixels = emit.product((height, self.columns))
        if not isinstance(pixels, int):
            size = self.tile_pixels
            with T.If(pixels >= size):
                with T.Then(), emit.serial(emit.ceildiv(pixels, size)) as step:
                    tiles.emit(Pixels(emit.let(tirx.min(step * size, pixels - size)), size))
                with T.Else():
                    self.few_tiles(emit.let(pixels), tiles.emit)
            return
        parts = self.depth_parts(pixels)
        if parts == 1:
            self.each_tile(pixels, tiles.emit)
            return
        sums = emit.workspace((pixels, vectors * self.cpu.lanes), self.sums)
        self.each_tile(pixels, lambda at: tiles.clear(sums, at))
        with emit.serial(parts) as part:
            self.each_tile(pixels, lambda at: tiles.add_part(sums, at, part, parts))
        self.each_tile(pixels, lambda at: tiles.complete(sums, at))

    def few_tiles(self, pixels: PrimExpr, emit_tile: Callable[[Pixels], None]) -> None:
        """Covers fewer pixels than a tile has with tiles of halves of it, each size once."""
        size = max(1, 1 << (self.tile_pixels - 1).bit_length() >> 1)
        with emit.serial(tirx.floordiv(pixels, size)) as step:
            emit_tile(Pixels(step * size, size))
        while size > 1:
            rest = emit.let(tirx.floormod(pixels, size))
            size //= 2
            with T.If(rest >= size), T.Then():
                emit_tile(Pixels(emit.let(pixels - rest), size))

    def each_tile(self, pixels: int, emit_tile: Callable[[Pixels], None]) -> None:
        """Covers a known number of pixels with tiles of two sizes."""
        start = 0
        for size, count in split_rows(pixels, self.tile_pixels):
            aligned = isinstance(self.columns, int) and self.columns % size == start % size == 0
            one_row = aligned or pixels == self.columns
            with emit.serial(count) as step:
                emit_tile(Pixels(step * size + start, size, one_row, -(-pixels // size)))
            start += size * count

    def depth_parts(self, pixels: int) -> int:
        """Into how many parts the depth is split, so that all tiles find its weights in the cache.

        A part adds to sums in memory. Only a panel that crowds the input out of it is split.
        """
        weight = self.spec.weight
        panel_bytes = self.spec.element_bytes * weight.depth * self.spec.panel
        blocks, rest = divmod(weight.channels // weight.groups, self.inner)
        if rest or pixels <= self.tile_pixels:
            return 1
        wanted = self.spec.decision.parts
        if wanted is None:
            if panel_bytes < self.cpu.l2_bytes // 5:
                return 1
            wanted = -(-panel_bytes // (self.cpu.l2_bytes // 12))
        return min((parts for parts in divisors(blocks) if parts >= wanted), default=1)


def divisors(number: int) -> list[int]:
    """All divisors, in order."""
    return [d for d in range(1, number + 1) if number % d == 0]
