"""The choice of register tiles."""

from __future__ import annotations

import pytest

from leptonc.backends.cpu.target import LEVELS, CpuTarget, by_name
from leptonc.backends.cpu.tiles import (
    SYMBOLIC_ROWS,
    Tile,
    conv_panel,
    matmul_tile,
    split_depth,
    split_rows,
    tile_rows,
)

# TVM turns larger allocations on the stack into calls of an allocator.
STACK_BYTES = 1024


@pytest.mark.parametrize("rows", [1, 7, 64])
@pytest.mark.parametrize("most", [1, 4, 6, 14])
def test_split_covers_exactly(rows: int, most: int) -> None:
    tiles = split_rows(rows, most)
    assert sum(height * count for height, count in tiles) == rows
    assert split_rows(0, most) == []
    heights = [height for height, _ in tiles]
    assert max(heights) <= most
    assert max(heights) - min(heights) <= 1


@pytest.mark.parametrize(
    ("rows", "most", "shares", "tiles"),
    [(56, 24, 2, [(14, 4)]), (7, 24, 2, [(4, 1), (3, 1)]), (7, 2, 3, [(2, 1), (1, 5)]),
     (1, 4, 2, [(1, 1)]), (12, 6, 2, [(6, 2)])],
)  # fmt: skip
def test_shares_get_the_same_number_of_tiles(
    rows: int, most: int, shares: int, tiles: list[tuple[int, int]]
) -> None:
    assert split_rows(rows, most, shares) == tiles


@pytest.mark.parametrize("cpu", LEVELS, ids=lambda cpu: cpu.name)
@pytest.mark.parametrize("rows", [None, 1, 5, 128])
@pytest.mark.parametrize("columns", [1, 24, 768])
def test_tiles_fit_the_registers(cpu: CpuTarget, rows: int | None, columns: int) -> None:
    tile = matmul_tile(rows, columns, 64, cpu)
    assert tile.rows * tile.vectors + tile.vectors + 1 <= cpu.registers
    assert tile.rows <= (SYMBOLIC_ROWS if rows is None else rows)
    height = tile_rows(tile.vectors, cpu)
    assert height * tile.vectors + tile.vectors + 1 <= cpu.registers
    assert 4 * height * cpu.lanes < STACK_BYTES
    assert split_depth(tile, cpu) * tile.rows * tile.vectors < cpu.registers


def test_known_best_tiles() -> None:
    assert matmul_tile(128, 768, 768, by_name("avx2")) == Tile(4, 3)
    assert matmul_tile(None, 768, 768, by_name("avx512")) == Tile(8, 3)
    assert matmul_tile(197, 768, 3072, by_name("avx512")).vectors == 3
    assert conv_panel(64, 3136, by_name("avx2")) == 16
    assert conv_panel(24, 3136, by_name("avx2")) == 24
    assert conv_panel(40, 784, by_name("avx2")) == 24  # 3 + 2 blocks fill all accumulators
    assert conv_panel(96, 12544, by_name("avx2"), 16) == 24
    assert conv_panel(96, 12544, by_name("avx2"), 64) == 16


def test_few_accumulators_split_the_depth() -> None:
    assert split_depth(Tile(1, 2), by_name("avx2")) == 4
    assert split_depth(Tile(6, 2), by_name("avx2")) == 1
