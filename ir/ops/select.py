"""Rows that pick elements by their values."""

from __future__ import annotations

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim, bounds, product
from leptonc.ir.ops.broadcasting import NUMBERS, check_dtype, normalized_axis
from leptonc.ir.ops.contents import content_of
from leptonc.ir.table import Attr, Evaluation, Inference, define
from leptonc.ir.types import DType, TensorType


def _top_infer(call: Inference) -> list[TensorType]:
    type = call[0].type
    check_dtype(call, "x", NUMBERS)
    axis = normalized_axis(call, call.int("axis"), type.rank)
    content = content_of(call[1])
    if call[1].type.shape != (1,):
        raise LeptonError(f"top_k: k is {call[1].type}, should have one element", code="E103")
    count: Dim = call.unknown() if content is None else content.reshape(-1)[0]
    if bounds(count)[1] < 0 or bounds(count - type.shape[axis])[0] > 0:
        raise LeptonError(
            f"top_k: k is {count}, should be at most {type.shape[axis]}, the extent of axis {axis}",
            code="E103",
        )
    shape = (*type.shape[:axis], count, *type.shape[axis + 1 :])
    return [type.with_shape(*shape), TensorType(DType.I64, shape)]


def ranking(x: Array, axis: int, *, largest: bool) -> Array:
    """The order of elements along an axis; equal ones in order of place, NaN above all numbers."""
    order = np.argsort(x if not largest else np.flip(x, axis), axis=axis, kind="stable")
    if largest:  # stable from the back, then reversed: the first of equal elements comes first
        order = np.flip(x.shape[axis] - 1 - order, axis)
    return order


def _top_evaluate(call: Evaluation) -> list[Array]:
    x, axis, count = call[0], call.int("axis"), int(call[1].reshape(-1)[0])
    order = ranking(x, axis, largest=bool(call.int("largest")))
    best = np.take(order, range(count), axis)
    return [np.take_along_axis(x, best, axis), best.astype(np.int64)]


define(
    "top_k(x, k!)",
    "The `k` largest (or smallest) elements along `axis` with their indices, the best first.",
    infer=_top_infer,
    evaluate=_top_evaluate,
    attrs={"axis": Attr("int", -1), "largest": Attr("int", 1), "sorted": Attr("int", 1)},
    onnx="TopK",
    since=24,
)

define(
    "non_zero(x)", "The indices of elements that are not 0, one column each, in row-major order.",
    infer=lambda call: TensorType(DType.I64, (call[0].type.rank, call.unknown())),
    evaluate=lambda call: places_of_non_zero(call[0]), onnx="NonZero", since=13,
)  # fmt: skip


def places_of_non_zero(x: Array) -> Array:
    """The indices of the elements of `x` that are not 0, one column each."""
    if x.ndim == 0:
        return np.zeros((0, int(bool(x != 0))), np.int64)
    return np.stack(np.nonzero(x)).astype(np.int64)


def _compress_infer(call: Inference) -> TensorType:
    type, axis, condition = call[0].type, call.attrs["axis"], call[1].type
    check_dtype(call, "condition", [DType.BOOL])
    if condition.rank != 1:
        raise LeptonError(f"compress: condition is {condition}, should be of rank 1", code="E103")
    at = normalized_axis(call, axis, type.rank) if isinstance(axis, int) else None
    extent = product(type.shape) if at is None else type.shape[at]
    if bounds(condition.shape[0] - extent)[0] > 0:
        raise LeptonError(
            f"compress: condition has {condition.shape[0]} elements, should have at most {extent}",
            code="E103",
        )
    content = content_of(call[1])
    count: Dim = call.unknown()
    if content is not None:
        count = sum(int(item) for item in content)
    return (
        type.with_shape(count)
        if at is None
        else type.with_shape(*type.shape[:at], count, *type.shape[at + 1 :])
    )


def _compress_evaluate(call: Evaluation) -> Array:
    axis = call.attrs["axis"]
    return np.compress(call[1], call[0], axis if isinstance(axis, int) else None)


define(
    "compress(x, condition)",
    "The slices along `axis`, or the elements, where the condition is true.",
    infer=_compress_infer,
    evaluate=_compress_evaluate,
    attrs={"axis": Attr("int")},
    onnx="Compress",
    since=28,
)


def _unique_infer(call: Inference) -> list[TensorType]:
    type, axis = call[0].type, call.attrs["axis"]
    at = normalized_axis(call, axis, type.rank) if isinstance(axis, int) else None
    found = call.unknown()
    shape = (found,) if at is None else (*type.shape[:at], found, *type.shape[at + 1 :])
    inverse = product(type.shape) if at is None else type.shape[at]
    return [
        type.with_shape(*shape),
        *(TensorType(DType.I64, (dim,)) for dim in (found, inverse, found)),
    ]


def _unique_evaluate(call: Evaluation) -> list[Array]:
    given = call.attrs["axis"]
    axis = given if isinstance(given, int) else None
    first, *others = unique_parts(call[0], axis, ordered=bool(call.int("sorted")))
    values = call[0].reshape(-1) if axis is None else call[0]
    return [np.take(values, first, axis or 0), first, *others]


def unique_parts(x: Array, axis: int | None, *, ordered: bool) -> tuple[Array, Array, Array]:
    """Where each value stood first, which one each was, how often each was there.

    In ascending order, or in that of the first places. Not-a-number is one value, above all others.
    """
    # slices compare like those of the elements' ranks, among which there is no NaN
    ranks = x if axis is None else np.unique(x, return_inverse=True)[1].reshape(x.shape)
    _, first, inverse, counts = np.unique(ranks, True, True, True, axis=axis)
    inverse = inverse.reshape(-1)
    if not ordered:
        order = np.argsort(first)
        place = np.empty_like(order)
        place[order] = np.arange(order.size)
        first, inverse, counts = first[order], place[inverse], counts[order]
    return first.astype(np.int64), inverse.astype(np.int64), counts.astype(np.int64)


define(
    "unique(x)",
    "Each value (or slice along `axis`) once; where it stood first, which one each was, and how "
    "often.",
    infer=_unique_infer,
    evaluate=_unique_evaluate,
    attrs={"axis": Attr("int"), "sorted": Attr("int", 1)},
    onnx="Unique",
    since=28,
)
