"""Rows that join and cut tensors: concat, split, slice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import LARGEST_EXTENT, Dim, bounds, ceildiv, floordiv, maximum, minimum
from leptonc.ir.ops.broadcasting import check_same_dtype, normalized_axis, shown_shape
from leptonc.ir.ops.contents import content_of, known_integers, moved, required_integers
from leptonc.ir.ops.shape import differ, normalized_axes
from leptonc.ir.table import Attr, Evaluation, Inference, Trait, define
from leptonc.ir.types import TensorType

FAR = LARGEST_EXTENT + 1
"""Slice bounds from here on mean "to the end"; exporters write this one among others."""


def _concat_infer(call: Inference) -> TensorType:
    dtype = check_same_dtype(call, "inputs")
    shapes = [type.shape for type in call.types]
    shape = list(shapes[0])
    joined = normalized_axis(call, call.int("axis"), len(shape))
    for other in shapes[1:]:
        if len(other) != len(shape):
            raise LeptonError(
                f"concat: {shown_shape(shapes[0])} and {shown_shape(other)} differ in rank",
                code="E103",
            )
        for axis, dim in enumerate(other):
            if axis == joined:
                shape[axis] = shape[axis] + dim
            elif differ(shape[axis], dim):
                raise LeptonError(
                    f"concat: axis {axis} is {shape[axis]} and {dim}, should be equal", code="E103"
                )
            elif isinstance(dim, int):
                shape[axis] = dim
    return TensorType(dtype, tuple(shape))


def _concat_evaluate(call: Evaluation) -> Array:
    return np.concatenate(call.items, call.int("axis"))


define(
    "concat(inputs*)", "Tensors one after the other along `axis`.",
    infer=_concat_infer, evaluate=_concat_evaluate, content=moved(_concat_evaluate, "inputs"),
    attrs={"axis": Attr("int", required=True)}, traits=[Trait.INJECTIVE], onnx="Concat", since=13,
)  # fmt: skip


def split_sizes(call: Inference) -> list[Dim]:
    """The extents of a `split`'s results along its axis."""
    type = call[0].type
    extent = type.shape[normalized_axis(call, call.int("axis"), type.rank)]
    if call.get("split") is not None:
        return _given_sizes(call, extent)
    count = call.attrs["num_outputs"]
    if not isinstance(count, int) or count < 1:
        raise LeptonError(
            "split needs the operand split, or num_outputs of at least 1", code="E106"
        )
    part = ceildiv(extent, count)
    if part * count == extent:
        return [part] * count
    last = extent - part * (count - 1)
    if isinstance(last, int):
        if last < 0:
            raise LeptonError(f"split: {extent} elements do not make {count} parts", code="E103")
        return [part] * (count - 1) + [last]
    part = floordiv(extent + (count - 1), count)
    return [part] * (count - 1) + [extent - part * (count - 1)]


def _given_sizes(call: Inference, extent: Dim) -> list[Dim]:
    value = call.get("split")
    assert value is not None
    content = content_of(value)
    if content is None:
        count = value.type.shape[0] if value.type.rank == 1 else None
        if not isinstance(count, int):
            raise LeptonError("split: the number of results is not known", code="E109")
        return [call.unknown(index) for index in range(count)]
    sizes: list[Dim] = list(content)
    total: Dim = sum(sizes[1:], sizes[0]) if sizes else 0
    if differ(total, extent) or any(bounds(size)[1] < 0 for size in sizes):
        raise LeptonError(
            f"split: sizes {sizes} add up to {total}, should be {extent}", code="E103"
        )
    return sizes


def _split_infer(call: Inference) -> list[TensorType]:
    type = call[0].type
    axis = normalized_axis(call, call.int("axis"), type.rank)
    head, tail = type.shape[:axis], type.shape[axis + 1 :]
    return [type.with_shape(*head, size, *tail) for size in split_sizes(call)]


