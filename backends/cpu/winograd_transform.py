# pyright: standard
"""What a Winograd convolution does before and after its products, for the tiles of a band."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.emit import Extent, Register
from leptonc.backends.tvm.binding import Buffer, PrimExpr, tirx

if TYPE_CHECKING:
    from leptonc.backends.cpu.winograd import Emitter

Vectors = list[PrimExpr]


@dataclass(frozen=True)
class Band:
    """Rows of tiles of one image, the tiles in a row, and the tiles in the band."""

    image: PrimExpr
    first: PrimExpr
    height: Extent
    width: Extent
    count: Extent

    def each(self, visit: Callable[[PrimExpr, PrimExpr, PrimExpr], None]) -> None:
        """Calls `visit(tile row, tile column, number in the band)` in loops over all tiles."""
        with emit.serial(self.height) as row, emit.serial(self.width) as column:
            visit(self.first + row, column, row * self.width + column)


def weighted(values: Sequence[PrimExpr], factors: Sequence[float]) -> PrimExpr:
    """The sum of the vectors times their factors."""
    dtype, _, count = str(values[0].ty).partition("x")
    lanes = int(count)
    total: PrimExpr | None = None
    # Terms without a product first: they start the sum.
    for factor, value in sorted(zip(factors, values, strict=True), key=lambda t: t[0] != 1):
        if factor == 0:
            continue
        splat = emit.broadcast(emit.const(factor, dtype), lanes)
        if total is None:
            total = value if factor == 1 else value * splat
        elif abs(factor) == 1:
            total = total + value if factor > 0 else total - value
        elif dtype == "float32":
            total = emit.fma(value, splat, total)
        else:
            total = total + value * splat
    assert total is not None
    return emit.let(total)


def polynomial(roots: Sequence[float]) -> list[float]:
    """The factors of the powers, from 0 on, of a polynomial with these roots."""
    return [float(c) for c in np.poly(roots)[::-1]] if roots else [1.0]


def input_values(inputs: Vectors, pairs: Sequence[float]) -> Vectors:
    """The values of m + 2 inputs at 0, at each pair of points, and at infinity."""
    squares = [pair * pair for pair in pairs]
    every = polynomial(squares)
    values = [weighted(inputs[0:-1:2], every)]
    for pair, square in zip(pairs, squares, strict=True):
        others = polynomial([other for other in squares if other != square])
        even, odd = weighted(inputs[2:-1:2], others), weighted(inputs[1:-1:2], others)
        values += [weighted([even, odd], [1, pair]), weighted([even, odd], [1, -pair])]
    return [*values, weighted(inputs[1::2], every)]


def output_values(values: Vectors, pairs: Sequence[float]) -> Vectors:
    """The m outputs from the values at 0, if that is a point, at each pair, and at infinity."""
    zeros = len(values) - 2 * len(pairs) - 1
    zero, middle, last = values[:zeros], values[zeros:-1], values[-1]
    sums = [emit.let(a + b) for a, b in zip(middle[::2], middle[1::2], strict=True)]
    differences = [emit.let(a - b) for a, b in zip(middle[::2], middle[1::2], strict=True)]
    outputs = [emit.let(reduce(lambda a, b: a + b, [*zero, *sums]))]
    for power in range(1, 2 * len(pairs)):
        parts = differences if power % 2 else sums
        powers = [pair**power for pair in pairs]
        if power == 2 * len(pairs) - 1:
            parts, powers = [*parts, last], [*powers, 1.0]
        outputs.append(weighted(parts, powers))
    return outputs


class Inputs:
    """Emits the inputs of all tiles of a band at the points."""

    def __init__(self, parent: Emitter, band: Band, points: Buffer) -> None:
        self.parent, self.band, self.points = parent, band, points
        self.lanes, self.reach = parent.lanes, parent.transform.reach
        self.patch = emit.workspace((self.reach, self.reach, self.lanes), parent.x.dtype)

    def emit(self) -> None:
        """Emits the inputs of all blocks of channels."""
        with emit.serial(self.parent.blocks) as block:
            self.band.each(lambda row, column, number: self.tile(block, (row, column), number))

    def tile(self, block: PrimExpr, tile: tuple[PrimExpr, PrimExpr], number: PrimExpr) -> None:
        """Emits one tile: those that reach into the pads go through a copy."""
        spec, reach = self.parent.spec, self.reach
        top, left = (
            emit.let(index * (spec.outputs * spec.stride) - pad)
            for index, pad in zip(tile, spec.pads, strict=False)
        )
        target = emit.let((block * self.band.count + number) * self.lanes)
        begins = tirx.And(top >= 0, left >= 0)
        ends = tirx.And(top + reach <= spec.height, left + reach <= spec.width)

        def inside(row: int, column: int) -> PrimExpr:
            index = [self.band.image, block, top + row, left + column, 0]
            return emit.load(self.parent.x, index, self.lanes)

        with T.If(tirx.And(begins, ends)):
            with T.Then():
                self.values(inside, target)
            with T.Else():
                self.fill(block, top, left)
                self.values(
                    lambda row, column: emit.load(self.patch, [row, column, 0], self.lanes), target
                )

    def fill(self, block: PrimExpr, top: PrimExpr, left: PrimExpr) -> None:
        """Copies the inputs of a tile, what stands around them where there is none."""
        spec, lanes = self.parent.spec, self.lanes
        with emit.serial(self.reach) as row, emit.serial(self.reach) as column:
            down, right = top + row, left + column
            begins = tirx.And(down >= 0, right >= 0)
            ends = tirx.And(down < spec.height, right < spec.width)
            with T.If(tirx.And(begins, ends)):
                with T.Then():
                    index = [self.band.image, block, down, right, 0]
                    emit.store(
                        self.patch, emit.load(self.parent.x, index, lanes), [row, column, 0], lanes
                    )
                with T.Else():
                    pad = emit.broadcast(self.parent.pad, lanes)
                    emit.store(self.patch, pad, [row, column, 0], lanes)

    def taken(self, value: PrimExpr) -> PrimExpr:
        """An input as what is computed with."""
        return value

    def stored(self, value: PrimExpr) -> PrimExpr:
        """What is kept of a value at a point."""
        return value

    def values(self, load: Callable[[int, int], PrimExpr], target: PrimExpr) -> None:
        """Stores the values of a tile at all points."""
        pairs, indices = self.parent.transform.pairs, range(self.reach)
        columns = [
            input_values([emit.let(self.taken(load(row, column))) for row in indices], pairs)
            for column in indices
        ]
        for row in indices:
            values = input_values([columns[column][row] for column in indices], pairs)
            for column, value in enumerate(values):
                place = [row * self.reach + column, target]
                emit.store(self.points, self.stored(value), place, self.lanes)


class Outputs:
    """Emits the outputs of all tiles of a band from their sums at the points."""

    def __init__(self, parent: Emitter, band: Band, points: Buffer) -> None:
        self.parent, self.band, self.points = parent, band, points
        self.lanes, self.size = parent.lanes, parent.spec.outputs
        self.long = parent.spec.epilogue.is_long(5, parent.sum)
        self.extents = parent.spec.out_extents()
        self.patch = emit.workspace((self.size, self.size, self.lanes), parent.sum)

    def emit(self) -> None:
        """Emits all blocks of filters."""
        with emit.serial(self.parent.out_blocks) as block:
            self.band.each(lambda row, column, number: self.tile(block, (row, column), number))

    def tile(self, block: PrimExpr, tile: tuple[PrimExpr, PrimExpr], number: PrimExpr) -> None:
        """Emits one tile: those beyond the last row or column go through a copy."""
        size = self.size
        top, left = (emit.let(index * size) for index in tile)
        source = emit.let((block * self.band.count + number) * self.lanes)
        values = self.values(source)
        whole = all(isinstance(e, int) and e % size == 0 for e in self.extents)
        if whole and not self.long:
            self.write_whole(values, block, top, left)
            return
        if self.long:
            self.write_part(values, block, top, left)
            return
        ends = tirx.And(top + size <= self.extents[0], left + size <= self.extents[1])
        with T.If(ends):
            with T.Then():
                self.write_whole(values, block, top, left)
            with T.Else():
                self.write_part(values, block, top, left)

    def values(self, source: PrimExpr) -> list[Vectors]:
        """The outputs of a tile, by rows."""
        across, pairs = self.parent.transform.across, self.parent.transform.pairs
        columns = [
            output_values(
                [
                    emit.let(emit.load(self.points, [row * across + column, source], self.lanes))
                    for row in range(across)
                ],
                pairs,
            )
            for column in range(across)
        ]
        return [
            output_values([columns[column][row] for column in range(across)], pairs)
            for row in range(self.size)
        ]

    def write_whole(
        self, values: list[Vectors], block: PrimExpr, top: PrimExpr, left: PrimExpr
    ) -> None:
        """Stores all outputs of a tile."""
        for row, column in product(range(self.size), repeat=2):
            register = Register(self.lanes, self.parent.sum)
            register.set(values[row][column])
            self.write(register.lane, [self.band.image, block, top + row, left + column])

    def write_part(
        self, values: list[Vectors], block: PrimExpr, top: PrimExpr, left: PrimExpr
    ) -> None:
        """Stores those outputs of a tile that exist."""
        for row, column in product(range(self.size), repeat=2):
            emit.store(self.patch, values[row][column], [row, column, 0], self.lanes)
        rows, columns = (
            tirx.min(emit.integer(self.size), emit.integer(extent) - begin)
            for extent, begin in zip(self.extents, (top, left), strict=True)
        )
        with emit.serial(rows) as row, emit.serial(columns) as column:

            def value(lane: PrimExpr) -> PrimExpr:
                return emit.load(self.patch, [row, column, lane])

            self.write(value, [self.band.image, block, top + row, left + column])

    def write(self, sums: Callable[[PrimExpr], PrimExpr], index: Sequence[PrimExpr]) -> None:
        """Stores the sums of all lanes of a pixel through bias and epilogue."""
        parent = self.parent

        def result(lane: PrimExpr) -> PrimExpr:
            value, at = sums(lane), [*index, lane]
            if parent.bias is not None:
                value = value + emit.load(parent.bias, [index[1] * self.lanes + lane])
            return parent.spec.epilogue.apply(value, at, parent.operands)

        parent.out.put(index, self.lanes, result)
