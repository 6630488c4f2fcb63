"""Weights in the order in which the kernels read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float32]


def matmul_weight_shape(depth: int, columns: int, panel: int) -> tuple[int, int, int]:
    """The shape of a packed weight: panels of `panel` columns, the last one filled with zeros."""
    return -(-columns // panel), depth, panel


def pack_matmul_weight(weight: Array, panel: int, *, transposed: bool = False) -> Array:
    """A weight depth x columns, or columns x depth if transposed, in panels of columns."""
    matrix = weight.T if transposed else weight
    depth, columns = matrix.shape
    packed = np.zeros(matmul_weight_shape(depth, columns, panel), matrix.dtype)
    full = columns // panel
    packed[:full] = matrix[:, : full * panel].reshape(depth, full, panel).transpose(1, 0, 2)
    if columns % panel:
        packed[full, :, : columns % panel] = matrix[:, full * panel :]
    return packed


@dataclass(frozen=True)
class ConvWeight:
    """The sizes of a convolution's weight f32[filters, channels / groups, *kernel].

    With several groups, the channels and filters of a group must each be a multiple of the lanes.
    A plain convolution reads its input as N, C, H, W, the others in blocks of channels.
    """

    channels: int
    filters: int
    kernel: tuple[int, int]
    groups: int = 1
    plain: bool = False

    @property
    def depth(self) -> int:
        """The number of products in one output."""
        return self.channels // self.groups * self.kernel[0] * self.kernel[1]


def channel_blocks(channels: int, lanes: int) -> int:
    """The blocks that hold the channels; the last may be partly unused."""
    return -(-channels // lanes)


def conv_weight_shape(weight: ConvWeight, panel: int) -> tuple[int, int, int]:
    """The shape of a packed weight: panels of filters of each group, products in input order."""
    return weight.groups * -(-(weight.filters // weight.groups) // panel), weight.depth, panel


def pack_conv_weight(weight: Floats, sizes: ConvWeight, panel: int, lanes: int) -> Floats:
    """A weight in panels of filters, its products in the order in which the input is read."""
    rows = conv_rows(weight, sizes, lanes)
    packed = [pack_matmul_weight(group, panel, transposed=True) for group in rows]
    return np.ascontiguousarray(np.concatenate(packed))


def conv_rows(weight: Floats, sizes: ConvWeight, lanes: int) -> Floats:
    """The products of each filter of each group, in the order in which the input is read.

    That is block of channels, row, column, channel in the block; the last block has only the
    channels that exist.
    """
    group_filters = sizes.filters // sizes.groups
    block = 1 if sizes.plain else lanes
    parts = [
        weight[:, start : start + block].transpose(0, 2, 3, 1).reshape(sizes.filters, -1)
        for start in range(0, weight.shape[1], block)
    ]
    return np.concatenate(parts, axis=1).reshape(sizes.groups, group_filters, -1)


def merged_groups(weight: Floats, groups: int, lanes: int) -> tuple[Floats, int]:
    """The same convolution with fewer, larger groups, whose sizes are multiples of the lanes.

    What a group does not read gets zero weights. Where no number of groups fits, they become one.
    """
    filters, channels = weight.shape[0] // groups, weight.shape[1]
    fitting = (
        factor
        for factor in range(1, groups + 1)
        if groups % factor == 0 and channels * factor % lanes == 0 == filters * factor % lanes
    )
    factor = next(fitting, groups)
    merged = np.zeros((*weight.shape[:1], channels * factor, *weight.shape[2:]), np.float32)
    for group in range(groups):
        own = slice(group * filters, (group + 1) * filters)
        start = group % factor * channels
        merged[own, start : start + channels] = weight[own]
    return merged, groups // factor


def pack_depthwise_weight(weight: Floats, lanes: int) -> Floats:
    """A weight f32[C, 1, KH, KW] as f32[C / lanes, KH, KW, lanes]."""
    channels, _, height, width = weight.shape
    packed = np.zeros((channel_blocks(channels, lanes) * lanes, height, width), np.float32)
    packed[:channels] = weight[:, 0]
    blocks = packed.reshape(-1, lanes, height, width).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(blocks)


def pack_channels(vector: Floats, lanes: int) -> Floats:
    """A value a channel, filled with zeros up to whole blocks."""
    packed = np.zeros(channel_blocks(len(vector), lanes) * lanes, np.float32)
    packed[: len(vector)] = vector
    return packed
