# pyright: standard
"""Sums of products whose partial results stay in registers.

A tile of the result is several rows of vectors: each vector that is read goes into every row, and
what is stored is stored once. Applies to every reduction that reads along the result's last axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import tvm_ffi
from tvm import tirx
from tvm.error import InternalError
from tvm.ir import Call, TensorLoad
from tvm.s_tir.schedule import ScheduleError

from leptonc.backends.cpu.target import CpuTarget

Schedule: TypeAlias = Any
"""An `s_tir.Schedule`, whose handles TVM's type hints leave open."""
IF_THEN_ELSE = ("prim.if_then_else", "tirx.if_then_else")
ROWS = (6, 5, 4, 3, 2, 1)
VECTORS = (4, 3, 2, 1)


@dataclass(frozen=True)
class Tile:
    """Which loop gives the rows, how many of them, and how many vectors a row has."""

    row_loop: Any
    rows: int
    vectors: int
    lanes: int


def tiled(
    sch: Schedule, block: Any, loops: tuple[Sequence[Any], Sequence[Any]], cpu: CpuTarget,
    *, parallel: bool,
) -> Schedule | None:  # fmt: skip
    """A schedule with the reduction over `loops` (spatial, reduced) tiled; None if unfit."""
    tile = _tile_of(sch, block, loops[0], cpu)
    if tile is None:
        return None
    trial = sch.copy()
    try:
        _apply(trial, block, loops, tile, cpu if parallel else None)
    except (ScheduleError, InternalError):
        return None
    return trial


def _tile_of(sch: Schedule, block: Any, spatial: Sequence[Any], cpu: CpuTarget) -> Tile | None:
    body = sch.get(block)
    if len(body.writes) != 1 or not isinstance(body.body, tirx.BufferStore) or not spatial:
        return None
    bits = int("".join(c for c in str(body.writes[0].source.dtype) if c.isdigit()) or 32)
    lanes = cpu.lanes * 32 // bits
    extent = _extent(sch, spatial[-1])
    if extent is None or lanes < 2 or extent % lanes or extent == 0:
        return None
    variables = [it.var for it in body.iter_vars if it.iter_type == tirx.IterVar.DataPar]
    loads = [load for load in _loads(body.body.value) if not load.source.same_as(body.body.buffer)]
    along = [load for load in loads if _uses(load.indices, variables[-1])]
    if not along or any(_uses(load.indices[:-1], variables[-1]) for load in along):
        return None
    best = Tile(None, 1, _vectors(1, extent // lanes, cpu), lanes)
    for loop, variable in list(zip(spatial, variables, strict=True))[:-1]:
        count = _extent(sch, loop)
        if count is None or count == 0 or any(_uses(load.indices, variable) for load in along):
            continue
        for rows in (rows for rows in ROWS if count % rows == 0):
            vectors = _vectors(rows, extent // lanes, cpu)
            if vectors and _score(rows, vectors) >= _score(best.rows, best.vectors):
                best = Tile(loop if rows > 1 else None, rows, vectors, lanes)
    return best


def _vectors(rows: int, available: int, cpu: CpuTarget) -> int:
    """The widest row that leaves registers for what is read."""
    fitting = (n for n in VECTORS if available % n == 0 and rows * n + n + 1 <= cpu.registers)
    return next(fitting, 0)


def _score(rows: int, vectors: int) -> float:
    """Products for each read, as far as there are enough sums to hide the latency of one."""
    return rows * vectors / (rows + vectors) * min(rows * vectors, 8)


def _apply(
    sch: Schedule, block: Any, loops: tuple[Sequence[Any], Sequence[Any]], tile: Tile,
    shared_by: CpuTarget | None,
) -> None:  # fmt: skip
    spatial, reduce = loops
    steps, vectors, lane = sch.split(spatial[-1], [None, tile.vectors, tile.lanes])
    outer: list[Any] = []
    inner: list[Any] = []
    for loop in spatial[:-1]:
        if loop is not tile.row_loop:
            outer.append(loop)
            continue
        which, row = sch.split(loop, [None, tile.rows])
        outer.append(which)
        inner.append(row)
    outer.append(steps)
    inner.append(vectors)
    sch.reorder(*outer, *reduce, *inner, lane)
    copy = sch.cache_write(block, 0, "global")
    sch.reverse_compute_at(copy, outer[-1])
    *rows, last = sch.get_loops(copy)[len(outer) :]
    parts, part = sch.split(last, [None, tile.lanes])
    for loop in (*inner, *rows, parts):
        sch.unroll(loop)
    sch.vectorize(lane)
    sch.vectorize(part)
    if shared_by is not None:
        share(sch, outer, shared_by)
    sch.decompose_reduction(block, reduce[0])


def branches(block: Any) -> bool:
    """True where an element is read under a condition: what reads it many times had better not."""
    calls: list[Call] = []
    tvm_ffi.structural_walk(block.body, (Call, lambda call: calls.append(call)))
    return any(getattr(call.op, "name", "") in IF_THEN_ELSE for call in calls)


def share(sch: Schedule, loops: Sequence[Any], cpu: CpuTarget) -> None:
    """Threads share nested loops: those of known extents, which alone fuse, or the first other."""
    known = [loop for loop in loops if _extent(sch, loop) is not None]
    steps = math.prod(_extent(sch, loop) or 1 for loop in known)
    if steps < cpu.threads and len(known) < len(loops):
        sch.parallel(next(loop for loop in loops if loop not in known))
        return
    if known != list(loops[: len(known)]):
        sch.reorder(*known, *(loop for loop in loops if loop not in known))
    sch.parallel(sch.fuse(*known))


def _extent(sch: Schedule, loop: Any) -> int | None:
    extent = sch.get(loop).extent
    return int(extent) if isinstance(extent, tirx.IntImm) else None


def _loads(node: Any) -> list[TensorLoad]:
    found: list[TensorLoad] = []
    tvm_ffi.structural_walk(node, (TensorLoad, lambda load: found.append(load)))
    return found


def _uses(indices: Sequence[Any], variable: Any) -> bool:
    seen: list[Any] = []
    for index in indices:
        tvm_ffi.structural_walk(index, (tirx.Var, lambda found: seen.append(found)))
    return any(found.same_as(variable) for found in seen)
