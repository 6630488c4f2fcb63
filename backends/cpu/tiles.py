"""Closed-form choices of register tiles: no search, no measurement at compile time."""

from __future__ import annotations

from dataclasses import dataclass, replace

from leptonc.backends.cpu.target import CpuTarget

# Independent multiply-adds that keep two units of four cycles' latency busy.
CHAINS = 8
# Symbolic rows are tiled by at most so many, since each height that may remain is code of its own.
SYMBOLIC_ROWS = 8
# More accumulators in one column hide no more latency, and would not fit on the stack.
MOST_ROWS = 14
# More accumulators than these gain nothing, but higher tiles read more rows at once than the first
# cache has ways where these are multiples of 4 KB apart: 197 x 3072 x 768 in tiles of 14 x 2
# vectors of 16 lanes reaches 80 % of the peak, in 9 x 3 or 6 x 4 97 %; pairs of bf16 89 and 96 %.
ENOUGH = 24
# Sums of so few products take little of the time of their tile.
SHALLOW = 32
# Wider panels leave too few registers for rows.
MOST_VECTORS = 4
# The products in whose time the lanes of a sum are added up: shuffles and additions.
ADDING = 10
# The row count that a product with symbolic rows is laid out for.
TYPICAL_ROWS = 128


@dataclass(frozen=True)
class Tile:
    """Accumulators of a register tile: rows times vectors."""

    rows: int
    vectors: int


def matmul_tile(rows: int | None, columns: int, depth: int, cpu: CpuTarget) -> Tile:
    """The tile for rows x columns; rows is None where it is symbolic.

    Of equal tiles with enough accumulators the widest but one is taken: its heights leave the
    shorter rests.
    """
    return best_tile(rows, columns, cpu, (3, 2, 4, 1))


def best_tile(rows: int | None, columns: int, cpu: CpuTarget, widths: tuple[int, ...]) -> Tile:
    """The tile with the fewest cycles, of equal ones the first of these widths.

    The cycles of one step of the reduction are bounded by two multiply-adds and two loads a cycle;
    latency does not bound them, because a tile of few accumulators splits its reduction.
    """
    count = TYPICAL_ROWS if rows is None else max(rows, 1)
    most = SYMBOLIC_ROWS if rows is None else min(count, MOST_ROWS)
    best: tuple[tuple[float, int], Tile] | None = None
    for vectors in widths:
        for height in range(1, cpu.registers):
            if height * vectors + vectors + 1 > cpu.registers or height > most:
                break
            cost = matmul_cost(count, columns, Tile(height, vectors), cpu)
            key = (round(cost, 6), -min(height * vectors, ENOUGH))
            if best is None or key < best[0]:
                best = (key, Tile(height, vectors))
    assert best is not None
    return best[1]


