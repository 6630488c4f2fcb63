"""Whether a convolution of bytes takes fewer products through Winograd's tiles, and its weight."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from leptonc.backends.cpu.integer_packing import pack_integer_weight
from leptonc.backends.cpu.packing import Array, channel_blocks
from leptonc.backends.cpu.target import CpuTarget, multiplies_bytes
from leptonc.backends.cpu.winograd_tables import TAPS, WholeTransform
from leptonc.ir.graph import Op

OUTPUTS = 4
TOGETHER = 2
"""The channels that one step multiplies."""
LARGEST = 1 << 25
"""Outputs are known modulo twice this."""
TYPICAL_TILES = 49
"""The tiles of a plane whose extents are not known."""
TRANSFORM = 120
"""Cycles for a block of channels of one tile, going in or coming out."""


@dataclass(frozen=True)
class Rates:
    """What a CPU does in a cycle: products in a lane, direct and of pairs, and bytes of weights.

    The weights are read once for all tiles of a band.
    """

    direct: float
    pairs: float
    weights: float


WITHOUT = Rates(direct=4.0, pairs=2.6, weights=10)
"""Without an instruction that adds products of bytes to 32 bits."""
WITH = Rates(direct=8.0, pairs=4.0, weights=20)
"""With it there is one for pairs too, of half the products. Measured on Zen 4, whose cycles are two
of these for 512 bits: 3 x 3 layers of ResNet-18 of 64 to 256 channels take 0.65 to 0.74 of the time
of direct ones, those of 512 channels at 7 x 7 would take 1.4."""


def may_filter_bytes(op: Op, weight: Array) -> bool:
    """Whether the tiles can compute a convolution: what they give is then exact."""
    once = all(n == 1 for name in ("strides", "dilations") for n in op.ints(name) or ())
    largest = np.abs(weight.astype(np.int64)).sum((1, 2, 3)).max(initial=0) * 255
    blocked = not op.attrs["plain"] and op.int("group") == 1
    return blocked and weight.shape[2:] == (TAPS, TAPS) and once and int(largest) < LARGEST


def pays(weight: Array, extents: tuple[int, int] | None, cpu: CpuTarget) -> bool:
    """Whether the tiles take fewer cycles than a direct convolution."""
    filters, channels = weight.shape[:2]
    tiles, pixels = TYPICAL_TILES, TYPICAL_TILES * OUTPUTS**2
    if extents is not None:
        rows, columns = extents
        tiles, pixels = -(-rows // OUTPUTS) * -(-columns // OUTPUTS), rows * columns
    each = channels * filters / cpu.lanes
    rates = WITH if multiplies_bytes(cpu) else WITHOUT
    direct = pixels * TAPS**2 * each / rates.direct
    points = WholeTransform(OUTPUTS).points
    products = tiles * points * each / rates.pairs
    blocks = channel_blocks(channels, cpu.lanes) + channel_blocks(filters, cpu.lanes)
    read = points * channels * filters * 2 / rates.weights
    return products + tiles * TRANSFORM * blocks + read < direct


def pack_whole_weight(weight: Array, panel: int, lanes: int) -> Array:
    """A weight i8[filters, channels, 3, 3] at the points, for whole blocks of channels."""
    values = WholeTransform(OUTPUTS).weight_matrix()
    filters, channels = weight.shape[:2]
    filled = np.zeros((filters, channels + -channels % lanes, TAPS**2), np.float64)
    filled[:, :channels] = weight.reshape(filters, channels, TAPS**2)
    # one product of matrices, exact: no number is large
    at_points = np.kron(values, values) @ filled.reshape(-1, TAPS**2).T
    parts = at_points.reshape(-1, *filled.shape[:2]).swapaxes(1, 2).astype(np.int16)
    return np.stack([pack_integer_weight(part, panel, TOGETHER) for part in parts])
