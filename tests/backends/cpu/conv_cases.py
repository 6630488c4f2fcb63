# pyright: standard
"""The convolutions that the tests of several kernels compute."""

from __future__ import annotations

from dataclasses import dataclass

from leptonc.backends.cpu.window import Window


@dataclass(frozen=True)
class ConvCase:
    """The sizes of a convolution; a plain one reads its input as N, C, H, W."""

    channels: int
    filters: int
    size: tuple[int, int]
    window: Window
    batch: int = 1
    groups: int = 1
    plain: bool = False


@dataclass(frozen=True)
class IntegerCase(ConvCase):
    """One of bytes; of its weights, so many are too large to be added in 16 bits."""

    large: int = 0
    folds: int = 1


@dataclass(frozen=True)
class TileCase:
    """The sizes of a convolution of 3 x 3."""

    channels: int
    filters: int
    size: tuple[int, int]
    pads: tuple[int, int, int, int] = (1, 1, 1, 1)
    batch: int = 1


def tile_cases(lanes: int, ragged: int) -> dict[str, TileCase]:
    """What Winograd's tiles are tried on; `ragged` is how many channels the last block has."""
    return {
        "whole tiles": TileCase(2 * lanes, 4 * lanes, (8, 12)),
        "odd extents, ragged channels": TileCase(lanes + ragged, 2 * lanes + 5, (7, 9), batch=2),
        "no pads": TileCase(lanes, lanes, (6, 5), (0, 0, 0, 0)),
        "uneven pads": TileCase(lanes, 3 * lanes, (5, 6), (2, 0, 1, 3)),
        "one output": TileCase(lanes, lanes, (1, 1)),
        "several bands": TileCase(4 * lanes, 8 * lanes, (29, 70)),
    }
