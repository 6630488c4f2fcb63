# pyright: standard
"""Products of matrices that are both known only at run time, for each index of a batch, fp32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tvm_ffi
from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.emit import IDENTITY, Epilogue, Extent, Register, Shape
from leptonc.backends.cpu.product import Product
from leptonc.backends.cpu.sharing import is_worth_sharing
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.cpu.tiles import matmul_tile, tile_rows
from leptonc.backends.cpu.transpose import transposed
from leptonc.backends.tvm.binding import Buffer, PrimExpr, tirx

# Rows of B closer together than this, or fewer than so many, are read where they are.
NEAR_COLUMNS, FEW_DEPTH, FEW_ROWS = 256, 128, 8


@dataclass(frozen=True)
class BatchedMatmulSpec:
    """`out[*batch, M, N] = epilogue(a @ b)`, the batches broadcast against each other.

    The batches have the same rank; where the extents of an axis differ, one is the int 1, or run
    time tells: then `broadcast` says what they become. With `transpose_a`, a is [*batch, K, M];
    with `transpose_b`, b is [*batch, N, K].
    """

    a_batch: Shape
    b_batch: Shape
    rows: Extent
    depth: Extent
    columns: Extent
    transpose_a: bool = False
    transpose_b: bool = False
    epilogue: Epilogue = IDENTITY
    out_dtype: str = "float32"
    broadcast: Shape | None = None

    @property
    def batch(self) -> Shape:
        """The broadcast batch."""
        if self.broadcast is not None:
            return self.broadcast
        pairs = zip(self.a_batch, self.b_batch, strict=True)
        return tuple(b if isinstance(a, int) and a == 1 else a for a, b in pairs)


def batched_matmul(name: str, spec: BatchedMatmulSpec, cpu: CpuTarget) -> PrimFunc:
    """The kernel (a, b, *operands, out)."""
    a = (spec.depth, spec.rows) if spec.transpose_a else (spec.rows, spec.depth)
    b = (spec.columns, spec.depth) if spec.transpose_b else (spec.depth, spec.columns)
    parameters = [
        ("a", (*spec.a_batch, *a), "float32"),
        ("b", (*spec.b_batch, *b), "float32"),
        *spec.epilogue.parameters(),
        ("out", (*spec.batch, spec.rows, spec.columns), spec.out_dtype),
    ]
    return emit.function(name, parameters, lambda *buffers: Emitter(spec, cpu, buffers).emit())


class Emitter:
    """Emits all products: a batch and a panel of columns at a time, which threads may share."""

    def __init__(self, spec: BatchedMatmulSpec, cpu: CpuTarget, buffers: Sequence[Buffer]) -> None:
        self.spec, self.cpu = spec, cpu
        self.a, self.b, *self.operands, self.out = buffers
        self.unrolled = not spec.epilogue.is_long(len(spec.batch) + 2)
        rows, columns = (e if isinstance(e, int) else None for e in (spec.rows, spec.columns))
        self.vectors = matmul_tile(rows, columns or 256, 0, cpu).vectors
        self.width = self.vectors * cpu.lanes

    def emit(self) -> None:
        """Emits everything: vectors of columns, or single columns where there are too few."""
        columns = self.spec.columns
        if isinstance(columns, int):
            self.width = min(self.width, max(1, columns // self.cpu.lanes) * self.cpu.lanes)
            self.wide() if columns >= self.width else self.narrow()
            return
        with T.If(columns >= self.width):
            with T.Then():
                self.wide()
            with T.Else():
                self.narrow()

    def wide(self) -> None:
        """Panels of whole vectors, of which the last ends with the columns."""
        spec, lanes = self.spec, self.cpu.lanes
        panels = emit.ceildiv(spec.columns, self.width)
        shape = (spec.depth, self.width)
        shared = emit.workspace(shape) if self.is_packed and not self.is_parallel else None
        loop = emit.product((*spec.batch, panels))
        with emit.outer_loop(loop, parallel=self.is_parallel) as step:
            batch = self.batch_index(tirx.floordiv(step, emit.integer(panels)))
            panel = tirx.floormod(step, emit.integer(panels))
            last = emit.integer(spec.columns) - self.width
            first = emit.let(tirx.min(panel * self.width, last))
            if self.is_packed:
                copy = emit.workspace(shape) if shared is None else shared
                self.pack(copy, batch, first)
                self.panel(batch, first, lanes, copy)
            else:
                self.panel(batch, first, lanes, None)

    def narrow(self) -> None:
        """Fewer columns than a vector has: one at a time."""
        loop = emit.product((*self.spec.batch, self.spec.columns))
        with emit.outer_loop(loop, parallel=False) as step:
            columns = emit.integer(self.spec.columns)
            batch = self.batch_index(tirx.floordiv(step, columns))
            self.panel(batch, tirx.floormod(step, columns), 1, None)

    def batch_index(self, position: PrimExpr) -> list[PrimExpr]:
        """The index in the batch, computed once."""
        return [emit.let(i) for i in emit.unflatten(position, self.spec.batch)]

    def index_in(self, extents: Shape, batch: Sequence[PrimExpr]) -> list[PrimExpr]:
        """Where an operand of these extents has what the batch needs at an index."""
        index: list[PrimExpr] = []
        for i, extent, whole in zip(batch, extents, self.spec.batch, strict=True):
            if isinstance(extent, int):
                index.append(emit.integer(0) if extent == 1 else i)
            elif not isinstance(whole, int) and tvm_ffi.structural_equal(extent, whole):
                index.append(i)
            else:
                index.append(tirx.min(i, extent - 1))
        return index

    @property
    def is_packed(self) -> bool:
        """Whether a panel of b is copied before it is used."""
        spec = self.spec
        if spec.transpose_b:
            return True
        near = isinstance(spec.columns, int) and spec.columns <= NEAR_COLUMNS
        shallow = isinstance(spec.depth, int) and spec.depth <= FEW_DEPTH
        few = isinstance(spec.rows, int) and spec.rows <= FEW_ROWS
        return not (near or shallow or few)

    @property
    def is_parallel(self) -> bool:
        """Whether threads share the work; symbolic extents are taken for middling."""
        spec = self.spec
        extents = (*spec.batch, spec.rows, spec.columns, spec.depth)
        work = 2.0
        for extent in extents:
            work *= extent if isinstance(extent, int) else 64
        return self.cpu.threads > 1 and is_worth_sharing(work)

    def panel(
        self, batch: list[PrimExpr], first: PrimExpr, lanes: int, copy: Buffer | None
    ) -> None:
        """All rows of one panel, which begins at a column."""
        spec = self.spec
        a_index, b_index = (self.index_in(each, batch) for each in (spec.a_batch, spec.b_batch))
        vectors = 1 if lanes == 1 else self.width // lanes

        def left(row: PrimExpr, k: Extent) -> PrimExpr:
            place = (k, row) if spec.transpose_a else (row, k)
            return emit.load(self.a, [*a_index, *place])

        def right(k: Extent, vector: int) -> PrimExpr:
            if copy is not None:
                return emit.load(copy, [k, vector * lanes], lanes)
            column = first + vector * lanes
            place = (column, k) if spec.transpose_b else (k, column)
            return emit.load(self.b, [*b_index, *place], lanes)

        def write(value: PrimExpr, row: PrimExpr, column: PrimExpr) -> None:
            index = [*batch, row, first + column]
            result = spec.epilogue.apply(value, index, self.operands)
            T.buffer_store(self.out, result, index)

        Product(
            cpu=self.cpu,
            depth=spec.depth,
            lanes=lanes,
            widths=(lanes,) * vectors,
            unrolled=self.unrolled,
            left=left,
            right=right,
            write=write,
        ).rows(spec.rows, tile_rows(vectors, self.cpu) if lanes > 1 else 4)

    def pack(self, copy: Buffer, batch: list[PrimExpr], first: PrimExpr) -> None:
        """Copies the panel of b that begins at a column."""
        spec, lanes = self.spec, self.cpu.lanes
        index = self.index_in(spec.b_batch, batch)
        depth, vectors = emit.integer(spec.depth), self.width // lanes
        if not spec.transpose_b:
            with emit.serial(depth) as k:
                for vector in range(vectors):
                    column = vector * lanes
                    value = emit.load(self.b, [*index, k, first + column], lanes)
                    emit.store(copy, value, [k, column], lanes)
            return
        with T.If(depth >= lanes):
            with T.Then(), emit.serial(emit.ceildiv(spec.depth, lanes)) as step:
                k = emit.let(tirx.min(step * lanes, depth - lanes))
                for vector in range(vectors):
                    self.pack_square(copy, index, first, k, vector)
            with T.Else(), emit.serial(depth) as k, emit.serial(self.width) as column:
                value = emit.load(self.b, [*index, first + column, k])
                emit.store(copy, value, [k, column])

    def pack_square(
        self,
        copy: Buffer,
        index: list[PrimExpr],
        first: PrimExpr,
        k: PrimExpr,
        vector: int,
    ) -> None:
        """Copies as many columns as a vector has, and as many of the depth, transposed."""
        lanes = self.cpu.lanes
        rows = [Register(lanes) for _ in range(lanes)]
        for lane, row in enumerate(rows):
            row.set(emit.load(self.b, [*index, first + (vector * lanes + lane), k], lanes))
        for offset, row in enumerate(transposed(rows)):
            emit.store(copy, row.get(), [k + offset, vector * lanes], lanes)
