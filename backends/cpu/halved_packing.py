"""Weights of convolutions that are computed in halves: see `halved_conv`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from leptonc.backends.cpu.packing import ConvWeight, Floats, conv_weight_shape, pack_conv_weight

PRODUCTS = 7
VECTORS = 2
"""The vectors of a panel: those of two have the highest tiles."""


def half_of(sizes: ConvWeight) -> ConvWeight:
    """The sizes of a quarter of a weight: half of the channels to half of the filters."""
    return replace(sizes, channels=sizes.channels // 2, filters=sizes.filters // 2)


def halved_weight_shape(sizes: ConvWeight, panel: int) -> tuple[int, int, int, int]:
    """The shape of a packed weight: panels of half of the filters, seven of each."""
    panels, depth, _ = conv_weight_shape(half_of(sizes), panel)
    return panels, PRODUCTS, depth, panel


def pack_halved_weight(weight: Floats, sizes: ConvWeight, panel: int, lanes: int) -> Floats:
    """The factors of the seven products, in the order in which those are computed."""
    filters, channels = weight.shape[0] // 2, weight.shape[1] // 2
    (b11, b21), (b12, b22) = (
        (part[:, :channels], part[:, channels:]) for part in (weight[:filters], weight[filters:])
    )
    factors = (b11 + b22, b12 - b22, b11, b11 + b12, b22, b21 - b11, b21 + b22)
    packed = [pack_conv_weight(factor, half_of(sizes), panel, lanes) for factor in factors]
    return np.stack(packed, axis=1)
