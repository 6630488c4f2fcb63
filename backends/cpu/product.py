# pyright: standard
"""The register tile of a matrix product, and its loop over rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.emit import Extent, Register
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.cpu.tiles import Tile, split_depth, split_rows, whole_rows
from leptonc.backends.tvm.binding import PrimExpr, tirx

Sums = list[list[Register]]


def ahead_steps(cpu: CpuTarget) -> int:
    """The steps of the depth between two calls of a product's `ahead`.

    In loops that threads share, LLVM mixes the products of two steps, and sums leave the registers:
    with one, 197 rows of 768 x 768 take 0.5 of the time on two threads, and as long on one.
    """
    return 2 if cpu.threads == 1 else 1


# The most products that are added up in a row. Rounding leaves more in longer chains: 3072 products
# are off by 9.9e-7 of their sums' root mean square, in chains of 768 by 4.9e-7, of 384 by 3.5e-7.
# Chains of 768 cost less than 1 % from 128 rows on, 1 to 3 % for 16 rows; those of 384 cost twice.
LONGEST_CHAIN = 768


def add_tile(sums: Sums, others: Sums) -> None:
    """Adds accumulators to others."""
    for row, other_row in zip(sums, others, strict=True):
        for register, other in zip(row, other_row, strict=True):
            register.set(register.get() + other.get())


def each_tile(rows: Extent, tile_rows: int, tile: Callable[[PrimExpr, int], None]) -> None:
    """Emits `tile(first row, height)` for all rows: two heights, or whole tiles and one rest."""
    if not isinstance(rows, int):
        _symbolic_tiles(rows, whole_rows(rows, tile_rows), tile)
        return
    start = 0
    for height, count in split_rows(rows, tile_rows):
        with emit.serial(count) as step:
            tile(step * height + start, height)
        start += height * count


def _symbolic_tiles(rows: PrimExpr, tile_rows: int, tile: Callable[[PrimExpr, int], None]) -> None:
    """Whole tiles, and a tile of each other height for what may remain."""
    full = emit.let(tirx.floordiv(emit.integer(rows), tile_rows))
    with emit.serial(full) as step:
        tile(step * tile_rows, tile_rows)
    rest = emit.let(emit.integer(rows) - full * tile_rows)
    for height in range(1, tile_rows):
        with T.If(rest == height), T.Then():
            tile(full * tile_rows, height)


def each_panel(
    columns: int,
    width: int,
    lanes: int,
    panel: Callable[[PrimExpr, tuple[int, ...]], None],
    *,
    parallel: bool,
) -> None:
    """Emits `panel(index, widths of its vectors)` for all columns; the last one may be narrower."""
    full, rest = divmod(columns, width)
    if full:
        with emit.outer_loop(full, parallel=parallel) as index:
            panel(index, (lanes,) * (width // lanes))
    if rest:
        whole, part = divmod(rest, lanes)
        panel(emit.integer(full), (lanes,) * whole + (part,) * bool(part))


@dataclass(frozen=True)
class Steps:
    """A stretch of a product's depth: its operands, as in `Product`."""

    depth: Extent
    left: Callable[[PrimExpr, Extent], PrimExpr]
    right: Callable[[Extent, int], PrimExpr]


