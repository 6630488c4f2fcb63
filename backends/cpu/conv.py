# pyright: standard
"""Direct convolution over blocks of channels, as a product whose rows are pixels.

The register tile holds neighbouring pixels of the flattened output, so that no extent is too odd
for whole tiles. Padded inputs are copied, a band of rows at a time that stays in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.conv_tile import Pixels, Tile
from leptonc.backends.cpu.decision import UNDECIDED, Decision
from leptonc.backends.cpu.emit import IDENTITY, Epilogue, Extent
from leptonc.backends.cpu.packing import ConvWeight, channel_blocks, conv_weight_shape
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.cpu.tiles import split_rows, tile_rows
from leptonc.backends.cpu.window import Window
from leptonc.backends.tvm.binding import Buffer, PrimExpr, tirx

# Below this many operations, waking the threads costs more than they save.
PARALLEL_OPERATIONS = 1_000_000


@dataclass(frozen=True)
class ConvSpec:
    """`out[n, o, h, w, lane] = epilogue(sum of x times weight + bias)`, all in blocks of channels.

    x is f32[batch, C / lanes, height, width, lanes], or f32[batch, C, height, width] of a plain
    convolution. The weight is packed by `packing.pack_conv_weight`, the bias by `pack_channels`.
    The epilogue is also applied to the unused lanes of the last block.
    """

    batch: Extent
    height: Extent
    width: Extent
    weight: ConvWeight
    window: Window
    panel: int
    bias: bool = True
    epilogue: Epilogue = IDENTITY
    out_dtype: str = "float32"
    decision: Decision = UNDECIDED


def conv(name: str, spec: ConvSpec, cpu: CpuTarget) -> PrimFunc:
    """The kernel (x, weight, bias?, *operands, out)."""
    sizes, lanes = spec.weight, cpu.lanes
    blocks = channel_blocks(sizes.filters, lanes)
    in_shape = (spec.batch, channel_blocks(sizes.channels, lanes), spec.height, spec.width, lanes)
    plain_shape = (spec.batch, sizes.channels, spec.height, spec.width)
    rows, columns = out_extents(spec)
    parameters = [
        ("x", plain_shape if sizes.plain else in_shape, "float32"),
        ("weight", conv_weight_shape(sizes, spec.panel), "float32"),
        *([("bias", (blocks * lanes,), "float32")] if spec.bias else []),
        *spec.epilogue.parameters(),
        ("out", (spec.batch, blocks, rows, columns, lanes), spec.out_dtype),
    ]
    return emit.function(name, parameters, lambda *buffers: Emitter(spec, cpu, buffers).emit())


def out_extents(spec: ConvSpec) -> tuple[Extent, Extent]:
    """The rows and columns of the output."""
    return spec.window.outputs(0, spec.height), spec.window.outputs(1, spec.width)


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


class Emitter:
    """Emits one convolution: chunks of pixels, panels of filters, tiles, products."""

    def __init__(self, spec: ConvSpec, cpu: CpuTarget, buffers: Sequence[Buffer]) -> None:
        self.spec, self.cpu = spec, cpu
        self.x, self.weight, *rest = buffers
        self.bias = rest.pop(0) if spec.bias else None
        *self.operands, self.out = rest
        self.rows, self.columns = out_extents(spec)
        self.inner = 1 if spec.weight.plain else cpu.lanes
        self.blocks = channel_blocks(spec.weight.channels, self.inner)
        self.tile_pixels = spec.decision.tile_rows(tile_rows(spec.panel // cpu.lanes, cpu))
        self.long = spec.epilogue.is_long(5)
        self.weight_bytes = 4 * math.prod(conv_weight_shape(spec.weight, spec.panel))

    def emit(self) -> None:
        """Emits the whole convolution."""
        spec = self.spec
        if not isinstance(self.rows, int) or not isinstance(self.columns, int):
            with emit.outer_loop(spec.batch, parallel=self.is_parallel) as image:
                self.chunk(image, emit.integer(0), self.rows)
            return
        bands = split_rows(self.rows, self.chunk_rows(self.rows, self.columns))
        emit.each_band(spec.batch, bands, self.chunk, parallel=self.is_parallel)

    @property
    def is_parallel(self) -> bool:
        """Whether threads share the chunks."""
        extents = [e if isinstance(e, int) else 32 for e in (self.rows, self.columns)]
        work = 2 * self.spec.weight.depth * self.spec.weight.filters * extents[0] * extents[1]
        enough = work > PARALLEL_OPERATIONS
        return self.spec.decision.is_shared(self.cpu.threads, otherwise=enough)

    def chunk_rows(self, rows: int, columns: int) -> int:
        """The output rows whose input takes a quarter of the second-level cache."""
        if self.spec.decision.band is not None:
            return max(1, min(rows, self.spec.decision.band))
        window = self.spec.window
        row_bytes = 4 * self.blocks * self.inner * window.strides[0] * columns * window.strides[1]
        fitting = max(1, self.cpu.l2_bytes // 4 // row_bytes)
        share = -(-rows // self.cpu.threads) if self.is_parallel else rows
        if self.depth_parts(rows * columns) > 1:
            # So large weights are better read once; the parts of the depth keep the input close.
            return min(rows, share)
        # Fewer rows than make a few tiles leave only small ones.
        least = -(-4 * self.tile_pixels // columns)
        return min(rows, share, max(fitting, least))

    def chunk(self, image: PrimExpr, first: PrimExpr, height: Extent) -> None:
        """Output rows from `first` on, of one image."""
        source = self.padded(image, first, height) if self.spec.window.is_padded else None
        source = source or self.direct(image, first)
        sizes, lanes = self.spec.weight, self.cpu.lanes
        group_blocks = channel_blocks(sizes.filters // sizes.groups, lanes)
        full, rest = divmod(group_blocks, self.spec.panel // lanes)
        with emit.serial(sizes.groups) as group:
            panels = full + bool(rest)
            if full:
                with emit.serial(full) as panel:
                    self.panel(
                        source,
                        (image, first, height),
                        group,
                        group * panels + panel,
                        group * group_blocks + panel * (self.spec.panel // lanes),
                        self.spec.panel // lanes,
                    )
            if rest:
                self.panel(
                    source,
                    (image, first, height),
                    group,
                    group * panels + full,
                    group * group_blocks + full * (self.spec.panel // lanes),
                    rest,
                )

    def direct(self, image: PrimExpr, first: PrimExpr) -> Source:
        """The input as it is."""
        spec = self.spec
        data = emit.view(self.x, (emit.product(self.x.shape),))
        row = emit.product((spec.width, self.inner))
        plane = emit.product((spec.height, row))
        start = image * (plane * self.blocks) + first * spec.window.strides[0] * row
        size = emit.product((plane, 4 * self.blocks))
        far = not isinstance(size, int) or size > self.cpu.l2_bytes
        return Source(data, emit.let(start), row, plane, far)

    def padded(self, image: PrimExpr, first: PrimExpr, height: Extent) -> Source:
        """A copy of the input rows of a chunk, with its pads."""
        spec, window = self.spec, self.spec.window
        top = window.pads[0]
        rows, width = window.reach(0, height), window.reach(1, self.columns)
        copy = emit.workspace((self.blocks, rows, width, self.inner))
        x = emit.view(self.x, (spec.batch, self.blocks, spec.height, spec.width, self.inner))
        zero = emit.broadcast(emit.const(0.0), self.inner)
        begin = first * window.strides[0] - top
        with emit.serial(self.blocks) as block, emit.serial(rows) as row:
            inside = tirx.And(begin + row >= 0, begin + row < spec.height)
            with T.If(inside):
                with T.Then():
                    self.copied_row(copy, x, (image, block, row), begin + row, width)
                with T.Else(), emit.serial(width) as column:
                    emit.store(copy, zero, [block, row, column, 0], self.inner)
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
        zero = emit.broadcast(emit.const(0.0), self.inner)
        # The windows may not reach the end of the input, nor the end of the pads.
        used = tirx.min(emit.integer(self.spec.width), emit.integer(width - left))
        for column in range(left):
            emit.store(copy, zero, [block, row, column, 0], self.inner)
        with emit.serial(used) as column:
            value = emit.load(x, [image, block, source_row, column, 0], self.inner)
            emit.store(copy, value, [block, row, column + left, 0], self.inner)
        with emit.serial(width - left - used) as column:
            emit.store(copy, zero, [block, row, column + left + used, 0], self.inner)

    def panel(
        self,
        source: Source,
        place: tuple[PrimExpr, PrimExpr, Extent],
        group: PrimExpr,
        panel: PrimExpr,
        block: PrimExpr,
        vectors: int,
    ) -> None:
        """All tiles of a chunk for one panel of filters, which begins at an output block."""
        image, first, height = place
        tiles = Tile(self, source, (image, first), (group, panel, block), vectors)
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
        sums = emit.workspace((pixels, vectors * self.cpu.lanes))
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
            one_row = isinstance(self.columns, int) and self.columns % size == start % size == 0
            with emit.serial(count) as step:
                emit_tile(Pixels(step * size + start, size, one_row, -(-pixels // size)))
            start += size * count

    def depth_parts(self, pixels: int) -> int:
        """Into how many parts the depth is split, so that all tiles find its weights in the cache.

        A part adds to sums in memory. Only a panel that crowds the input out of it is split.
        """
        weight = self.spec.weight
        panel_bytes = 4 * weight.depth * self.spec.panel
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
