# pyright: standard
"""Convolution of 3 x 3 through fewer products: Winograd's F(m x m, 3 x 3).

A band of tiles is taken at a time: their inputs at the points, for each point a product of all
tiles and all filters, and the outputs from these, so that what lies between stays in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.decision import UNDECIDED, Decision
from leptonc.backends.cpu.emit import IDENTITY, Epilogue, Extent, Register
from leptonc.backends.cpu.packing import channel_blocks
from leptonc.backends.cpu.sharing import is_worth_sharing
from leptonc.backends.cpu.short_floats import Stored, around
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.cpu.tiles import split_rows, tile_rows
from leptonc.backends.cpu.window import Window
from leptonc.backends.cpu.winograd_tables import (
    TAPS,
    Transform,
    band_tiles,
    transform_of,
    winograd_weight_shape,
)
from leptonc.backends.cpu.winograd_transform import Band, Inputs, Outputs
from leptonc.backends.tvm.binding import Buffer, PrimExpr, tirx

# The bytes of a line of the caches.
LINE_BYTES = 64


@dataclass(frozen=True)
class WinogradSpec:
    """`out[n, o, h, w, lane] = epilogue(sum of x times weight + bias)`, all in blocks of channels.

    x is f32[batch, C / lanes, height, width, lanes]. The weight is packed for tiles of `outputs`
    squared by `winograd_tables.pack_winograd_weight`, the bias by `packing.pack_channels`. The
    epilogue is also applied to the unused lanes of the last block.
    """

    batch: Extent
    channels: int
    filters: int
    height: Extent
    width: Extent
    pads: tuple[int, int, int, int]
    outputs: int
    panel: int
    bias: bool = True
    epilogue: Epilogue = IDENTITY
    out_dtype: str = "float32"
    decision: Decision = UNDECIDED
    stride: int = 1

    def out_extents(self) -> tuple[Extent, Extent]:
        """The rows and columns of the output."""
        window = Window((TAPS, TAPS), (self.stride, self.stride), pads=self.pads)
        return window.outputs(0, self.height), window.outputs(1, self.width)


@dataclass(frozen=True)
class Point:
    """A point of which sums are taken, and where what is added up lies in inputs and weights.

    That is in so many rows and columns of a square of values, from the first one on.
    """

    number: PrimExpr
    first: PrimExpr
    parts: tuple[int, int] = (1, 1)


def winograd(
    name: str, spec: WinogradSpec, cpu: CpuTarget, emitter: type[Emitter] | None = None
) -> PrimFunc:
    """The kernel (x, weight, bias?, *operands, out)."""
    lanes, points = cpu.lanes, transform_of(spec.outputs, spec.stride).points
    blocks = channel_blocks(spec.filters, lanes)
    inputs = (spec.batch, channel_blocks(spec.channels, lanes), spec.height, spec.width, lanes)
    weight = winograd_weight_shape(points, spec.channels, spec.filters, spec.panel)
    parameters = [
        ("x", inputs, "float32"),
        ("weight", weight, "float32"),
        *([("bias", (blocks * lanes,), "float32")] if spec.bias else []),
        *spec.epilogue.parameters(),
        ("out", (spec.batch, blocks, *spec.out_extents(), lanes), spec.out_dtype),
    ]
    made = emitter or Emitter

    def body(*buffers: Buffer) -> None:
        with around(cpu, spec.out_dtype):
            made(spec, cpu, buffers).emit()

    return emit.function(name, parameters, body)


class Emitter:
    """Emits one convolution: bands of tiles, points, panels of filters, register tiles."""

    element, sum = "float32", "float32"
    element_bytes = 4
    """Those of an input and of a weight at a point."""
    inputs: type[Inputs] = Inputs
    outputs: type[Outputs] = Outputs

    def __init__(self, spec: WinogradSpec, cpu: CpuTarget, buffers: Sequence[Buffer]) -> None:
        self.spec, self.cpu, self.lanes = spec, cpu, cpu.lanes
        self.x, self.weight, *rest = buffers
        self.bias = rest.pop(0) if spec.bias else None
        *self.operands, out = rest
        self.out = Stored.of(out, cpu)
        self.transform = self.transform_of(spec.outputs)
        self.blocks = channel_blocks(spec.channels, cpu.lanes)
        self.out_blocks = channel_blocks(spec.filters, cpu.lanes)
        self.vectors = spec.panel // cpu.lanes
        self.tile_rows = spec.decision.tile_rows(self.most_rows)
        self.tiles = tuple(emit.ceildiv(extent, spec.outputs) for extent in spec.out_extents())

    def transform_of(self, outputs: int) -> Transform:
        """The transforms for tiles of so many outputs."""
        return transform_of(outputs, self.spec.stride)

    @property
    def most_rows(self) -> int:
        """The most rows of a register tile."""
        return tile_rows(self.vectors, self.cpu)

    @property
    def pad(self) -> PrimExpr:
        """What stands around the input."""
        return emit.const(0.0)

    def emit(self) -> None:
        """Emits the whole convolution."""
        (down, across), batch = self.tiles, self.spec.batch
        most = self.spec.decision.band or band_tiles(
            self.spec.channels, self.spec.filters, self.transform, self.cpu, self.element_bytes
        )
        if isinstance(down, int) and isinstance(across, int):
            shares = self.cpu.threads if self.is_parallel else 1
            bands = split_rows(down, max(1, most // across), shares)
            emit.each_band(
                batch,
                bands,
                lambda image, first, height: self.band((image, first), height, height * across),
                parallel=self.is_parallel,
            )
            return
        down = emit.integer(down)
        wanted = tirx.floordiv(emit.integer(most), tirx.max(emit.integer(across), 1))
        height = emit.let(tirx.max(tirx.min(wanted, down), 1))
        bands = emit.let(emit.ceildiv(down, height))
        with emit.outer_loop(batch * bands, parallel=self.is_parallel) as step:
            image, band = tirx.floordiv(step, bands), tirx.floormod(step, bands)
            first = emit.let(band * height)
            room = tirx.max(emit.integer(most), emit.integer(across))
            self.band((image, first), emit.let(tirx.min(height, down - first)), room)

    @property
    def is_parallel(self) -> bool:
        """Whether threads share the bands; symbolic extents are taken for large."""
        extents = [e if isinstance(e, int) else 32 for e in self.spec.out_extents()]
        work = 2 * self.spec.channels * self.spec.filters * TAPS**2 * extents[0] * extents[1]
        enough = is_worth_sharing(work)
        return self.spec.decision.is_shared(self.cpu.threads, otherwise=enough)

    def band(self, place: tuple[PrimExpr, PrimExpr], height: Extent, room: Extent) -> None:
        """So many rows of tiles, at most `room` tiles, of an image and from one of its rows on."""
        count = emit.product((height, self.tiles[1]))
        transform, lanes = self.transform, self.lanes
        # Points that lie a power of two apart would share the same few sets of a cache.
        inputs, outputs = room * (self.blocks * lanes), room * (self.out_blocks * lanes)
        inputs += LINE_BYTES // self.element_bytes
        sources = emit.workspace((transform.points, inputs), self.element)
        sums = emit.workspace((transform.across**2, outputs + LINE_BYTES // 4), self.sum)
        band = Band(*place, height, self.tiles[1], count)
        self.inputs(self, band, sources).emit()
        full, rest = divmod(self.out_blocks, self.vectors)

        def panels(point: Point) -> None:
            if full:
                with emit.serial(full) as panel:
                    self.panel(sources, sums, count, (point, panel), self.vectors)
            if rest:
                self.panel(sources, sums, count, (point, emit.integer(full)), rest)

        self.each_point(panels)
        self.outputs(self, band, sums).emit()

    def each_point(self, visit: Callable[[Point], None]) -> None:
        """Visits all points."""
        with emit.serial(self.transform.points) as point:
            visit(Point(point, point))

    def each_part(self, point: Point, visit: Callable[[PrimExpr], None]) -> None:
        """Visits what is added up at a point."""
        visit(point.first)

    def panel(
        self,
        sources: Buffer,
        sums: Buffer,
        count: Extent,
        place: tuple[Point, PrimExpr],
        vectors: int,
    ) -> None:
        """The product of all tiles of a band with a panel of filters at one point."""
        point, panel = place
        full, rest = divmod(self.spec.channels, self.lanes)

        def tile(first: PrimExpr, rows: int) -> None:
            registers = [
                [Register(self.lanes, self.sum) for _ in range(vectors)] for _ in range(rows)
            ]
            for register in (r for row in registers for r in row):
                register.set(emit.broadcast(emit.const(0, self.sum), self.lanes))

            def part(source: PrimExpr) -> None:
                place = source, panel
                with emit.serial(full) as block:
                    if isinstance(count, int) and self.spec.decision.ahead != 0:
                        self.fetch_ahead(place, first // rows, block, -(-count // rows))
                    self.products(registers, sources, count, place, (block, first), self.lanes)
                if rest:
                    block = emit.integer(full)
                    self.products(registers, sources, count, place, (block, first), rest)

            self.each_part(point, part)
            for r, row in enumerate(registers):
                for v, register in enumerate(row):
                    block = panel * self.vectors + v
                    at = (block * count + first + r) * self.lanes
                    emit.store(sums, register.get(), [point.number, at], self.lanes)

        self.each_tile(count, tile)

    def products(
        self,
        registers: list[list[Register]],
        sources: Buffer,
        count: Extent,
        place: tuple[PrimExpr, PrimExpr],
        source: tuple[PrimExpr, PrimExpr],
        channels: int,
    ) -> None:
        """Adds the products of some channels of one input block."""
        (point, panel), (block, first), lanes = place, source, self.lanes
        begin = emit.let((block * count + first) * lanes)
        with emit.serial(channels) as channel:
            row_of = block * lanes + channel
            filters = [
                emit.load(self.weight, [point, panel, row_of, v * lanes], lanes)
                for v in range(len(registers[0]))
            ]
            for r, row in enumerate(registers):
                value = emit.load(sources, [point, begin + r * lanes + channel])
                for register, column in zip(row, filters, strict=True):
                    product = emit.fma(emit.broadcast(value, lanes), column, register.get())
                    register.set(product)

    def fetch_ahead(
        self, place: tuple[PrimExpr, PrimExpr], step: PrimExpr, block: PrimExpr, steps: int
    ) -> None:
        """Asks for a share of the next panel's weights: they are read in the order of memory."""
        point, panel = place
        elements = LINE_BYTES // self.element_bytes
        lines = -(-self.lanes * self.spec.panel // elements // steps)
        per_step = self.blocks * lines
        for line in range(lines):
            offset = (step * per_step + block * lines + line) * elements
            flat = [point, panel + 1, emit.integer(0), offset]
            emit.prefetch(self.weight, flat)

    def each_tile(self, count: Extent, tile: Callable[[PrimExpr, int], None]) -> None:
        """Covers the tiles of a band with register tiles."""
        size = self.tile_rows
        if isinstance(count, int):
            start = 0
            for rows, steps in split_rows(count, size):
                with emit.serial(steps) as step:
                    tile(step * rows + start, rows)
                start += rows * steps
            return
        with T.If(count >= size):
            with T.Then(), emit.serial(emit.ceildiv(count, size)) as step:
                tile(emit.let(tirx.min(step * size, count - size)), size)
            with T.Else():
                rest, least = count, size
                while least > 1:
                    least = (least + 1) // 2
                    few = emit.let(tirx.floordiv(rest, least))
                    with emit.serial(few) as step:
                        tile(emit.let(count - rest + step * least), least)
                    rest = emit.let(rest - few * least)