def _split_evaluate(call: Evaluation) -> list[Array]:
    x, axis, sizes = call[0], call.int("axis"), call.get("split")
    if sizes is None:
        count = call.int("num_outputs")
        part = -(-x.shape[axis] // count)
        cuts = [part * index for index in range(1, count)]
    else:
        if int(np.sum(sizes)) != x.shape[axis]:
            raise LeptonError(
                f"split: sizes {sizes.tolist()} add up to {int(np.sum(sizes))}, should be "
                f"{x.shape[axis]}",
                code="E103",
            )
        cuts = [int(cut) for cut in np.cumsum(sizes)[:-1]]
    return np.split(x, cuts, axis)


define(
    "split(x, split?!)",
    "Consecutive parts along `axis`: of the extents `split`, or `num_outputs` equal ones with a "
    "smaller last.",
    infer=_split_infer,
    evaluate=_split_evaluate,
    content=moved(_split_evaluate, "x"),
    attrs={"axis": Attr("int", 0), "num_outputs": Attr("int")},
    traits=[Trait.INJECTIVE],
    onnx="Split",
    since=18,
)


@dataclass(frozen=True, slots=True)
class Cut:
    """What `slice` takes along one axis: as element `i` the one at ``start + i * step``."""

    start: Dim
    step: int
    extent: Dim


def cuts_of(call: Inference) -> dict[int, Cut] | None:
    """The sliced axes of a `slice`; None where its bounds are not known before run time."""
    type = call[0].type
    axes = sliced_axes(call)
    steps = known_integers(call, "steps") if call.get("steps") is not None else (1,) * len(axes)
    starts, ends = content_of(call[1]), content_of(call[2])
    if steps is None or starts is None or ends is None:
        return None
    for axis_list, name in ((starts, "starts"), (ends, "ends"), (steps, "steps")):
        if len(axis_list) != len(axes):
            raise LeptonError(
                f"slice: {name} has {len(axis_list)} elements, should have {len(axes)}", code="E103"
            )
    cuts: dict[int, Cut] = {}
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if step == 0:
            raise LeptonError(f"slice: the step of axis {axis} is 0", code="E108")
        cut = _forward if step > 0 else _backward
        cuts[axis] = cut(start, end, step, type.shape[axis])
    return cuts


def axes_are_known(call: Inference) -> bool:
    """False where an operand names the axes that an operation is about at run time only."""
    return call.get("axes") is None or known_integers(call, "axes") is not None


def sliced_axes(call: Inference) -> tuple[int, ...]:
    """The axes that a `slice` cuts."""
    type = call[0].type
    if call.get("axes") is not None:
        return normalized_axes(call, required_integers(call, "axes"), type.rank)
    count = call[1].type.shape[0] if call[1].type.rank == 1 else None
    if not isinstance(count, int):
        raise LeptonError("slice: the number of sliced axes is not known", code="E109")
    if count > type.rank:
        raise LeptonError(
            f"slice: {count} starts for {type}, should be at most {type.rank}", code="E103"
        )
    return tuple(range(count))


def _from_front(bound: Dim, extent: Dim) -> Dim:
    """`bound` with `extent` added where it is negative; exact where the sign is not known, too."""
    low, high = bounds(bound)
    if low >= 0:
        return bound
    if high < 0:
        return bound + extent
    return bound + extent * minimum(1, maximum(0, bound * -1))


def _forward(start: Dim, end: Dim, step: int, extent: Dim) -> Cut:
    """The cut for a positive step: limits below and above are kept apart so that they cancel."""
    if isinstance(start, int) and start >= FAR:
        start = extent
    first = _from_front(start, extent)
    lows: list[Dim] = [first] if bounds(first)[0] >= 0 else [first, 0]
    if isinstance(end, int) and end >= FAR:
        highs: list[Dim] = [extent]
    else:
        last = _from_front(end, extent)
        highs = [last] if bounds(extent - last)[0] >= 0 else [last, extent]
    length = _least([high - low for high in highs for low in lows])
    count = maximum(length, 0)
    return Cut(_most(lows), step, count if step == 1 else floordiv(count + (step - 1), step))


def _backward(start: Dim, end: Dim, step: int, extent: Dim) -> Cut:
    top = extent - 1
    if isinstance(start, int) and start >= FAR:
        first = top
    else:
        first = minimum(maximum(_from_front(start, extent), 0), top) if start != -1 else top
    if isinstance(end, int) and end <= -FAR:
        last: Dim = -1
    else:
        last = minimum(maximum(_from_front(end, extent), -1), top)
    count = maximum(first - last, 0)
    return Cut(first, step, count if step == -1 else floordiv(count + (-step - 1), -step))


def _least(items: Sequence[Dim]) -> Dim:
    result = items[0]
    for item in items[1:]:
        result = minimum(result, item)
    return result


def _most(items: Sequence[Dim]) -> Dim:
    result = items[0]
    for item in items[1:]:
        result = maximum(result, item)
    return result


def _slice_infer(call: Inference) -> TensorType:
    type = call[0].type
    if not axes_are_known(call):
        return type.with_shape(*(call.unknown(axis) for axis in range(type.rank)))
    shape = list(type.shape)
    cuts = cuts_of(call)
    for axis in sliced_axes(call):
        shape[axis] = cuts[axis].extent if cuts is not None else call.unknown(axis)
    return type.with_shape(*shape)


def _slice_evaluate(call: Evaluation) -> Array:
    x, starts, ends = call[0], call[1], call[2]
    axes, steps = call.get("axes"), call.get("steps")
    index = [slice(None)] * x.ndim
    for at in range(len(starts)):
        axis = int(axes[at]) % x.ndim if axes is not None else at
        step = int(steps[at]) if steps is not None else 1
        extent = x.shape[axis]
        top = extent if step > 0 else extent - 1
        start, end = (int(b) + extent if b < 0 else int(b) for b in (starts[at], ends[at]))
        start = min(max(start, 0), top)
        end = min(max(end, 0 if step > 0 else -1), top)
        index[axis] = (
            slice(start, end, step) if end >= 0 else slice(start if start >= 0 else 0, None, step)
        )
        if start < 0:
            index[axis] = slice(0, 0)
    return x[tuple(index)]


define(
    "slice(x, starts!, ends!, axes?!, steps?!)",
    "From `starts` to before `ends` in `steps` along `axes`; negative bounds count from the end "
    "and all are clamped.",
    infer=_slice_infer,
    evaluate=_slice_evaluate,
    content=moved(_slice_evaluate, "x"),
    traits=[Trait.INJECTIVE],
    onnx="Slice",
    since=13,
)
