"""Parts of a tensor, and borders around one, whose places only run time tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from leptonc.ir.graph import Value
from leptonc.ir.types import DType
from leptonc.passes.extents.resolution import Resolution, is_open

if TYPE_CHECKING:
    from leptonc.passes.extents.resolve_extents import Resolver

FURTHEST = 1 << 62
"""Steps beyond this go out of any tensor at once; their absolute value must exist."""


def _slice(job: Resolution) -> Sequence[Value] | None:
    if not any(is_open(job.op, name) for name in ("starts", "ends", "axes", "steps")):
        return None
    x, rank = job.operand("x"), job.operand("x").type.rank
    build, extents = job.build, job.extents_of(x)
    given = job.row("starts")
    axes = job.row("axes") if job.op.operand("axes") is not None else _first(job, given)
    steps = job.const(1) if job.op.operand("steps") is None else job.row("steps")
    named = job.sum_of(build.cast(job.pairs(axes, rank), to=DType.I64))
    chosen = build.greater(named, job.const(0))
    ones = build.add(build.mul(axes, job.const(0)), steps)  # one step for each axis
    step = job.choose(chosen, job.spread(ones, axes, rank), job.const(1))
    step = build.max(build.min(step, job.const(FURTHEST)), job.const(-FURTHEST))
    back = build.less(step, job.const(0))
    start = _inside(job, job.spread(given, axes, rank), extents, back)
    end = _inside(job, job.spread(job.row("ends"), axes, rank), extents, back)
    start = job.choose(chosen, start, job.const(0))
    end = job.choose(chosen, end, extents)
    length = _length(job, start, end, step, back)
    once = build.less(named, job.const(2))
    nonzero = build.not_(build.equal(steps, job.const(0)))
    shape = job.checked(length, once, nonzero, job.valid_axes(axes, rank))
    sizes = job.sizes(shape, job.op.result.type.shape)
    return [build.slice_from(x, start, step, sizes)]


def _first(job: Resolution, row: Value) -> Value:
    """The axes from 0, as many as a row has elements."""
    if row.type.is_static:
        return job.count(row.type.extents[0])
    every = job.build.cast(job.build.equal(row, row), to=DType.I64)
    return job.build.sub(job.build.cum_sum(every, job.scalar(job.const(0))), job.const(1))


def _inside(job: Resolution, at: Value, extents: Value, back: Value) -> Value:
    """Limits counted from the start, within what a slice forwards or backwards can reach."""
    build = job.build
    at = job.choose(build.less(at, job.const(0)), build.add(at, extents), at)
    lowest = job.choose(back, job.const(-1), job.const(0))
    highest = build.add(extents, lowest)
    return build.min(build.max(at, lowest), highest)


def _length(job: Resolution, start: Value, end: Value, step: Value, back: Value) -> Value:
    build = job.build
    way = job.choose(back, build.sub(start, end), build.sub(end, start))
    steps = build.add(build.div(build.sub(way, job.const(1)), build.abs(step)), job.const(1))
    return job.choose(build.greater(way, job.const(0)), steps, job.const(0))


def _pad(job: Resolution) -> Sequence[Value] | None:
    if not (is_open(job.op, "pads") or is_open(job.op, "axes")):
        return None
    x, rank, build = job.operand("x"), job.operand("x").type.rank, job.build
    pads, type, mode = job.row("pads"), job.op.result.type, job.op.attrs["mode"]
    axes = job.row("axes") if job.op.operand("axes") is not None else job.count(rank)
    halves = build.reshape(pads, job.const(2, -1))
    before, after = (
        job.spread(build.gather(halves, job.scalar(job.const(half))), axes, rank) for half in (0, 1)
    )
    valid = job.valid_axes(axes, rank)
    shape = build.add(build.add(job.extents_of(x), before), after)
    if mode != "constant":
        x, left = _cropped(job, x, before, after)
        before = build.max(before, job.const(0))
        # there must be elements to pad with
        some = build.or_(build.greater(left, job.const(0)), build.equal(shape, job.const(0)))
        shape = job.checked(shape, some)
    sizes = job.sizes(job.checked(shape, valid), type.shape)
    value = job.op.operand("constant_value")
    operands = [x, before, *([value] if value is not None else []), sizes]
    slots = ("x", "before", *(["constant_value"] if value is not None else []), "shape")
    return [build.op("pad_to", operands, {"mode": mode}, names=slots).result]


def _cropped(job: Resolution, x: Value, before: Value, after: Value) -> tuple[Value, Value]:
    """What is left where negative pads remove elements, and how much."""
    build, none = job.build, job.const(0)
    start = build.sub(none, build.min(before, none))
    left = build.add(build.add(job.extents_of(x), build.min(before, none)), build.min(after, none))
    ones = build.add(build.mul(start, none), job.const(1))
    return build.slice_from(x, start, ones, job.sizes(build.max(left, none))), left


RESOLVERS: Mapping[str, Resolver] = MappingProxyType({"pad": _pad, "slice": _slice})
