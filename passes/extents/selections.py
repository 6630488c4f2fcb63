"""Results with as many elements as data has hits: counted first, or cut to size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from leptonc.ir.dims import Dim
from leptonc.ir.graph import Attribute, Value
from leptonc.ir.types import DType
from leptonc.passes.extents.resolution import Resolution

if TYPE_CHECKING:
    from leptonc.passes.extents.resolve_extents import Resolver


def _places(job: Resolution, x: Value, found: Dim) -> Value:
    """The indices of the elements of `x` that are not 0, in memory for just them."""
    truth = x
    if x.type.dtype is not DType.BOOL:
        zero = job.build.const(np.zeros((), x.type.dtype.numpy))
        truth = job.build.not_(job.build.equal(x, zero))
    numbers = job.build.cast(truth, to=DType.I64)
    count = job.build.reduce_sum(numbers, keepdims=0)
    return job.build.non_zero_places(x, job.sizes(job.as_row(count), (found,)))


def _non_zero(job: Resolution) -> Sequence[Value]:
    return [_places(job, job.operand("x"), job.op.result.type.shape[1])]


def _line(job: Resolution, x: Value) -> Value:
    """All elements in a row."""
    return x if x.type.rank == 1 else job.build.reshape(x, job.const(-1))


def _along(job: Resolution) -> tuple[Value, int]:
    """The operand and the axis of its slices; without one, all its elements in a row."""
    x, axis = job.operand("x"), job.op.attrs["axis"]
    if not isinstance(axis, int):
        return _line(job, x), 0
    return x, axis + x.type.rank if axis < 0 else axis


def _compress(job: Resolution) -> Sequence[Value]:
    x, axis = _along(job)
    condition = job.operand("condition")
    if condition.blob is not None and not condition.blob.is_absent:
        places = job.const(*np.flatnonzero(condition.blob.array).tolist())
    else:
        places = _line(job, _places(job, condition, job.op.result.type.shape[axis]))
    return [job.build.gather(x, places, axis=axis)]


def _unique(job: Resolution) -> Sequence[Value]:
    parts = job.build.op("unique_places", [job.operand("x")], job.op.attrs).results
    first, inverse, counts, number = parts
    count = job.sizes(number, job.op.results[1].type.shape)
    first = job.build.leading(first, count)
    x, axis = _along(job)
    values = job.build.gather(x, first, axis=axis)
    return [values, first, inverse, job.build.leading(counts, count)]


def _non_max_suppression(job: Resolution) -> Sequence[Value]:
    op, one = job.op, job.const(1)
    attrs: dict[str, Attribute] = {**op.attrs, "room": _room(job)}
    made = job.build.op("non_max_suppression_places", op.operands, attrs, names=op.operand_names)
    padded, number = made.results
    places = job.build.leading(padded, job.sizes(number, op.result.type.shape[:1]))
    scores = job.extents_of(job.operand("scores"))
    classes, boxes = (job.build.slice(scores, job.const(at), job.const(at + 1)) for at in (1, 2))
    rows = job.build.div(places, boxes)
    columns = [
        job.build.div(rows, classes),
        job.build.sub(rows, job.build.mul(job.build.div(rows, classes), classes)),
        job.build.sub(places, job.build.mul(rows, boxes)),
    ]
    return [job.build.concat(*(job.build.unsqueeze(part, one) for part in columns), axis=1)]


def _room(job: Resolution) -> tuple[int] | None:
    """How many boxes a class may keep, where that is known."""
    most = job.op.operand("max_output_boxes_per_class")
    if most is None:
        return (0,)
    if most.blob is None or most.blob.is_absent:
        return None
    numbers = most.blob.array.reshape(-1)
    return (max(int(numbers[0]), 0) if numbers.size else 0,)


RESOLVERS: Mapping[str, Resolver] = MappingProxyType({
    "compress": _compress,
    "non_max_suppression": _non_max_suppression,
    "non_zero": _non_zero,
    "unique": _unique,
})  # fmt: skip
