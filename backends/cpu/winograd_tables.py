"""The transforms of Winograd's minimal filtering, F(m x m, 3 x 3), and of weights by them.

An output tile of m x m is interpolated from its products at m + 1 points and infinity in each
direction (Toom-Cook; Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2016).
The points are 0 and pairs +p, -p, so that each pair shares its even and its odd part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonc.backends.cpu.target import CpuTarget

Array = NDArray[Any]
TAPS = 3
MULTIPLIED = 768
"""Filters of 3 x 3 taps that one product transforms: they stay in the second-level cache, and are
too few for the library that multiplies to start threads, which would be in the way of others."""
FEWEST_TILES = 24
"""Fewer rows of a product than these would not pay for reading its weights."""
# Those of 4 double the rounding of a direct sum; 1 and 2, which need fewer products, quadruple it.
PAIRS = {2: (1.0,), 4: (0.6875, 1.5)}
STRIDED_PAIRS = {2: (1.0,), 4: (0.4375, 1.375)}
"""With stride 2, where 0 is no point."""


@dataclass(frozen=True)
class Transform:
    """The transforms of one tile size: `y = AT ((G w GT) * (BT x B)) A`."""

    outputs: int

    @property
    def pairs(self) -> tuple[float, ...]:
        """The points other than 0 and infinity, each standing for itself and its negative."""
        return PAIRS[self.outputs]

    @property
    def reach(self) -> int:
        """The inputs of a tile in one direction; also the number of points."""
        return self.outputs + TAPS - 1

    @property
    def points(self) -> int:
        """The products of a tile, in both directions."""
        return self.reach**2

    @property
    def across(self) -> int:
        """The points of one direction at which products are added up."""
        return self.reach

    @property
    def finite(self) -> list[float]:
        """All points but infinity, in the order of the rows."""
        return [0.0, *(sign * p for p in self.pairs for sign in (1, -1))]

    def input_matrix(self) -> Array:
        """BT: what the points take of the inputs."""
        points, matrix = self.finite, np.zeros((self.reach, self.reach))
        for row, point in enumerate(points):
            others = np.poly([other for other in points if other != point])
            matrix[row, : len(others)] = others[::-1]
        matrix[-1] = np.poly(points)[::-1]
        return matrix

    def weight_matrix(self) -> Array:
        """G: the values of a filter at the points."""
        points, matrix = self.finite, np.zeros((self.reach, TAPS))
        for row, point in enumerate(points):
            scale = np.prod([point - other for other in points if other != point])
            matrix[row] = np.power(point, range(TAPS)) / scale
        matrix[-1, -1] = 1
        return matrix

    def output_matrix(self) -> Array:
        """AT: what the outputs take of the points."""
        matrix = np.zeros((self.outputs, self.reach))
        for column, point in enumerate(self.finite):
            matrix[:, column] = np.power(point, range(self.outputs))
        matrix[-1, -1] = 1
        return matrix


@dataclass(frozen=True)
class StridedTransform(Transform):
    """The transforms of one tile size with stride 2.

    The outputs are the sum of two convolutions with stride 1: of every other input, from the first
    on, by the first and the last tap, and of those in between by the other. The first needs all
    points for a tile, the second all but infinity, and both are added up at the points. A value is
    what a point takes of one of the two: in this order, for each point in turn.
    """

    @property
    def pairs(self) -> tuple[float, ...]:
        """The points other than infinity, each standing for itself and its negative."""
        return STRIDED_PAIRS[self.outputs]

    @property
    def finite(self) -> list[float]:
        """All points but infinity."""
        return [sign * p for p in self.pairs for sign in (1, -1)]

    @property
    def reach(self) -> int:
        """The inputs of a tile in one direction; also the number of values."""
        return 2 * self.outputs + 1

    @property
    def across(self) -> int:
        """The points of one direction at which products of both parts are added up."""
        return self.outputs + 1

    def input_matrix(self) -> Array:
        """What the values take of the inputs."""
        matrix = np.zeros((self.reach, self.reach))
        for row, point in enumerate(self.finite):
            others = np.poly([other for other in self.finite if other != point])
            matrix[2 * row, 0:-1:2] = matrix[2 * row + 1, 1::2] = others[::-1]
        matrix[-1, ::2] = np.poly(self.finite)[::-1]
        return matrix

    def weight_matrix(self) -> Array:
        """The values of a filter."""
        matrix = np.zeros((self.reach, TAPS))
        for row, point in enumerate(self.finite):
            scale = np.prod([point - other for other in self.finite if other != point])
            matrix[2 * row, ::2] = np.array([1, point]) / scale
            matrix[2 * row + 1, 1] = 1 / scale
        matrix[-1, -1] = 1
        return matrix

    def output_matrix(self) -> Array:
        """What the outputs take of the values."""
        matrix = np.zeros((self.outputs, self.reach))
        for row, point in enumerate(self.finite):
            powers = np.power(point, range(self.outputs))
            matrix[:, 2 * row] = matrix[:, 2 * row + 1] = powers
        matrix[-1, -1] = 1
        return matrix


@dataclass(frozen=True)
class WholeTransform(Transform):
    """Transforms of integers alone: `weight_matrix` has the filters, not scaled, at the points."""

    @property
    def pairs(self) -> tuple[float, ...]:
        """Whole points."""
        return (1.0, 2.0)[: self.outputs // 2]

    def weight_matrix(self) -> Array:
        """What the points take of a filter."""
        matrix = np.array([np.power(point, range(TAPS)) for point in [*self.finite, 0.0]])
        matrix[-1] = 0, 0, 1
        return matrix


def winograd_weight_shape(points: int, depth: int, filters: int, panel: int) -> tuple[int, ...]:
    """The shape of a packed weight: for each point panels of filters."""
    return points, -(-filters // panel), depth, panel


def transform_of(outputs: int, stride: int) -> Transform:
    """The transforms of convolutions of floats."""
    return Transform(outputs) if stride == 1 else StridedTransform(outputs)


def pack_winograd_weight(weight: Array, outputs: int, panel: int, stride: int = 1) -> Array:
    """A weight f32[filters, channels, 3, 3] at the points, computed in double."""
    values = transform_of(outputs, stride).weight_matrix()
    at_points = np.kron(values, values)  # a chain of small products takes eight times as long
    filters, channels = weight.shape[:2]
    shape = winograd_weight_shape(len(at_points), channels, filters, panel)
    packed = np.zeros(shape, weight.dtype)
    step = max(1, MULTIPLIED // panel)
    for number, first in enumerate(range(0, filters, panel)):
        taps = weight[first : first + panel].reshape(-1, channels, TAPS * TAPS).transpose(2, 1, 0)
        for start in range(0, channels, step):
            part = taps[:, start : start + step]
            columns = part.astype(np.float64, order="C").reshape(TAPS * TAPS, -1)
            place = packed[:, number, start : start + step, : part.shape[2]]
            place[...] = (at_points @ columns).reshape(place.shape)
    return packed


def weight_at_points(weight: Array, transform: Transform) -> Array:
    """A weight [filters, channels, 3, 3] as [points, filters, channels], computed in double."""
    values = transform.weight_matrix()
    filters, channels = weight.shape[:2]
    # one product of matrices: a chain of small ones takes eight times as long
    at_points = np.kron(values, values) @ weight.reshape(-1, TAPS * TAPS).astype(np.float64).T
    return at_points.reshape(-1, filters, channels).astype(weight.dtype)


def band_tiles(
    channels: int, filters: int, transform: Transform, cpu: CpuTarget, element_bytes: int = 4
) -> int:
    """The tiles whose inputs and outputs at all points fit the second-level cache together."""
    tile_bytes = element_bytes * transform.points * channels + 4 * transform.across**2 * filters
    return max(FEWEST_TILES, cpu.l2_bytes // tile_bytes)
