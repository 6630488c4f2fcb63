"""How many rows of outputs a direct convolution computes at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from leptonc.backends.cpu.bands import fitting_rows, streaming_rows
from leptonc.backends.cpu.target import CpuTarget, by_name
from leptonc.backends.cpu.tiles import Tile, conv_panel, tile_rows

AVX512, AVX2 = (replace(by_name(name), threads=1) for name in ("avx512", "avx2"))


def streamed(channels: int, filters: int, extents: tuple[int, int], cpu: CpuTarget) -> int | None:
    rows, columns = extents
    vectors = conv_panel(filters, rows * columns, cpu) // cpu.lanes
    tile = Tile(tile_rows(vectors, cpu), vectors)
    return streaming_rows(extents, 4 * channels * columns, 4 * channels * filters, tile, cpu)


@pytest.mark.parametrize(
    ("channels", "filters", "extents", "rows"),
    [(960, 160, (7, 7), 1), (160, 960, (7, 7), 1), (64, 384, (14, 14), 1), (64, 384, (6, 3), 2),
     (2048, 512, (7, 7), None), (384, 64, (14, 14), None), (64, 4096, (28, 28), None),
     (64, 384, (1, 7), None)],
)  # fmt: skip
def test_a_row_that_is_one_tile_has_the_weights_read_in_order(
    channels: int, filters: int, extents: tuple[int, int], rows: int | None
) -> None:
    assert streamed(channels, filters, extents, AVX512) == rows


def test_tiles_lower_than_a_row_read_each_panel_for_all_rows() -> None:
    assert streamed(160, 960, (7, 7), AVX2) is None
    assert streamed(160, 960, (6, 6), AVX2) == 1


def test_a_band_takes_a_quarter_of_the_second_cache_or_a_few_tiles() -> None:
    assert fitting_rows(AVX512.l2_bytes // 16, 28, Tile(14, 2), AVX512) == 4
    assert fitting_rows(AVX512.l2_bytes, 28, Tile(14, 2), AVX512) == 2