@dataclass(frozen=True)
class Product:
    """A product of rows and one panel of columns.

    `left(row, k)` is a scalar, `right(k, vector)` is `lanes` neighbouring columns, and
    `write(value, row, column)` stores one value; `column` counts from the panel's first. A vector
    has `widths[vector]` columns that exist. `ahead(first row, step)` may ask for data that is read
    later: it is emitted every `ahead_steps` of the depth, and does so in the first `asking`
    tiles. `add(value, column, sum)` is the sum with one more product; `more` are further steps
    behind the depth.
    """

    cpu: CpuTarget
    depth: Extent
    lanes: int
    widths: tuple[int, ...]
    unrolled: bool
    left: Callable[[PrimExpr, Extent], PrimExpr]
    right: Callable[[Extent, int], PrimExpr]
    write: Callable[[PrimExpr, PrimExpr, PrimExpr], None]
    ahead: Callable[[PrimExpr, PrimExpr], None] | None = None
    asking: int = 1
    before: Callable[[PrimExpr, int], None] | None = None
    dtype: str = "float32"
    add: Callable[[PrimExpr, PrimExpr, PrimExpr], PrimExpr] = emit.fma
    more: Sequence[Steps] = ()

    def rows(self, rows: Extent, tile_rows: int) -> None:
        """Emits all rows: tiles of two heights, or whole tiles and one exact rest.

        Rows that make no whole tile wait for memory: to ask for still more would keep them waiting.
        8 lanes or 16, 2 rows of 768 x 3072 take 1.2 to 1.6 times as long with it, 7 as long.
        """
        whole = tile_rows if isinstance(rows, int) else whole_rows(rows, tile_rows)
        rest = replace(self, ahead=self.late if self.ahead and self.asking > 1 else None)

        def tile(first: PrimExpr, height: int) -> None:
            full = rows >= whole if isinstance(rows, int) else height == whole
            (self if full else rest).tile(first, height)

        each_tile(rows, tile_rows, tile)

    def late(self, first: PrimExpr, step: PrimExpr) -> None:
        """Asks in a tile that is not the first."""
        assert self.ahead is not None
        with T.If(first > 0), T.Then():
            self.ahead(first, step)

    def tile(self, first: PrimExpr, height: int) -> None:
        """Emits `height` rows from `first` on."""
        if self.before is not None:
            self.before(first, height)
        self.finish(first, self.sums(first, height))

    def sums(self, first: PrimExpr, height: int) -> Sums:
        """The accumulators of `height` rows from `first` on."""
        split = split_depth(Tile(height, len(self.widths)), self.cpu)
        if isinstance(self.depth, int):
            split = min(split, max(self.depth, 1))
        parts = [self.zeros(height) for _ in range(split)]
        together = split if self.ahead is None else max(split, ahead_steps(self.cpu))
        whole = self.depth // together
        chains = self.chains(whole, together // split)
        totals = self.zeros(height) if chains > 1 else None
        length = whole // chains
        with emit.serial(chains) as chain:
            start = chain * length if totals else 0
            with emit.serial(length) as step:
                k = start + step
                if self.ahead is not None:
                    self.ahead(first, k)
                for index in range(together):
                    self.step(first, k * together + index, parts[index % split])
            if totals:
                for part in parts:
                    add_tile(totals, part)
                    self.clear(part)
        if together > 1 or totals:
            whole = length * chains
            with emit.serial(self.depth - whole * together) as k:
                self.step(first, whole * together + k, parts[0])
        for steps in self.more:
            with emit.serial(steps.depth) as k:
                self.along(steps).step(first, k, parts[0])
        for part in (*parts[1:], *([totals] if totals else [])):
            add_tile(parts[0], part)
        return parts[0]

    def zeros(self, height: int) -> Sums:
        """Accumulators of nothing yet."""
        sums = [[Register(self.lanes, self.dtype) for _ in self.widths] for _ in range(height)]
        self.clear(sums)
        return sums

    def clear(self, sums: Sums) -> None:
        """Sets accumulators to nothing."""
        for register in (register for row in sums for register in row):
            register.set(emit.broadcast(emit.const(0, self.dtype), self.lanes))

    def chains(self, steps: Extent, products: int) -> int:
        """How many sums in a row a long sum of fp32 is made of; a step adds so many products to it.

        Preferably as many as leave no steps over.
        """
        if not isinstance(steps, int) or self.add is not emit.fma:
            return 1
        least = max(1, -(-steps * products // LONGEST_CHAIN))
        return next((some for some in range(least, 2 * least) if steps % some == 0), least)

    def along(self, steps: Steps) -> Product:
        """The same product along another stretch of the depth."""
        return replace(self, left=steps.left, right=steps.right)

    def step(self, first: PrimExpr, k: Extent, sums: Sums) -> None:
        """Adds the products of one element of the depth."""
        columns = [self.right(k, vector) for vector in range(len(self.widths))]
        for r, row in enumerate(sums):
            value = emit.broadcast(self.left(first + r, k), self.lanes)
            for register, column in zip(row, columns, strict=True):
                register.set(self.add(value, column, register.get()))

    def finish(self, first: PrimExpr, sums: Sums) -> None:
        """Stores a tile."""
        lanes, height = self.lanes, len(sums)
        if self.unrolled or height * len(self.widths) == 1:
            for r, row in enumerate(sums):
                for v, (register, width) in enumerate(zip(row, self.widths, strict=True)):
                    with emit.vectorized(width) as lane:
                        self.write(register.lane(lane), first + r, v * lanes + lane)
            return
        staged = [Register(lanes * height, self.dtype) for _ in self.widths]
        for r, row in enumerate(sums):
            for register, stage in zip(row, staged, strict=True):
                emit.store(stage.buffer, register.get(), [r * lanes], lanes)
        with emit.serial(height) as r:
            for v, (stage, width) in enumerate(zip(staged, self.widths, strict=True)):
                with emit.vectorized(width) as lane:
                    self.write(stage.lane(r * lanes + lane), first + r, v * lanes + lane)
