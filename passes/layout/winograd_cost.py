"""Which convolutions take fewer cycles through Winograd's filtering.

The cycles of a convolution of C channels to F filters, on a CPU with L lanes and two multiply-adds
a cycle, are

    direct:      9 P C F / 2 L + 4 * 9 C F / b                       P outputs
    F(m x m):    p T C F / 2 L + 4 p C F / b + t p T (C + F) / L     p = (m + 2)^2, T tiles

The first term of each is arithmetic (Lavin and Gray, Fast Algorithms for Convolutional Neural
Networks, 2016). The second reads the weights, which no cache keeps from one run to the next, at b
bytes a cycle more than the arithmetic hides. The last one is the transforms: t cycles for each
vector that they read or write. b and t fit what was measured on a core of a server (Zen 3) for
64 to 512 channels, within a tenth.
"""

from __future__ import annotations

from dataclasses import dataclass

TAPS = 3
"""Rows and columns of the filters that this is for."""

WEIGHT_BYTES = 10
"""Bytes of weights that a cycle of waiting brings."""

TRANSFORM_CYCLES = 7
"""Cycles for each vector at a point."""

LARGER_TILE = 0.85
"""A larger tile rounds more: it must take at most this part of the cycles of a smaller one."""

TYPICAL_EXTENT = 32
"""An extent that is not known is taken for this."""


@dataclass(frozen=True)
class Extents:
    """The sizes of a convolution of 3 x 3 with stride 1."""

    channels: int
    filters: int
    rows: int
    columns: int


def chosen_outputs(extents: Extents, lanes: int, largest: int = 4) -> int:
    """The width of the tile to take, 2 or 4; 0 where a direct convolution is better."""
    best, least = 0, direct_cycles(extents, lanes)
    for outputs in (2, 4) if largest >= 4 else (2,):
        cycles = winograd_cycles(extents, outputs, lanes)
        if cycles < LARGER_TILE * least:
            best, least = outputs, cycles
    return best


def direct_cycles(extents: Extents, lanes: int) -> float:
    """The cycles of a direct convolution."""
    pixels, weights = extents.rows * extents.columns, extents.channels * extents.filters * TAPS**2
    return pixels * weights / (2 * lanes) + 4 * weights / WEIGHT_BYTES


def winograd_cycles(extents: Extents, outputs: int, lanes: int) -> float:
    """The cycles through tiles of `outputs` squared."""
    points = (outputs + TAPS - 1) ** 2
    tiles = -(-extents.rows // outputs) * -(-extents.columns // outputs)
    weights = points * extents.channels * extents.filters
    product = tiles * weights / (2 * lanes) + 4 * weights / WEIGHT_BYTES
    vectors = points * tiles * (extents.channels + extents.filters) / lanes
    return product + TRANSFORM_CYCLES * vectors
