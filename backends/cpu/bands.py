"""How many rows of outputs a direct convolution computes before it goes on to the next ones."""

from __future__ import annotations

from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.cpu.tiles import Tile, step_cycles


def fitting_rows(row_bytes: int, columns: int, tile: Tile, cpu: CpuTarget) -> int:
    """The rows whose input takes a quarter of the second cache, and at least a few tiles.

    Fewer rows than make a few tiles leave only small ones.
    """
    return max(1, cpu.l2_bytes // 4 // row_bytes, -(-4 * tile.rows // columns))


def streaming_rows(
    extents: tuple[int, int], row_bytes: int, weight_bytes: int, tile: Tile, cpu: CpuTarget
) -> int | None:
    """The rows that make one tile, where the weights are best read from beginning to end for them.

    Their input stays in the first cache meanwhile, and the hardware foresees where the next weights
    are; tiles that all read a panel before the next one wait for memory at each panel's beginning,
    and read it from the second cache again, as their input. 49 pixels of 960 channels to 160
    filters take 0.95 of the time in bands of 7, 160 to 960 0.92 (Zen 4); MobileNetV2 0.974,
    EfficientNet-B0 0.98. Where a row has to be several tiles, as with AVX2, it takes 1.0 to 1.007.
    Not where the tile takes more cycles than those of all rows, nor where inputs outweigh weights.
    """
    rows, columns = extents
    if weight_bytes < rows * row_bytes:
        return None

    def cycles(count: int) -> float:
        pixels = count * columns
        tiles = -(-pixels // tile.rows)
        return round(tiles * step_cycles(pixels / tiles, tile.vectors) / pixels, 6)

    most = min(rows - 1, tile.rows // columns, cpu.l1_bytes // row_bytes)
    return next((count for count in range(1, most + 1) if cycles(count) <= cycles(rows)), None)
