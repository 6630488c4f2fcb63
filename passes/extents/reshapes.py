"""Other shapes of the same elements, where only run time tells which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from leptonc.ir.graph import Value
from leptonc.ir.types import DType
from leptonc.passes.extents.resolution import Resolution, is_open

if TYPE_CHECKING:
    from leptonc.passes.extents.resolve_extents import Resolver


def _reshape(job: Resolution) -> Sequence[Value] | None:
    """0 is the operand's extent (unless it is meant), -1 what is left of the elements."""
    if not is_open(job.op, "shape"):
        return None
    x, wanted = job.operand("x"), job.row("shape")
    type = job.op.result.type
    if not job.op.attrs["allowzero"]:
        wanted = _copied(job, x, wanted, type.rank)
    missing = job.build.equal(wanted, job.const(-1))
    known = job.product_of(job.choose(missing, job.const(1), wanted))
    total = job.product_of(job.extents_of(x))
    divisor = job.build.max(known, job.const(1))
    shape = job.choose(missing, job.build.div(total, divisor), wanted)
    fits = job.build.equal(job.product_of(shape), total)
    return [job.build.reshape(x, job.sizes(job.checked(shape, fits), type.shape), allowzero=1)]


def _copied(job: Resolution, x: Value, wanted: Value, rank: int) -> Value:
    """`wanted` with extents of `x` in place of zeros; -1 where `x` has no such axis."""
    extents = job.extents_of(x)
    if rank > x.type.rank:
        extents = job.build.concat(extents, job.const(*[-2] * (rank - x.type.rank)), axis=0)
    elif rank < x.type.rank:
        extents = job.build.slice(extents, job.const(0), job.const(rank))
    return job.choose(job.build.equal(wanted, job.const(0)), extents, wanted)


def _squeeze(job: Resolution) -> Sequence[Value] | None:
    if not is_open(job.op, "axes"):
        return None
    x, axes = job.operand("x"), job.row("axes")
    rank, type = x.type.rank, job.op.result.type
    gone = job.sum_of(job.build.cast(job.pairs(axes, rank), to=DType.I64))
    extents = job.extents_of(x)
    keep = job.choose(job.build.equal(gone, job.const(0)), job.const(1), job.const(0))
    flat = job.build.or_(
        job.build.equal(gone, job.const(0)), job.build.equal(extents, job.const(1))
    )
    shape = job.checked(job.kept(extents, keep, type.rank), flat, job.valid_axes(axes, rank))
    return [job.build.reshape(x, job.sizes(shape, type.shape), allowzero=1)]


def _unsqueeze(job: Resolution) -> Sequence[Value] | None:
    if not is_open(job.op, "axes"):
        return None
    x, axes, type = job.operand("x"), job.row("axes"), job.op.result.type
    hits = job.sum_of(job.build.cast(job.pairs(axes, type.rank), to=DType.I64))
    # the extents of the operand go, in order, to the places that are not new
    place = job.build.cum_sum(
        job.build.sub(job.const(1), hits),
        job.build.reshape(job.const(0), job.const(1)),
        exclusive=1,
    )
    origin = job.build.unsqueeze(job.count(x.type.rank), job.const(1))
    hit = job.build.cast(job.build.equal(origin, place), to=DType.I64)
    extents = job.build.unsqueeze(job.extents_of(x), job.const(1))
    spread = job.sum_of(job.build.mul(hit, extents))
    shape = job.choose(job.build.equal(hits, job.const(0)), spread, job.const(1))
    once = job.build.less(hits, job.const(2))
    shape = job.checked(shape, once, job.valid_axes(axes, type.rank))
    return [job.build.reshape(x, job.sizes(shape, type.shape), allowzero=1)]


def _expand(job: Resolution) -> Sequence[Value] | None:
    if not is_open(job.op, "shape"):
        return None
    x, wanted, type = job.operand("x"), job.row("shape"), job.op.result.type
    extents, one = _led(job, job.extents_of(x), type.rank), job.const(1)
    wanted = _led(job, wanted, type.rank)
    shape = job.choose(job.build.equal(wanted, one), extents, wanted)
    fits = job.build.or_(job.build.equal(extents, one), job.build.equal(extents, shape))
    made = job.build.expand(x, job.sizes(job.checked(shape, fits), type.shape))
    # what it gets is what it was asked for, or the operand's, by now
    pairs = zip(made.type.shape, type.shape, strict=True)
    made.type = type.with_shape(*(new if isinstance(new, int) else old for new, old in pairs))
    return [made]


def _led(job: Resolution, row: Value, rank: int) -> Value:
    """A row with ones before it, so that it has `rank` elements."""
    missing = rank - row.type.extents[0]
    return job.build.concat(job.const(*[1] * missing), row, axis=0) if missing else row


RESOLVERS: Mapping[str, Resolver] = MappingProxyType({
    "expand": _expand, "reshape": _reshape, "squeeze": _squeeze, "unsqueeze": _unsqueeze,
})  # fmt: skip
