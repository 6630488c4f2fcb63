"""Weights of bf16 in the order in which products read them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from leptonc.backends.cpu.integer_packing import integer_weight_shape
from leptonc.backends.cpu.packing import (
    Array,
    ConvWeight,
    conv_rows,
    conv_weight_shape,
    pack_matmul_weight,
)
from leptonc.backends.cpu.winograd_tables import Transform, weight_at_points
from leptonc.ir.ops.bf16 import bits_of

TOGETHER = 2
"""What one step multiplies: neighbours of the depth, or channels of a pixel."""
OUTPUTS = 2
"""Of Winograd's tiles, in one direction."""


def pack_bf16_weight(weight: Array, panel: int, *, transposed: bool = False) -> Array:
    """The bits of a weight depth x columns, or columns x depth if transposed, in panels of columns.

    Two elements of the depth stand side by side; an odd depth is filled up with zeros.
    """
    words = pairs_of_bits(weight, 1 if transposed else 0)
    depth, columns = weight.shape[::-1] if transposed else weight.shape
    packed = pack_matmul_weight(words, panel, transposed=transposed)
    return packed.view(np.uint16).reshape(integer_weight_shape(depth, columns, panel, 2))


def pairs_of_bits(weight: Array, axis: int) -> Array:
    """The bits of neighbours along an axis as words of 32 bits, the first in the lower half."""
    bits = np.moveaxis(bits_of(weight), axis, 0)
    words = bits[::2].astype(np.uint32)
    upper = bits[1::2]
    words[: len(upper)] |= upper.astype(np.uint32) << 16
    return np.moveaxis(words, 0, axis)


def in_pairs(sizes: ConvWeight) -> ConvWeight:
    """The sizes of a weight whose groups have an even depth.

    Pairs are of channels, of which there is an even number; those of a plain convolution are of
    columns, which zeros make even.
    """
    height, width = sizes.kernel
    return replace(sizes, kernel=(height, width + width % TOGETHER)) if sizes.plain else sizes


def bf16_conv_weight_shape(sizes: ConvWeight, panel: int) -> tuple[int, int, int, int]:
    """The shape of a packed weight of a convolution."""
    panels, depth, _ = conv_weight_shape(in_pairs(sizes), panel)
    return panels, depth // TOGETHER, panel, TOGETHER


def pack_bf16_conv_weight(weight: Array, sizes: ConvWeight, panel: int, lanes: int) -> Array:
    """The bits of a weight in panels of filters, two channels or columns side by side."""
    more = in_pairs(sizes).kernel[1] - sizes.kernel[1]
    even = np.pad(weight, ((0, 0), (0, 0), (0, 0), (0, more)))
    words = pairs_of_bits(conv_rows(even, in_pairs(sizes), lanes), 2)
    packed = [pack_matmul_weight(group, panel, transposed=True) for group in words]
    data = np.ascontiguousarray(np.concatenate(packed))
    return data.view(np.uint16).reshape(bf16_conv_weight_shape(sizes, panel))


def bf16_winograd_weight_shape(channels: int, filters: int, panel: int) -> tuple[int, ...]:
    """The shape of a weight at the points of tiles, of an even number of channels."""
    return Transform(OUTPUTS).points, -(-filters // panel), channels // TOGETHER, panel, TOGETHER


def pack_bf16_winograd_weight(weight: Array, panel: int) -> Array:
    """The bits of a weight f32[filters, channels, 3, 3] at the points, two channels side by side.

    It is transformed before it is rounded.
    """
    filters, channels = weight.shape[:2]
    words = pairs_of_bits(weight_at_points(weight, Transform(OUTPUTS)), 2)
    data = np.stack([pack_matmul_weight(part, panel, transposed=True) for part in words])
    return data.view(np.uint16).reshape(bf16_winograd_weight_shape(channels, filters, panel))