def matmul_cost(rows: int, columns: int, tile: Tile, cpu: CpuTarget) -> float:
    """Cycles of one step of the reduction over the whole product."""
    panels = -(-columns // (tile.vectors * cpu.lanes))
    tiles = -(-rows // tile.rows)
    height = rows / tiles
    accumulators = height * tile.vectors
    return tiles * panels * max(accumulators / 2, (height + tile.vectors) / 2)


def matmul_panel(rows: int | None, columns: int, depth: int, cpu: CpuTarget) -> int:
    """The columns of a panel of the packed weight."""
    return matmul_tile(rows, columns, depth, cpu).vectors * cpu.lanes


def split_rows(rows: int, most: int, shares: int = 1) -> list[tuple[int, int]]:
    """(height, count) of tiles that cover the rows exactly: at most two heights, one apart.

    So many shares get the same number of tiles, where there are rows for that.
    """
    tiles = max(1, min(rows, -(-rows // (most * shares)) * shares))
    base, extra = divmod(rows, tiles)
    return [(h, n) for h, n in ((base + 1, extra), (base, tiles - extra)) if h * n]


def whole_rows(rows: object, most: int) -> int:
    """The rows of the highest tiles of a product with so many rows, which may be open."""
    if not isinstance(rows, int):
        return min(most, SYMBOLIC_ROWS)
    return max((height for height, _ in split_rows(rows, most)), default=most)


def split_depth(tile: Tile, cpu: CpuTarget) -> int:
    """The number of interleaved partial sums that hides the latency of a tile's accumulators."""
    accumulators = tile.rows * tile.vectors
    split = 1
    while split * accumulators < CHAINS and 2 * split * accumulators < cpu.registers - 1:
        split *= 2
    return split


def conv_panel(filters: int, pixels: int | None, cpu: CpuTarget, depth: int | None = None) -> int:
    """The filters of a panel of a packed convolution weight; `filters` are those of one group.

    The last panel has only the vectors that are left, in tiles as high as those of the others. Of
    equal panels those of two vectors read weights for most rows; where the sums are of few
    products, those of three are as much as a tenth faster.
    """
    blocks = -(-filters // cpu.lanes)
    count = TYPICAL_ROWS if pixels is None else max(pixels, 1)

    def cycles(vectors: int) -> float:
        tiles = -(-count // tile_rows(vectors, cpu))
        height, (full, rest) = count / tiles, divmod(blocks, vectors)
        return round(tiles * (full * step_cycles(height, vectors) + step_cycles(height, rest)), 6)

    widths = (3, 2, 4, 1) if depth is not None and depth <= SHALLOW else (2, 3, 4, 1)
    return min(widths, key=cycles) * cpu.lanes


def is_single(filters: int, channels: int, taps: int, cpu: CpuTarget) -> bool:
    """Whether lanes of channels take fewer products than lanes of filters, of which one is used."""
    blocks = -(-channels // cpu.lanes)
    return filters == 1 and taps * blocks + ADDING < taps * channels


def step_cycles(rows: float, vectors: int) -> float:
    """Cycles of one step of a reduction that is not split: arithmetic, loads or latency."""
    if not vectors:
        return 0
    return max(rows * vectors / 2, (rows + vectors) / 2, CHAINS / 2)


def tile_rows(vectors: int, cpu: CpuTarget) -> int:
    """The rows of the largest tile of so many vectors: accumulators, weights and one broadcast."""
    return min(MOST_ROWS, (cpu.registers - 1) // vectors - 1)


def widened_rows(vectors: int, cpu: CpuTarget) -> int:
    """As `tile_rows`, with registers for words of two elements and what they are widened to."""
    return max(1, min(MOST_ROWS, (cpu.registers - 4 - 2 * vectors) // vectors))


def bf16_panel(rows: int | None, columns: int, depth: int, cpu: CpuTarget, *, pairs: bool) -> int:
    """The columns of a panel of a weight packed in bf16.

    Where no instruction multiplies `pairs`, each tile widens what it reads: two vectors leave most
    rows for it. A single row has nothing to keep but sums.
    """
    if pairs:
        return matmul_panel(rows, columns, depth, cpu)
    vectors = 4 if rows == 1 else 2
    return min(vectors, -(-columns // cpu.lanes)) * cpu.lanes


def bytes_panel(rows: int | None, columns: int, depth: int, cpu: CpuTarget) -> int:
    """The columns of a panel of a weight of bytes that become floats where they are multiplied.

    Two vectors leave most rows for each byte that is converted.
    """
    return best_tile(rows, columns, cpu, (2, 3, 4, 1)).vectors * cpu.lanes


def integer_tile_rows(vectors: int, together: int, cpu: CpuTarget) -> int:
    """As `tile_rows`, with registers for products of two elements of the depth, or of four."""
    return min(MOST_ROWS, (cpu.registers - 1 - together // 2) // vectors - 1)


def integer_panel(rows: int | None, columns: int, together: int, cpu: CpuTarget) -> int:
    """The columns of a panel of a weight packed for products of integers.

    Two vectors leave most rows for each weight that is read.
    """
    fewer = replace(cpu, registers=cpu.registers - together // 2)
    return best_tile(rows, columns, fewer, (2, 3, 4, 1)).vectors * cpu.lanes


def recurrent_units(batch: int | None, hidden: int, gates: int, cpu: CpuTarget) -> int:
    """The units of a panel of a recurrent weight: a tile is the gates of that many, for some rows.

    The cycles of one step of the reduction are bounded as in `best_tile`, and by the latency of a
    multiply-add, since the reduction of a step is not split.
    """
    count = SYMBOLIC_ROWS if batch is None else max(batch, 1)
    best: tuple[float, int] | None = None
    for units in range(1, cpu.registers // gates):
        vectors = units * gates
        height = min(count, recurrent_rows(vectors, cpu))
        if height < 1:
            break
        panels, tiles = -(-hidden // (units * cpu.lanes)), -(-count // height)
        cycles = max(height * vectors / 2, (height + vectors) / 2, CHAINS / 2)
        if best is None or panels * tiles * cycles < best[0]:
            best = (panels * tiles * cycles, units)
    assert best is not None
    return best[1] * cpu.lanes


def recurrent_rows(vectors: int, cpu: CpuTarget) -> int:
    """The rows of a tile of a recurrent product; a single row reads its weights from memory."""
    rows = tile_rows(vectors, cpu)
    return rows if rows > 0 or vectors > cpu.registers - 2 else 1
