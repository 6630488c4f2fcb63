"""Short lists: the decisions around that of the formulas that are worth measuring for a kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from leptonc.backends.base import ShortList
from leptonc.backends.cpu.decision import UNDECIDED, Decision
from leptonc.backends.cpu.integer_winograd_packing import OUTPUTS, may_filter_bytes
from leptonc.backends.cpu.prepare import constants_of, products_of
from leptonc.backends.cpu.prepare_convolutions import may_filter, stride_of
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.cpu.tiles import (
    MOST_VECTORS,
    SYMBOLIC_ROWS,
    TYPICAL_ROWS,
    Tile,
    conv_panel,
    integer_panel,
    integer_tile_rows,
    matmul_cost,
    matmul_tile,
    split_rows,
    step_cycles,
    tile_rows,
)
from leptonc.backends.cpu.winograd_tables import PAIRS, band_tiles, transform_of
from leptonc.backends.tvm.source import KernelSource, kernel_source
from leptonc.ir.dims import product
from leptonc.ir.graph import Graph, Op

SHAPES = 5
"""So many register tiles of those with the fewest cycles are worth a measurement."""
SILENT = ("const", "dims", "return")
PIXELS = (10, 7, 5, 4)
"""Widths of the tiles of depthwise convolutions."""


def short_lists(graph: Graph, cpu: CpuTarget, largest_tile: int) -> dict[str, ShortList]:
    """What can be decided of the kernels of an optimised graph, by workload."""
    found: dict[str, ShortList] = {}
    for name, workload in workloads(graph, cpu, largest_tile).items():
        operations = [op for op in workload.source.graph if op.name not in SILENT]
        nodes = dict.fromkeys(node for op in operations for node in op.location.nodes)
        names = " ".join(op.name for op in operations)
        texts = tuple(decision.text for decision in workload.candidates)
        found[name] = ShortList(names, tuple(nodes), texts)
    return found


@dataclass(frozen=True)
class Workload:
    """A kernel before anything is decided of it, and the decisions to measure, likely ones first.

    `uses` is how many operations of the graph are computed by it.
    """

    source: KernelSource
    candidates: tuple[Decision, ...]
    uses: int = 1


def workloads(graph: Graph, cpu: CpuTarget, largest_tile: int) -> dict[str, Workload]:
    """The kernels of an optimised graph of which something can be decided, by name.

    Winograd's tiles are no larger than `largest_tile`.
    """
    found: dict[str, Workload] = {}
    for op, holder in products_of(graph):
        weight = constants_of(op, holder).get("w")
        if op.name not in SHORT_LISTS or weight is None or 0 in weight.type.extents:
            continue
        source = kernel_source(holder or op)
        name = source.name
        if name in found:
            found[name] = Workload(source, found[name].candidates, found[name].uses + 1)
            continue
        decisions = SHORT_LISTS[op.name](op, cpu, largest_tile)
        distinct = tuple(dict.fromkeys(each for each in decisions if each != UNDECIDED))
        found[name] = Workload(source, distinct)
    return found


def _linear(op: Op, cpu: CpuTarget, largest_tile: int) -> Iterator[Decision]:
    rows = product(op.operands[0].type.shape[:-1])
    weight = op.operands[1].type.extents
    columns = weight[0] if op.attrs.get("transposed") else weight[1]
    known = rows if isinstance(rows, int) else None
    own = matmul_tile(known, columns, weight[0] * weight[1] // columns, cpu).vectors
    yield from _shapes(rows, columns, own, cpu, lambda vectors: tile_rows(vectors, cpu))
    yield Decision(ahead=0)
    yield from _sharing(cpu)


def _integer_linear(op: Op, cpu: CpuTarget, largest_tile: int) -> Iterator[Decision]:
    x, w = op.operands[0].type, op.operands[1].type
    together = 4 if x.dtype.bits == 8 else 2
    rows = product(x.shape[:-1])
    known = rows if isinstance(rows, int) else None
    own = integer_panel(known, w.extents[1], together, cpu) // cpu.lanes
    yield from _shapes(
        rows, w.extents[1], own, cpu, lambda vectors: integer_tile_rows(vectors, together, cpu)
    )
    yield Decision(ahead=0)
    yield from _sharing(cpu)


def _integer_conv(op: Op, cpu: CpuTarget, largest_tile: int) -> Iterator[Decision]:
    pixels, filters = product(op.result.type.shape[2:4]), op.operands[1].type.extents[0]
    if op.int("group") > 1:
        yield from (Decision(rows=count) for count in PIXELS)
        yield from _sharing(cpu)
        return
    blob = op.operands[1].blob
    if blob is not None and may_filter_bytes(op, blob.array):
        yield from (Decision(tile=tile) for tile in (0, OUTPUTS))
    known = pixels if isinstance(pixels, int) else None
    own = integer_panel(known, filters, 4, cpu) // cpu.lanes
    yield from _shapes(
        pixels, filters, own, cpu, lambda vectors: integer_tile_rows(vectors, 4, cpu)
    )
    yield from _bands(op.result.type.shape[2], cpu)
    yield from _sharing(cpu)


def _shapes(
    rows: object, columns: int, own: int, cpu: CpuTarget, most_rows: Callable[[int], int]
) -> list[Decision]:
    """Register tiles by the cycles of a step of the reduction, but for that of `own` vectors."""
    count = max(rows, 1) if isinstance(rows, int) else TYPICAL_ROWS
    limit = count if isinstance(rows, int) else SYMBOLIC_ROWS
    found: dict[Decision, float] = {}
    for vectors in range(1, MOST_VECTORS + 1):
        for height in _heights(count, min(limit, most_rows(vectors))):
            cycles = matmul_cost(count, columns, Tile(height, vectors), cpu)
            found[Decision(vectors=vectors, rows=height)] = round(cycles, 6)
    usual = split_rows(count, max(1, min(limit, most_rows(own))))[0][0]
    found.pop(Decision(vectors=own, rows=usual), None)
    return sorted(found, key=lambda decision: found[decision])[:SHAPES]


def _heights(count: int, most: int) -> Iterable[int]:
    """The different heights of tiles that cover so many rows, lower than four less than `most`."""
    return {split_rows(count, high)[0][0] for high in range(max(1, most - 4), max(1, most) + 1)}


def _conv(op: Op, cpu: CpuTarget, largest_tile: int) -> Iterator[Decision]:
    filters, part, height, width = op.operands[1].type.extents
    group = op.int("group")
    if part == 1 and group == filters and group > 1:
        yield from (Decision(rows=pixels) for pixels in PIXELS)
        yield Decision(keep=0)
        yield from _sharing(cpu)
        return
    tile, rows = op.int("tile"), op.result.type.shape[2]
    if op.attrs["halved"]:
        yield from _bands(rows, cpu)
        yield Decision(ahead=0)
        yield from _sharing(cpu)
        return
    tiles = [each for each in (0, *PAIRS) if each <= largest_tile] if may_filter(op) else [tile]
    pixels = product(op.result.type.shape[2:4])
    shapes = _conv_shapes(filters // group, pixels, part * height * width, cpu)
    if tile:
        yield from _winograd(op, tile, cpu)
    else:
        yield from shapes
        yield from _bands(rows, cpu)
        yield Decision(ahead=0)
        yield from (Decision(parts=parts) for parts in (1, 2, 4) if part * group >= 256)
    yield from (Decision(tile=other) for other in tiles if other != tile)
    yield from _sharing(cpu)


def _conv_shapes(filters: int, pixels: object, depth: int, cpu: CpuTarget) -> list[Decision]:
    """Register tiles by the cycles of a step of the reduction, as `conv_panel` counts them."""
    blocks = -(-filters // cpu.lanes)
    count = max(pixels, 1) if isinstance(pixels, int) else TYPICAL_ROWS
    found: dict[Decision, float] = {}
    for vectors in range(1, min(MOST_VECTORS, blocks) + 1):
        full, rest = divmod(blocks, vectors)
        for height in _heights(count, tile_rows(vectors, cpu)):
            tiles = -(-count // height)
            average = count / tiles
            step = full * step_cycles(average, vectors) + step_cycles(average, rest)
            found[Decision(vectors=vectors, rows=height)] = round(tiles * step, 6)
    known = pixels if isinstance(pixels, int) else None
    own = conv_panel(filters, known, cpu, depth) // cpu.lanes
    usual = split_rows(count, max(1, tile_rows(own, cpu)))[0][0]
    found.pop(Decision(vectors=own, rows=usual), None)
    return sorted(found, key=lambda decision: found[decision])[:SHAPES]


def _winograd(op: Op, tile: int, cpu: CpuTarget) -> Iterator[Decision]:
    filters, channels, *_ = op.operands[1].type.extents
    transform = transform_of(tile, stride_of(op))
    band = band_tiles(channels, filters, transform, cpu, 2 if op.attrs["rounds"] else 4)
    yield from (Decision(band=size) for size in (band // 2, band * 2) if size)
    blocks = -(-filters // cpu.lanes)
    yield from (Decision(vectors=vectors) for vectors in (2, 3, 4, 1) if vectors <= blocks)
    yield Decision(ahead=0)


def _bands(rows: object, cpu: CpuTarget) -> Iterator[Decision]:
    """Bands of all rows, and of parts of them that threads can share evenly."""
    if isinstance(rows, int):
        share = -(-rows // cpu.threads)
        sizes = dict.fromkeys(-(-share // parts) for parts in (1, 2, 4, 8))
        yield from (Decision(band=size) for size in sizes if size > 0)


def _sharing(cpu: CpuTarget) -> Iterator[Decision]:
    if cpu.threads > 1:
        yield Decision(shared=0)
        yield Decision(shared=1)


SHORT_LISTS: Mapping[str, Callable[[Op, CpuTarget, int], Iterator[Decision]]] = {
    "linear": _linear, "integer_linear": _integer_linear, "conv_blocked": _conv,
    "integer_conv_blocked": _integer_conv,
}  # fmt: skip
"""The operations of which something can be decided."""
