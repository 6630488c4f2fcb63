# pyright: standard
"""Attention in one kernel: scores are fp32, in the first cache, and never all there at once.

Keys are taken in blocks that fit into the second cache, packed once for all queries of all heads
that share them. Of several blocks, each raises the largest score known of a row; sums and results
of the blocks before are scaled down to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.attention_blocks import (
    KEY_VECTORS,
    Blocks,
    Copies,
    blocks_of,
    value_panels,
)
from leptonc.backends.cpu.attention_tile import (
    LOWEST,
    AttentionBuffers,
    AttentionSpec,
    Block,
    Head,
    Tile,
    Work,
    place,
)
from leptonc.backends.cpu.bf16_attention import Bf16Copies, Bf16Tile, rounded_work
from leptonc.backends.cpu.emit import Extent
from leptonc.backends.cpu.instructions import with_bf16
from leptonc.backends.cpu.product import each_tile
from leptonc.backends.cpu.sharing import is_worth_sharing
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.cpu.tiles import SYMBOLIC_ROWS, tile_rows
from leptonc.backends.tvm.binding import PrimExpr, tirx

# What copying keys and values takes, of the time for all queries of typical lengths.
COPYING = 0.05
# So many tiles of queries are not worth copying keys for twice.
FEW_TILES = 4


def attention(spec: AttentionSpec, cpu: CpuTarget, buffers: AttentionBuffers) -> None:
    """Emits the kernel; heads of keys are shared by the threads, and parts of their queries."""
    if spec.rounded:
        with with_bf16(cpu):
            _attention(spec, cpu, buffers, Bf16Copies(), Bf16Tile)
    else:
        _attention(spec, cpu, buffers, Copies(), Tile)


def _attention(
    spec: AttentionSpec, cpu: CpuTarget, buffers: AttentionBuffers, copies: Copies, tile: type[Tile]
) -> None:
    panel = KEY_VECTORS * cpu.lanes
    most = tile_rows(KEY_VECTORS, cpu)
    rows = most if isinstance(spec.queries, int) else min(most, SYMBOLIC_ROWS)
    blocks = blocks_of(spec.keys, copies.item * (spec.depth + spec.width), panel, rows, cpu)
    parallel = _is_parallel(spec, cpu)
    parts = _parts_of_many(spec, cpu, rows) if parallel else 1
    together = isinstance(parts, int) and parts == 1
    groups, units = emit.integer(spec.groups), emit.product((spec.batch, spec.groups, parts))
    with emit.outer_loop(units, parallel=parallel) as unit:
        kept = emit.product((spec.heads // spec.groups, spec.queries))
        work = Work(
            spec, cpu, buffers, panel,
            scores=emit.workspace((rows, blocks.size)),
            rounded=rounded_work(spec, rows, blocks.size) if spec.rounded else None,
            tops=emit.workspace((kept,)) if blocks.several else None,
            sums=emit.workspace((kept,)) if blocks.several else None,
        )  # fmt: skip
        whole = unit if together else tirx.floordiv(unit, parts)
        batch = emit.let(tirx.floordiv(whole, groups))
        group = emit.let(tirx.floormod(whole, groups))
        if together:
            every = _Queries(emit.integer(0), spec.queries)
            _Group(work, blocks, rows, (batch, group), every, copies, tile).emit()
            return
        own = _part(spec.queries, parts, rows, tirx.floormod(unit, parts))
        with T.If(emit.integer(own.count) > 0), T.Then():
            _Group(work, blocks, rows, (batch, group), own, copies, tile).emit()


@dataclass(frozen=True)
class _Queries:
    """Those of a head that are computed together."""

    first: PrimExpr
    count: Extent


def _parts_of_many(spec: AttentionSpec, cpu: CpuTarget, rows: int) -> Extent:
    """The parts of the queries, one where they are few tiles."""
    parts, queries = parts_of(spec, cpu), spec.queries
    if parts == 1:
        return 1
    if isinstance(queries, int):
        return parts if queries > FEW_TILES * rows else 1
    return tirx.Select(queries > FEW_TILES * rows, emit.integer(parts), emit.integer(1))


def _part(queries: Extent, parts: Extent, rows: int, part: PrimExpr) -> _Queries:
    """One of equal parts, of whole tiles but for the last."""
    size = emit.integer(emit.ceildiv(emit.ceildiv(queries, parts), rows)) * rows
    first = emit.let(tirx.min(part * size, emit.integer(queries)))
    return _Queries(first, emit.let(tirx.min(size, emit.integer(queries) - first)))


def parts_of(spec: AttentionSpec, cpu: CpuTarget) -> int:
    """The parts of the queries that leave threads the least time without work.

    Each part copies keys and values anew; an open batch is taken for one.
    """
    units = spec.groups * (spec.batch if isinstance(spec.batch, int) else 1)

    def time(parts: int) -> float:
        return -(-units * parts // cpu.threads) / parts * (1 + COPYING * (parts - 1))

    return min(range(1, cpu.threads + 1), key=time)


def _is_parallel(spec: AttentionSpec, cpu: CpuTarget) -> bool:
    """Whether the heads are shared by threads; an open batch is taken for one, lengths for 32."""
    extents = ((spec.batch, 1), (spec.queries, 32), (spec.keys, 32))
    batch, queries, keys = (each if isinstance(each, int) else typical for each, typical in extents)
    operations = 2 * batch * spec.heads * queries * keys * (spec.depth + spec.width)
    return cpu.threads > 1 and is_worth_sharing(operations)


def _open_tiles(rows: Extent, height: int, tile: Callable[[PrimExpr, int], None]) -> None:
    """Emits `tile(first row, height)` for all rows: whole tiles, then lower ones, then single rows.

    One height for each number of rows that may remain would take seconds to compile.
    """
    first = emit.integer(0)
    for size in sorted({height, max(1, height // 3), 1}, reverse=True):
        start = first
        count = emit.let(tirx.floordiv(emit.integer(rows) - start, size))
        with emit.serial(count) as step:
            tile(start + step * size, size)
        first = emit.let(start + count * size)


class _Group:
    """Heads of queries that share one of keys: in them blocks of keys, in those tiles of rows."""

    def __init__(
        self,
        work: Work,
        blocks: Blocks,
        rows: int,
        place: tuple[PrimExpr, PrimExpr],
        queries: _Queries,
        packed: Copies,
        tile: type[Tile],
    ) -> None:
        self.work, self.spec, self.blocks, self.rows = work, work.spec, blocks, rows
        self.batch, self.group = place
        self.queries = queries
        self.packed, self.tile_of = packed, tile
        self.copies = work.spec.heads // work.spec.groups

    def emit(self) -> None:
        """Emits all of it."""
        spec, lanes, size = self.spec, self.work.cpu.lanes, self.blocks.size
        keys = self.packed.keys(size, spec.depth, self.work.panel)
        panels = value_panels(spec.width, lanes)
        values = [self.packed.values(size, each, lanes) for each in panels]
        if self.blocks.several:
            self.each_head(self.start)
        with emit.serial(self.blocks.count) as step:
            first, count = emit.integer(0), spec.keys
            if self.blocks.several:
                first = emit.let(step * size)
                count = emit.let(tirx.min(emit.integer(size), emit.integer(spec.keys) - first))
            block = Block(first, count, keys, values)
            self.pack(block)
            self.each_head(lambda head: self.head(head, block))
        if self.blocks.several:
            self.each_head(self.complete)

    def each_head(self, body: Callable[[Head], None]) -> None:
        """Emits `body` in a loop over the heads of queries."""
        with emit.serial(self.copies) as copy:
            first = emit.let(copy * emit.integer(self.spec.queries))
            body(Head(self.batch, emit.let(self.group * self.copies + copy), first))

    def pack(self, block: Block) -> None:
        """Copies the keys and values of a block; one beyond the last is the last once more."""
        spec, buffers, cpu = self.spec, self.work.buffers, self.work.cpu
        last = emit.integer(spec.keys) - 1

        def load_key(key: PrimExpr, column: PrimExpr, lanes: int) -> PrimExpr:
            row = tirx.min(block.first + key, last)
            return emit.load(
                buffers.k, place(spec, self.batch, self.group, row, column, spec.depth), lanes
            )

        def load_value(key: PrimExpr, column: PrimExpr, lanes: int) -> PrimExpr:
            row = tirx.min(block.first + key, last)
            return emit.load(
                buffers.v, place(spec, self.batch, self.group, row, column, spec.width), lanes
            )

        self.packed.pack_keys(block.keys, block.count, cpu, load_key)
        panels = value_panels(spec.width, cpu.lanes)
        for each, copy in zip(panels, block.values, strict=True):
            self.packed.pack_values(copy, block.count, each, cpu, load_value)

    def each_row(self) -> Any:
        """A loop over the rows."""
        return emit.serial(self.queries.count, self.queries.first)

    def start(self, head: Head) -> None:
        """No row has seen a key."""
        tops, sums = self.work.tops, self.work.sums
        assert tops is not None
        assert sums is not None
        with self.each_row() as row:
            emit.store(tops, emit.const(LOWEST), [head.first + row])
            emit.store(sums, emit.const(0.0), [head.first + row])
            with emit.serial(self.spec.width) as column:
                emit.store(
                    self.work.buffers.out, emit.const(0.0), self.work.result(head, row, column)
                )

    def complete(self, head: Head) -> None:
        """Rows over the sums of their weights; where there are no keys, they stay zero."""
        sums, out, lanes = self.work.sums, self.work.buffers.out, self.work.cpu.lanes
        assert sums is not None
        whole, rest = divmod(self.spec.width, lanes)
        exist = emit.integer(self.spec.keys) > 0
        with T.If(exist), T.Then(), self.each_row() as row:
            factor = emit.let(self.work.inverse(emit.load(sums, [head.first + row])))

            def scale(start: PrimExpr, count: int) -> None:
                with emit.vectorized(count) as lane:
                    where = self.work.result(head, row, start + lane)
                    emit.store(out, emit.load(out, where) * factor, where)

            with emit.serial(whole) as vector:
                scale(vector * lanes, lanes)
            if rest:
                scale(emit.integer(whole * lanes), rest)

    def head(self, head: Head, block: Block) -> None:
        """All rows of one head, for one block of keys."""
        first, count = self.queries.first, self.queries.count

        def tile(row: PrimExpr, height: int) -> None:
            self.tile(head, block, first + row, height)

        if isinstance(count, int):
            each_tile(count, self.rows, tile)
        else:
            _open_tiles(count, self.rows, tile)

    def tile(self, head: Head, block: Block, first: PrimExpr, height: int) -> None:
        """Some rows: their scores, weights, and sums of values."""
        row = emit.let(first)
        if not self.spec.causal:
            self.tile_of(self.work, head, block, row, height, block.count).emit()
            return
        seen = emit.let(tirx.min(emit.integer(block.count), row + height - block.first))
        with T.If(seen > 0), T.Then():
            self.tile_of(self.work, head, block, row, height, seen).emit()
