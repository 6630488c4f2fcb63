# pyright: standard
"""Schedule rules that are sound on every kernel made of tensor expressions.

Producers are inlined where that repeats no expensive work; every remaining block gets its loops
ordered, vectorised along the axis that lies contiguous in memory, and its outer loop shared among
threads. What a rule cannot prove it leaves as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir, tirx
from tvm.ir import Expr as PrimExpr
from tvm.ir import TensorLoad
from tvm.s_tir.schedule import ScheduleError

from leptonc.backends.cpu.sharing import keeps_rows_of_channels
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.tvm.register_tiles import Schedule, branches, share, tiled

REPEATABLE_NODES = 48
"""An expression up to this size is computed again for each reader rather than stored."""
REPEATABLE_IN_REDUCTION = 16
"""The same, where a reduction would compute it again at each of its steps."""
PARALLEL_ELEMENTS = 65_536
"""Below this many steps, waking the threads costs more than they save."""
IMAGE_AXES = 5
"""Those of a batch of images in blocks of channels: images, blocks, rows, columns, lanes."""
VECTORS_IN_FLIGHT = 4
"""Vectors of independent sums that hide the latency of an addition."""


def schedule(function: tirx.PrimFunc, cpu: CpuTarget) -> tirx.PrimFunc:
    """`function`, made of blocks as tensor expressions give them, its loops arranged for `cpu`."""
    sch = s_tir.Schedule(tvm.IRModule({"main": function}))
    root = sch.get_sblock("root")
    for block in sch.get_child_blocks(root):
        _inline(sch, block)
    # blocks that are cut into several hide from others what they write: they come last
    blocks = [(_is_ragged(sch, block, cpu), block) for block in sch.get_child_blocks(root)]
    for _, block in sorted(blocks, key=lambda pair: pair[0]):
        _arrange(sch, block, cpu)
    # a block that was cut in two has the same names for values in both parts
    return tirx.transform.ConvertSSA()(sch.mod)["main"]


def _attempt(sch: Schedule, action: Any) -> bool:
    """Do `action`; where its preconditions do not hold nothing happens."""
    try:
        action()
    except ScheduleError:
        return False
    return True


# ---------------------------------------------------------------- inlining


def _inline(sch: Schedule, block: Any) -> None:
    consumers = sch.get_consumers(block)
    body = sch.get(block)
    if not consumers or not _is_spatial(body):
        return
    size = _size(body.body)
    reads = 0
    for consumer in consumers:
        node = sch.get(consumer)
        reads += _reads_of(node, body.writes[0].source)
        repeats = len(node.iter_vars) > len(body.iter_vars)
        costly = size > REPEATABLE_IN_REDUCTION or branches(body)
        if repeats and not _is_spatial(node) and costly:
            return
    if reads > 1 and size > REPEATABLE_NODES:
        return
    _attempt(sch, lambda: sch.compute_inline(block))


def _is_spatial(block: Any) -> bool:
    return all(iterator.iter_type == tirx.IterVar.DataPar for iterator in block.iter_vars)


def _size(node: Any) -> int:
    nodes: list[PrimExpr] = []
    tvm_ffi.structural_walk(node, (PrimExpr, lambda found: nodes.append(found)))
    return len(nodes)


def _reads_of(block: Any, buffer: Any) -> int:
    return sum(load.source.same_as(buffer) for load in _loads(block.body))


def _loads(node: Any) -> list[Any]:
    found: list[Any] = []
    tvm_ffi.structural_walk(node, (TensorLoad, lambda load: found.append(load)))
    return found


# ---------------------------------------------------------------- loops


@dataclass(frozen=True)
class _Loops:
    spatial: list[Any]
    reduce: list[Any]


def _arrange(sch: Schedule, block: Any, cpu: CpuTarget) -> None:
    body = sch.get(block)
    loops = sch.get_loops(block)
    if len(loops) != len(body.iter_vars):
        return
    kinds = [(loop, each.iter_type) for loop, each in zip(loops, body.iter_vars, strict=True)]
    if any(kind not in (tirx.IterVar.DataPar, tirx.IterVar.CommReduce) for _, kind in kinds):
        return
    spatial = [loop for loop, kind in kinds if kind == tirx.IterVar.DataPar]
    reduce = [loop for loop, kind in kinds if kind == tirx.IterVar.CommReduce]
    if not reduce:
        _arrange_spatial(sch, block, spatial, cpu)
    else:
        _arrange_reduction(sch, block, _Loops(spatial, reduce), cpu)


def _extent(sch: Schedule, loop: Any) -> int | None:
    extent = sch.get(loop).extent
    return int(extent) if isinstance(extent, tirx.IntImm) else None


def _count(sch: Schedule, loops: Sequence[Any]) -> int:
    """The number of steps; a loop of unknown extent counts as many."""
    total = 1
    for loop in loops:
        extent = _extent(sch, loop)
        total *= 1024 if extent is None else extent
    return total


def _arrange_spatial(sch: Schedule, block: Any, loops: list[Any], cpu: CpuTarget) -> None:
    if not loops or _count(sch, loops) == 0:
        return
    many = _count(sch, loops) >= PARALLEL_ELEMENTS and cpu.threads > 1
    static = all(_extent(sch, loop) is not None for loop in loops)
    if many and _has_rows(sch, loops, cpu):
        image, channels, rows, *_, lanes = loops
        part, row = sch.split(rows, [cpu.threads, None])
        sch.reorder(image, part, channels, row)
        sch.parallel(sch.fuse(image, part))
        sch.vectorize(lanes)
        return
    if static and len(loops) > 1 and _is_flat(sch.get(block)):
        loops = [sch.fuse(*loops)]
    *outer, last = loops
    if many and outer:
        _attempt(sch, lambda: share(sch, outer, cpu))
    steps = _vectorize(sch, last, cpu.lanes)
    if many and not outer:
        _attempt(sch, lambda: share(sch, [steps], cpu))


def _has_rows(sch: Schedule, loops: Sequence[Any], cpu: CpuTarget) -> bool:
    """Whether the loops are over an image in blocks of channels whose rows threads share."""
    extents = [_extent(sch, loop) for loop in loops]
    if len(extents) != IMAGE_AXES or extents[-1] != cpu.lanes:
        return False
    _, blocks, rows, columns, _ = extents
    if blocks is None or rows is None or columns is None or rows % cpu.threads:
        return False
    return keeps_rows_of_channels(blocks * cpu.lanes, (rows, columns), cpu.threads)


def _is_ragged(sch: Schedule, block: Any, cpu: CpuTarget) -> bool:
    """Whether the innermost loop has several vectors, but no whole number of them."""
    loops = sch.get_loops(block)
    extent = _extent(sch, loops[-1]) if loops else None
    return extent is not None and extent > cpu.lanes and extent % cpu.lanes > 0


def _vectorize(sch: Schedule, loop: Any, lanes: int) -> Any:
    """Whole vectors explicitly, and what is behind them in a loop of its own.

    LLVM's vectoriser is left with what has no whole vector, or is open. It leaves most functions as
    they are: 512 rows of 508 numbers took 783 us through a GELU, whole vectors of them 98.
    Returns the loop over the vectors.
    """
    extent = _extent(sch, loop)
    if extent is None or extent < lanes or lanes == 1:
        return loop
    if extent % lanes:
        try:
            loop, _ = sch.loop_partition(loop, [extent // lanes * lanes, None])
        except ScheduleError:
            return loop
    steps, inner = sch.split(loop, [None, lanes])
    _attempt(sch, lambda: sch.vectorize(inner))
    return steps


def _is_flat(block: Any) -> bool:
    """True where every element is computed from the elements at its own index."""
    iterators = [iterator.var for iterator in block.iter_vars]
    store = block.body
    if not isinstance(store, tirx.BufferStore) or not _is_identity(store.indices, iterators):
        return False
    target: Any = store.buffer
    shape = target.shape
    for load in _loads(store.value):
        extents = load.source.shape
        if all(isinstance(extent, tirx.IntImm) and int(extent) == 1 for extent in extents):
            continue
        same = len(extents) == len(shape) and all(
            tvm_ffi.structural_equal(a, b) for a, b in zip(extents, shape, strict=True)
        )
        if same and _is_identity(load.indices, iterators):
            continue
        # what is read at a place that was itself read does not depend on how elements are counted
        if any(_uses_iterators_outside_loads(index, iterators) for index in load.indices):
            return False
    return not _uses_iterators_outside_loads(store.value, iterators)


def _is_identity(indices: Sequence[Any], iterators: Sequence[Any]) -> bool:
    return len(indices) == len(iterators) and all(
        index.same_as(variable) for index, variable in zip(indices, iterators, strict=True)
    )


def _uses_iterators_outside_loads(value: Any, iterators: Sequence[Any]) -> bool:
    seen: list[Any] = []
    tvm_ffi.structural_walk(value, (tirx.Var, lambda variable: seen.append(variable)))
    uses = sum(any(variable.same_as(iterator) for iterator in iterators) for variable in seen)
    aligned = (load for load in _loads(value) if _is_identity(load.indices, iterators))
    return uses > sum(len(load.indices) for load in aligned)


# ---------------------------------------------------------------- reductions


def _arrange_reduction(sch: Schedule, block: Any, loops: _Loops, cpu: CpuTarget) -> None:
    body = sch.get(block)
    if len(body.writes) != 1:
        return
    axis = _contiguous_axis(body)
    parallel = cpu.threads > 1 and _count(sch, [*loops.spatial, *loops.reduce]) >= PARALLEL_ELEMENTS
    trial = tiled(sch, block, (loops.spatial, loops.reduce), cpu, parallel=parallel)
    if trial is not None:
        _adopt(sch, trial)
    elif axis is not None and axis == _last_variable(body, tirx.IterVar.DataPar):
        _reduce_across(sch, block, loops, cpu, parallel=parallel)
    elif axis is not None and axis == _last_variable(body, tirx.IterVar.CommReduce):
        _reduce_along(sch, block, loops, cpu, parallel=parallel)
    elif parallel and loops.spatial:
        _attempt(sch, lambda: sch.parallel(loops.spatial[0]))


def _last_variable(block: Any, kind: int) -> str:
    names = [iterator.var.name for iterator in block.iter_vars if iterator.iter_type == kind]
    return names[-1] if names else ""


def _contiguous_axis(block: Any) -> str | None:
    """The iterator along which the reads lie contiguous, the largest tensors deciding."""
    store = block.body
    if not isinstance(store, tirx.BufferStore):
        return None
    best: tuple[int, str] | None = None
    for load in _loads(store.value):
        if load.source.same_as(store.buffer) or not load.indices:
            continue
        last = load.indices[-1]
        for iterator in block.iter_vars:
            if _moves_by_one(last, iterator.var):
                rank = (len(load.indices), iterator.var.name)
                best = max(best, rank) if best else rank
    return best[1] if best else None


def _moves_by_one(index: Any, variable: Any) -> bool:
    """True where `index` is the variable, or the variable plus something without it."""
    if index.same_as(variable):
        return True
    if isinstance(index, tirx.Add):
        return _moves_by_one(index.a, variable) or _moves_by_one(index.b, variable)
    if isinstance(index, tirx.Sub):
        return _moves_by_one(index.a, variable)
    return False


def _reduce_across(
    sch: Schedule, block: Any, loops: _Loops, cpu: CpuTarget, *, parallel: bool
) -> None:
    """Vectors along the last kept axis, one partial result a lane."""
    *outer, last = loops.spatial
    extent = _extent(sch, last)
    if extent is not None and extent % cpu.lanes == 0:
        width = max(n for n in (1, 2, 4) if extent % (n * cpu.lanes) == 0)
        tile, vectors, lane = sch.split(last, [None, width, cpu.lanes])
        sch.reorder(*outer, tile, *loops.reduce, vectors, lane)
        _attempt(sch, lambda: sch.vectorize(lane))
        outer = [*outer, tile]
    else:
        sch.reorder(*outer, *loops.reduce, last)
    if parallel and outer:
        _attempt(sch, lambda: share(sch, outer, cpu))
    _attempt(sch, lambda: sch.decompose_reduction(block, loops.reduce[0]))


def _reduce_along(
    sch: Schedule, block: Any, loops: _Loops, cpu: CpuTarget, *, parallel: bool
) -> None:
    """Vectors along the reduced axis: partial results in the lanes first, combined at the end."""
    last = loops.reduce[-1]
    extent = _extent(sch, last)
    width = VECTORS_IN_FLIGHT * cpu.lanes
    while extent is not None and extent % width and width > cpu.lanes:
        width //= 2
    whole = extent is not None and extent % width == 0 and extent != width
    if not whole or not _is_float_reduction(sch.get(block)):
        if parallel and loops.spatial:
            _attempt(sch, lambda: sch.parallel(loops.spatial[0]))
        return
    trial = sch.copy()
    try:
        _, lanes = trial.split(last, [None, width])
        partial = trial.rfactor(lanes, len(loops.spatial))
        _arrange_partial(trial, partial, len(loops.spatial), cpu, parallel=parallel)
    except (ScheduleError, tvm.error.InternalError):  # rfactor of a block that is all of a kernel
        return
    _adopt(sch, trial)


def _is_float_reduction(block: Any) -> bool:
    return block.writes[0].source.dtype.startswith("float")


def _arrange_partial(
    sch: Schedule, partial: Any, kept: int, cpu: CpuTarget, *, parallel: bool
) -> None:
    loops = sch.get_loops(partial)
    lane = loops[-1]
    reduce = loops[kept:-1]
    _, inner = sch.split(lane, [None, cpu.lanes])
    sch.vectorize(inner)
    if parallel and kept:
        sch.parallel(loops[0])
    if reduce:
        sch.decompose_reduction(partial, reduce[0])


def _adopt(sch: Schedule, trial: Schedule) -> None:
    sch.state.replace(sch.get_sref(sch.get_sblock("root")), trial.get(trial.get_sblock("root")))
