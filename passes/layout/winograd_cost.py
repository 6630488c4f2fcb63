"""Which convolutions take fewer cycles through Winograd's filtering.

The cycles of a convolution of C channels to F filters, on a CPU with L lanes and two multiply-adds
a cycle, are

    direct:      9 P C F / 2 L + 4 * 9 C F / b                       P outputs
    F(m x m):    p T C F / 2 L + 4 p C F / b + t T (p C + s F) / L   p = s = (m + 2)^2, T tiles

With stride 2 there are p = (2 m + 1)^2 products, added up at s = (m + 1)^2 points.
The first term of each is arithmetic (Lavin and Gray, Fast Algorithms for Convolutional Neural
Networks, 2016). The second reads the weights, which no cache keeps from one run to the next, at b
bytes a cycle more than the arithmetic hides. The last one is the transforms: t cycles for each
vector that they read or write. b and t fit what was measured on cores of servers for 64 to 512
channels, within a tenth: Zen 3 with 8 lanes, Zen 4 with 16. A cycle here is the time of two
multiply-adds of whole vectors; with 16 lanes those take Zen 4 two of its own, in which twice as
many bytes arrive.

Several threads divide the arithmetic and the transforms, but all of them read all weights: on two
cores of Zen 4, larger tiles for 256 channels at 14 x 14 save a sixth of the time of smaller ones
for one thread and lose an eighth for two (in ResNet-50, 0.7 to 1 % of a run).
"""

from __future__ import annotations

from dataclasses import dataclass

from leptonc.ir.graph import Op
from leptonc.ir.types import DType

TAPS = 3
"""Rows and columns of the filters that this is for."""

WEIGHT_BYTES = 10
"""Bytes of weights that a cycle of waiting brings."""

TRANSFORM_CYCLES = 7.0
"""Cycles for each vector at a point."""

WIDE_LANES = 16
WIDE_WEIGHT_BYTES = 32
WIDE_TRANSFORM_CYCLES = 3.5
"""The same with so many lanes."""

BF16_TRANSFORM_CYCLES = 2
"""The same where bf16 is multiplied, which takes vectors of 16 numbers: measured on Zen 4."""

BF16_RATE = 2
"""Products of bf16 in the time of one of fp32."""

LARGER_TILE = 0.85
"""A larger tile rounds more: it must take at most this part of the cycles of a smaller one."""

TYPICAL_EXTENT = 32
"""An extent that is not known is taken for this."""


@dataclass(frozen=True)
class Extents:
    """The sizes of a convolution of 3 x 3, its outputs, and its stride, 1 or 2."""

    channels: int
    filters: int
    rows: int
    columns: int
    stride: int = 1


def extents_of(op: Op) -> Extents | None:
    """The sizes of a blocked convolution that tiles can compute; None where they cannot."""
    weight = op.operands[1]
    if weight.blob is None or weight.type.dtype is not DType.F32:
        return None
    filters, channels, *kernel = weight.type.extents
    strides, dense = tuple(op.ints("strides") or (1, 1)), set(op.ints("dilations") or ()) <= {1}
    fits = kernel == [TAPS, TAPS] and strides in ((1, 1), (2, 2)) and dense
    if not fits or op.int("group") != 1 or op.attrs["plain"]:
        return None
    rows, columns = (
        extent if isinstance(extent, int) else TYPICAL_EXTENT
        for extent in op.result.type.shape[2:4]
    )
    return Extents(channels, filters, rows, columns, strides[0])


def outputs_of_bf16(extents: Extents, lanes: int, own: int) -> int | None:
    """The tile of a convolution of bf16, 2 or 0; None where `own`, in fp32, takes fewer cycles.

    Larger tiles of bf16 would be off by several times what a direct convolution is. With stride 2
    no tiles save as much as half of the products.
    """
    if extents.stride > 1:
        return 0
    direct, tiles = (
        direct_cycles(extents, lanes, BF16_RATE),
        winograd_cycles(extents, 2, lanes, BF16_RATE, BF16_TRANSFORM_CYCLES),
    )
    if own and winograd_cycles(extents, own, lanes, 1, BF16_TRANSFORM_CYCLES) < min(direct, tiles):
        return None
    return 2 if tiles < direct else 0


def chosen_outputs(extents: Extents, lanes: int, largest: int = 4, threads: int = 1) -> int:
    """The width of the tile to take, 2 or 4; 0 where a direct convolution is better."""
    is_wide = lanes >= WIDE_LANES
    weight_bytes = WIDE_WEIGHT_BYTES if is_wide else WEIGHT_BYTES
    transform = WIDE_TRANSFORM_CYCLES if is_wide else TRANSFORM_CYCLES
    weight_bytes /= threads
    best, least = 0, direct_cycles(extents, lanes, weight_bytes=weight_bytes)
    for outputs in (2, 4) if largest >= 4 else (2,):
        cycles = winograd_cycles(extents, outputs, lanes, 1, transform, weight_bytes)
        if cycles < LARGER_TILE * least:
            best, least = outputs, cycles
    return best


def direct_cycles(
    extents: Extents, lanes: int, rate: int = 1, weight_bytes: float = WEIGHT_BYTES
) -> float:
    """The cycles of a direct convolution, whose products take the time of one of fp32 by `rate`."""
    pixels, weights = extents.rows * extents.columns, extents.channels * extents.filters * TAPS**2
    return (pixels * weights / (2 * lanes) + 4 * weights / weight_bytes) / rate


def winograd_cycles(
    extents: Extents,
    outputs: int,
    lanes: int,
    rate: int = 1,
    transform: float = TRANSFORM_CYCLES,
    weight_bytes: float = WEIGHT_BYTES,
) -> float:
    """The cycles through tiles of `outputs` squared."""
    products, points = products_of(extents.stride, outputs)
    tiles = -(-extents.rows // outputs) * -(-extents.columns // outputs)
    weights = products * extents.channels * extents.filters
    product = (tiles * weights / (2 * lanes) + 4 * weights / weight_bytes) / rate
    channels, filters = (-(-n // lanes) for n in (extents.channels, extents.filters))
    return product + transform * tiles * (products * channels + points * filters)


def products_of(stride: int, outputs: int) -> tuple[int, int]:
    """The products of a tile, and the points at which they are added up over channels."""
    if stride == 1:
        return (outputs + TAPS - 1) ** 2, (outputs + TAPS - 1) ** 2
    return (2 * outputs + 1) ** 2, (outputs + 1) ** 2
