"""Rows that pick by value with the number of hits told beforehand, or beside the hits.

A result whose extent depends on data is made in two steps: its extent is computed, and bound by
`extents`; then it is stored in memory of just that size.
"""

from __future__ import annotations

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim, minimum, product
from leptonc.ir.ops.broadcasting import normalized_axis
from leptonc.ir.ops.contents import content_of
from leptonc.ir.ops.regions import chosen_boxes, infer_chosen
from leptonc.ir.ops.select import places_of_non_zero, unique_parts
from leptonc.ir.table import Attr, Evaluation, Inference, Trait, define
from leptonc.ir.types import DType, TensorType

COUNT = TensorType(DType.I64, (1,))


def _told(call: Inference) -> Dim:
    """The number that `count` holds."""
    if call[1].type.shape != (1,) or not call[1].type.dtype.is_integer:
        raise LeptonError(
            f"{call.definition.name}: count is {call[1].type}, should be one integer", code="E103"
        )
    content = content_of(call[1])
    return call.unknown() if content is None else content.reshape(-1)[0]


define(
    "non_zero_places(x, count!)",
    "The indices of the elements that are not 0, of which there are `count`.",
    infer=lambda call: TensorType(DType.I64, (call[0].type.rank, _told(call))),
    evaluate=lambda call: places_of_non_zero(call[0]),
)


def _leading_infer(call: Inference) -> TensorType:
    if not call[0].type.rank:
        raise LeptonError("leading: a scalar has no slices", code="E103")
    return call[0].type.with_shape(_told(call), *call[0].type.shape[1:])


define(
    "leading(x, count!)",
    "The first `count` slices along the first axis, which are there.",
    infer=_leading_infer,
    evaluate=lambda call: call[0][: int(call[1][0])],
    traits=[Trait.INJECTIVE],
)


def _unique_infer(call: Inference) -> list[TensorType]:
    type, axis = call[0].type, call.attrs["axis"]
    at = normalized_axis(call, axis, type.rank) if isinstance(axis, int) else None
    each = TensorType(DType.I64, (product(type.shape) if at is None else type.shape[at],))
    return [each, each, each, COUNT]


def _unique_evaluate(call: Evaluation) -> list[Array]:
    axis = call.attrs["axis"]
    first, inverse, counts = unique_parts(
        call[0], axis if isinstance(axis, int) else None, ordered=bool(call.int("sorted"))
    )
    return [_padded(first, inverse.size), inverse, _padded(counts, inverse.size), _count(first)]


def _padded(array: Array, size: int) -> Array:
    """`array` with zeros behind it."""
    padded = np.zeros(size, array.dtype)
    padded[: array.size] = array
    return padded


def _count(array: Array) -> Array:
    return np.array([array.size], np.int64)


define(
    "unique_places(x)",
    "Where each value (or slice along `axis`) stood first, which one each was, how often it was "
    "there, and how many there are; behind that many the first and the third hold anything.",
    infer=_unique_infer,
    evaluate=_unique_evaluate,
    attrs={"axis": Attr("int"), "sorted": Attr("int", 1)},
)


def boxes_per_class(call: Inference) -> Dim:
    """The boxes of one class that there is room for."""
    room = call.ints("room")
    boxes = call[1].type.shape[2]
    return boxes if room is None else minimum(boxes, room[0])


def _boxes_infer(call: Inference) -> list[TensorType]:
    infer_chosen(call)
    rows = call[1].type.shape[0] * call[1].type.shape[1]
    return [TensorType(DType.I64, (rows * boxes_per_class(call),)), COUNT]


def _boxes_evaluate(call: Evaluation) -> list[Array]:
    chosen, (rows, classes, boxes) = chosen_boxes(call), call[1].shape
    flat = (chosen[:, 0] * classes + chosen[:, 1]) * boxes + chosen[:, 2]
    room = call.ints("room")
    size = rows * classes * (boxes if room is None else min(boxes, room[0]))
    return [_padded(flat, size), _count(flat)]


define(
    "non_max_suppression_places(boxes, scores, max_output_boxes_per_class?, iou_threshold?, "
    "score_threshold?)",
    "Which of the scores, counted in row-major order, are those of boxes that do not overlap with "
    "better ones, and how many they are; behind that many the first holds anything. No class has "
    "more than `room`.",
    infer=_boxes_infer,
    evaluate=_boxes_evaluate,
    attrs={"center_point_box": Attr("int", 0), "room": Attr("ints")},
)
