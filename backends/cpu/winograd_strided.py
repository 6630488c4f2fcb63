# pyright: standard
"""Convolution of 3 x 3 with stride 2 through fewer products.

Along an axis it is the sum of two convolutions with stride 1: see `StridedTransform`. A tile of
2 x 2 outputs takes 25 products for 36, one of 4 x 4 81 for 144. What the points take of the parts
is added up before the outputs are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

from tvm.tirx import PrimFunc

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.cpu.winograd import Emitter, Point, WinogradSpec, winograd
from leptonc.backends.cpu.winograd_transform import Inputs, Vectors, polynomial, weighted
from leptonc.backends.tvm.binding import PrimExpr


def strided_winograd(name: str, spec: WinogradSpec, cpu: CpuTarget) -> PrimFunc:
    """The kernel (x, weight, bias?, *operands, out)."""
    return winograd(name, spec, cpu, _Emitter)


def part_values(inputs: Vectors, pairs: Sequence[float]) -> Vectors:
    """The values of m inputs at each pair of points; those of m + 1 also at infinity."""
    squares, finite = [pair * pair for pair in pairs], 2 * len(pairs)
    values: Vectors = []
    for pair, square in zip(pairs, squares, strict=True):
        others = polynomial([other for other in squares if other != square])
        even, odd = weighted(inputs[0:finite:2], others), weighted(inputs[1:finite:2], others)
        values += [weighted([odd, even], [1, pair]), weighted([odd, even], [1, -pair])]
    if len(inputs) > finite:
        values.append(weighted(inputs[::2], polynomial(squares)))
    return values


class _Inputs(Inputs):
    """The inputs of all parts at the points."""

    def values(self, load: Callable[[int, int], PrimExpr], target: PrimExpr) -> None:
        """Stores the values of a tile, one part after the other: registers hold one."""
        for down, across in product(range(2), repeat=2):
            self.part(load, (down, across), target)

    def part(
        self, load: Callable[[int, int], PrimExpr], first: tuple[int, int], target: PrimExpr
    ) -> None:
        """Stores the values of every other row and column of inputs, from the first ones on."""
        (down, across), pairs = first, self.parent.transform.pairs
        rows, columns = range(down, self.reach, 2), range(across, self.reach, 2)
        at_points = [
            part_values([emit.let(self.taken(load(row, column))) for row in rows], pairs)
            for column in columns
        ]
        for number, row in enumerate(zip(*at_points, strict=True)):
            begin = (2 * number + down) * self.reach + across
            for point, value in enumerate(part_values(list(row), pairs)):
                place = [begin + 2 * point, target]
                emit.store(self.points, self.stored(value), place, self.lanes)


class _Emitter(Emitter):
    """Emits one convolution with stride 2."""

    inputs = _Inputs

    def each_point(self, visit: Callable[[Point], None]) -> None:
        """Visits all points: those at infinity take nothing of one of two parts."""
        finite, across = self.spec.outputs, self.transform.across
        for (top, height), (left, width) in product(((0, finite), (finite, 1)), repeat=2):
            parts = (2 if height > 1 else 1, 2 if width > 1 else 1)
            with emit.serial(height, top) as row, emit.serial(width, left) as column:
                first = emit.let(2 * (row * self.transform.reach + column))
                visit(Point(emit.let(row * across + column), first, parts))

    def each_part(self, point: Point, visit: Callable[[PrimExpr], None]) -> None:
        """Visits what is added up at a point."""
        rows, columns = point.parts
        with emit.serial(rows) as row, emit.serial(columns) as column:
            visit(emit.let(point.first + row * self.transform.reach + column))
