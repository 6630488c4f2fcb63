"""Convolution of 3 x 3 with stride 1 by Winograd's tiles of 2 x 2 outputs, with products of bf16.

A tile is taken at the points 0, 1, -1 and infinity in each direction, in the type that it has. What
the points take of inputs and weights is rounded; products and outputs are computed without.
"""

from __future__ import annotations

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.ops.bf16 import to_bf16
from leptonc.ir.ops.extents import natural
from leptonc.ir.ops.windows import Window, ints_of, padded

OUTPUTS = 2
WEIGHT = ((-1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))
"""What the points take of three taps."""


def weight_at_points(w: Array) -> Array:
    """A weight [filters, channels, 3, 3] as [points, filters, channels], rounded to bf16."""
    filters, channels = w.shape[:2]
    both = np.kron(WEIGHT, WEIGHT) @ w.reshape(-1, 9).astype(np.float64).T
    return to_bf16(both.reshape(-1, filters, channels).astype(w.dtype))


def convolve_by_tiles(x: Array, at_points: Array, window: Window) -> Array:
    """The convolution by a weight at the points."""
    rows, columns = ints_of(window.out)
    down, across = (-(-extent // OUTPUTS) for extent in (rows, columns))
    source = padded(x, window, 0)
    whole = np.zeros((*x.shape[:2], OUTPUTS * down + 2, OUTPUTS * across + 2), x.dtype)
    height, width = (min(a, b) for a, b in zip(source.shape[2:], whole.shape[2:], strict=True))
    whole[..., :height, :width] = source[..., :height, :width]
    inputs = to_bf16(_inputs(_inputs(whole, 0, down), 1, across))
    wide = natural(x.dtype)
    points = inputs.astype(wide).reshape(-1, *x.shape[:2], down * across)
    sums = np.matmul(at_points.astype(wide)[:, None], points)
    sums = sums.reshape(4, 4, *sums.shape[1:3], down, across)
    tiles = _outputs(_outputs(sums, 0), 1)
    y = tiles.transpose(2, 3, 4, 0, 5, 1).reshape(*tiles.shape[2:4], OUTPUTS * down, -1)
    return np.ascontiguousarray(y[..., :rows, :columns])


def _inputs(x: Array, axis: int, count: int) -> Array:
    """So many tiles along the rows, then the columns, at the points, as a leading axis."""
    moved = np.moveaxis(x, axis - 2, 0)
    a, b, c, d = (moved[start::OUTPUTS][:count] for start in range(4))
    with np.errstate(all="ignore"):
        points = np.stack([c - a, b + c, c - b, d - b])
    return np.moveaxis(np.moveaxis(points, 1, axis - 2), 0, axis)


def _outputs(sums: Array, axis: int) -> Array:
    """The two outputs of each tile along an axis of points."""
    zero, one, minus_one, infinity = np.moveaxis(sums, axis, 0)
    return np.stack([zero + one + minus_one, one - minus_one + infinity], axis)
