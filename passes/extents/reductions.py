"""Reductions and running sums along axes that only run time tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from leptonc.ir.dims import is_positive
from leptonc.ir.graph import Value
from leptonc.ir.types import DType
from leptonc.passes.extents.resolution import Resolution, is_open

if TYPE_CHECKING:
    from leptonc.passes.extents.resolve_extents import Resolver


def _reduction(job: Resolution) -> Sequence[Value] | None:
    """Each axis becomes two, of which one has all the elements and the second is reduced."""
    if not is_open(job.op, "axes"):
        return None
    x, axes = job.operand("x"), job.row("axes")
    rank = x.type.rank
    extents, one = job.extents_of(x), job.const(1)
    chosen = _chosen(job, axes, rank)
    kept = job.choose(chosen, one, extents)
    halves = [kept, job.choose(chosen, extents, one)]
    table = job.build.concat(*(job.build.unsqueeze(half, one) for half in halves), axis=1)
    shape = job.checked(job.as_row(table), job.valid_axes(axes, rank))
    split = job.build.reshape(x, job.sizes(shape), allowzero=1)
    inner = job.const(*range(1, 2 * rank, 2))
    made = job.build.op(job.op.definition, [split, inner], {"keepdims": 0}).result
    type = job.op.result.type
    if job.op.attrs["keepdims"]:
        return [job.shaped(made, type)]
    keep = job.choose(chosen, job.const(0), one)
    left = job.sizes(job.kept(extents, keep, type.rank), type.shape)
    return [job.build.reshape(made, left, allowzero=1)]


def _chosen(job: Resolution, axes: Value, rank: int) -> Value:
    """Whether each axis is reduced: those named, or all where none is (unless that is a no-op)."""
    hits = job.sum_of(job.build.cast(job.pairs(axes, rank), to=DType.I64))
    chosen = job.build.greater(hits, job.const(0))
    if job.op.attrs["noop_with_empty_axes"] or is_positive(axes.type.shape[0]):
        return chosen
    none = job.build.equal(job.extents_of(axes), job.const(0))
    return job.build.or_(chosen, none)


def _running(job: Resolution) -> Sequence[Value] | None:
    """All axes before the one that is meant become one, and all behind it."""
    if not is_open(job.op, "axis"):
        return None
    x, axis = job.operand("x"), job.row("axis")
    rank = x.type.rank
    extents, one = job.extents_of(x), job.const(1)
    place, order = job.wrapped(axis, rank), job.count(rank)
    parts = [
        job.product_of(job.choose(holds, extents, one))
        for holds in (
            job.build.less(order, place),
            job.build.equal(order, place),
            job.build.greater(order, place),
        )
    ]
    shape = job.checked(job.build.concat(*parts, axis=0), job.valid_axes(axis, rank))
    flat = job.build.reshape(x, job.sizes(shape), allowzero=1)
    middle = job.build.const(np.array(1))
    made = job.build.op(job.op.definition, [flat, middle], job.op.attrs).result
    return [job.build.reshape(made, extents, allowzero=1)]


RESOLVERS: Mapping[str, Resolver] = MappingProxyType({
    **{
        name: _reduction
        for name in (
            "reduce_l1", "reduce_l2", "reduce_log_sum", "reduce_log_sum_exp", "reduce_max",
            "reduce_mean", "reduce_min", "reduce_prod", "reduce_sum", "reduce_sum_square",
        )
    },
    "cum_sum": _running,
    "cum_prod": _running,
})  # fmt: skip
