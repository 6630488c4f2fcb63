"""Tests for which convolutions are computed by tiles."""

from __future__ import annotations

import pytest

from leptonc.passes.layout.winograd_cost import Extents, chosen_outputs, outputs_of_bf16


@pytest.mark.parametrize(
    ("extents", "outputs"),
    [
        (Extents(64, 64, 56, 56), 4),
        (Extents(256, 256, 14, 14), 2),  # larger tiles would read twice the weights for less
        (Extents(512, 512, 7, 7), 2),
        (Extents(8, 8, 64, 64), 0),  # all transforms and hardly a product
        (Extents(512, 512, 2, 2), 0),  # all weights
    ],
)
def test_the_cheapest_way_is_chosen(extents: Extents, outputs: int) -> None:
    assert chosen_outputs(extents, lanes=8) == outputs


@pytest.mark.parametrize(
    ("extents", "outputs"),
    [
        (Extents(256, 256, 14, 14), 4),  # 834 us instead of 1023 in tiles of 2 x 2
        (Extents(256, 256, 7, 7), 2),  # 436 us instead of 546 directly
        (Extents(512, 512, 7, 7), 2),  # 1454 us instead of 2193 directly, 1957 in larger tiles
        (Extents(8, 8, 64, 64), 0),
        (Extents(512, 512, 2, 2), 0),
    ],
)
def test_sixteen_lanes_read_more_weights_in_a_product_s_time(
    extents: Extents, outputs: int
) -> None:
    assert chosen_outputs(extents, lanes=16) == outputs


@pytest.mark.parametrize(
    ("extents", "outputs"),
    [
        (Extents(64, 64, 56, 56, 2), 4),  # 1436 us instead of 2118 directly, 1602 in smaller tiles
        (Extents(256, 256, 14, 14, 2), 2),  # 1584 us instead of 2051 directly, 1739 in larger tiles
        (Extents(512, 512, 7, 7, 2), 0),  # 2198 us instead of 2286
    ],
)
def test_tiles_save_less_with_stride_2(extents: Extents, outputs: int) -> None:
    assert [chosen_outputs(extents, lanes) for lanes in (8, 16)] == [outputs] * 2


@pytest.mark.parametrize(("threads", "outputs"), [(1, 4), (2, 2)])
def test_threads_do_not_share_the_reading_of_weights(threads: int, outputs: int) -> None:
    """For two threads, tiles of 4 x 4 outputs take an eighth longer in ResNet-50."""
    assert chosen_outputs(Extents(256, 256, 14, 14), lanes=16, threads=threads) == outputs


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("extents", "outputs"),
    [
        (Extents(128, 128, 28, 28), 4),  # for two threads 375 us instead of 583 in smaller tiles
        (Extents(512, 512, 7, 7), 2),  # 780 us instead of 1088 directly
        (Extents(256, 256, 14, 14, 2), 2),  # 902 us instead of 1064 directly
        (Extents(64, 64, 56, 56, 2), 4),  # 785 us instead of 892 in smaller tiles
    ],
)
def test_two_threads_mostly_choose_as_one(extents: Extents, outputs: int, threads: int) -> None:
    assert chosen_outputs(extents, lanes=16, threads=threads) == outputs


def test_large_tiles_can_be_left_out() -> None:
    assert chosen_outputs(Extents(64, 64, 56, 56), lanes=8, largest=2) == 2


@pytest.mark.parametrize(
    ("extents", "own", "outputs"),
    [
        (Extents(64, 64, 56, 56), 4, 2),
        (Extents(512, 512, 7, 7), 0, 2),
        (Extents(16, 16, 112, 112), 4, None),  # transforms bound both: larger tiles have fewer
        (Extents(512, 512, 2, 2), 2, 0),  # all weights
        (Extents(64, 64, 56, 56, 2), 4, 0),  # stride 2 does not save half of the products
    ],
)
def test_bf16_takes_small_tiles_or_none(extents: Extents, own: int, outputs: int | None) -> None:
    assert outputs_of_bf16(extents, 16, own) == outputs
