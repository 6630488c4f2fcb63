"""Rows that make tensors from sizes and numbers."""

from __future__ import annotations

import math

import numpy as np

from leptonc.ir.blob import Array, Blob
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim, ceildiv, floordiv, maximum
from leptonc.ir.graph import Content
from leptonc.ir.ops.broadcasting import NUMBERS, check_dtype, check_same_dtype
from leptonc.ir.ops.contents import content_of
from leptonc.ir.ops.movement import wanted_extents
from leptonc.ir.table import Attr, Evaluation, Inference, Trait, define
from leptonc.ir.types import DType, TensorType


def filled_with(call: Inference | Evaluation) -> Blob:
    """The one element that `constant_of_shape` repeats."""
    value = call.attrs["value"]
    if value is None:
        return Blob.splat(0.0, TensorType(DType.F32, (1,)))
    assert isinstance(value, Blob)
    if value.size != 1:
        raise LeptonError(
            f"constant_of_shape: value has {value.size} elements, should have 1", code="E108"
        )
    return value


def _constant_infer(call: Inference) -> TensorType:
    return TensorType(filled_with(call).type.dtype, tuple(wanted_extents(call, "shape")))


def _constant_evaluate(call: Evaluation) -> Array:
    value = filled_with(call).array.reshape(())
    return np.full(tuple(int(extent) for extent in call[0]), value, value.dtype)


def _constant_content(call: Inference) -> Content | None:
    extents = [dim for dim in wanted_extents(call, "shape") if isinstance(dim, int)]
    return np.full(extents, int(filled_with(call).array.reshape(())), dtype=object)


define(
    "constant_of_shape(shape!)", "One number everywhere: the one of `value`, 0.0 by default.",
    infer=_constant_infer, evaluate=_constant_evaluate, content=_constant_content,
    attrs={"value": Attr("blob")}, traits=[Trait.INJECTIVE], onnx="ConstantOfShape", since=25,
)  # fmt: skip


def range_extent(call: Inference) -> Dim:
    """How many numbers a `range` has."""
    dtype = check_same_dtype(call, "start", "limit", "delta")
    check_dtype(call, "start", NUMBERS)
    if dtype.is_float:
        constants = [call.constant(name) for name in ("start", "limit", "delta")]
        known = [float(array.reshape(())) for array in constants if array is not None]
        if len(known) < 3:
            return call.unknown()
        if known[2] == 0:
            raise LeptonError("range: delta is 0", code="E108")
        return max(math.ceil((known[1] - known[0]) / known[2]), 0)
    contents = [content_of(value) for value in call.items]
    if any(content is None for content in contents):
        return call.unknown()
    start, limit, delta = (
        content.reshape(()).item() for content in contents if content is not None
    )
    if delta == 0:
        raise LeptonError("range: delta is 0", code="E108")
    if not isinstance(delta, int):
        return call.unknown()
    if delta < 0:
        start, limit, delta = limit, start, -delta
    return maximum(
        ceildiv(limit - start, delta)
        if delta == 1
        else floordiv(limit - start + (delta - 1), delta),
        0,
    )


def _range_infer(call: Inference) -> TensorType:
    for value in call.items:
        if value.type.rank > 1 or any(dim != 1 for dim in value.type.shape):
            raise LeptonError(
                f"range: an operand is {value.type}, should be one number", code="E103"
            )
    return TensorType(call[0].type.dtype, (range_extent(call),))


def _range_evaluate(call: Evaluation) -> Array:
    start, limit, delta = (array.reshape(()) for array in call.items)
    dtype = start.dtype
    if dtype.kind in "iu":
        return np.arange(int(start), int(limit), int(delta)).astype(dtype)
    count = max(math.ceil((float(limit) - float(start)) / float(delta)), 0)
    wide = (
        np.float64 if call.attrs["stash_type"] is DType.F64 or dtype == np.float64 else np.float32
    )
    return (start.astype(wide) + np.arange(count).astype(wide) * delta.astype(wide)).astype(dtype)


def _range_content(call: Inference) -> Content | None:
    start, delta, extent = content_of(call[0]), content_of(call[2]), range_extent(call)
    if start is None or delta is None or not isinstance(extent, int):
        return None
    result = np.empty(extent, dtype=object)
    result[:] = [start.reshape(()).item() + delta.reshape(()).item() * at for at in range(extent)]
    return result


define(
    "range(start!, limit!, delta!)",
    "From `start` to before `limit` in steps of `delta`.",
    infer=_range_infer,
    evaluate=_range_evaluate,
    content=_range_content,
    attrs={"stash_type": Attr("dtype", DType.F32)},
    traits=[Trait.INJECTIVE],
    onnx="Range",
    since=27,
)


def _eye_infer(call: Inference) -> TensorType:
    type, dtype = call[0].type, call.attrs["dtype"]
    if type.rank != 2:
        raise LeptonError(f"eye_like of {type}, should have 2 dimensions", code="E103")
    return type.with_dtype(dtype) if isinstance(dtype, DType) else type


def _eye_evaluate(call: Evaluation) -> Array:
    dtype = call.attrs["dtype"]
    made = dtype.numpy if isinstance(dtype, DType) else call[0].dtype
    rows, columns = call[0].shape
    return np.eye(rows, columns, call.int("k"), np.int8).astype(made)


define(
    "eye_like(x)", "Ones on diagonal `k` of a matrix like the operand, zeros elsewhere.",
    infer=_eye_infer, evaluate=_eye_evaluate, attrs={"dtype": Attr("dtype"), "k": Attr("int", 0)},
    traits=[Trait.INJECTIVE, Trait.SHAPE_ONLY], onnx="EyeLike", since=22,
)  # fmt: skip


def one_hot_axis(call: Inference) -> int:
    """The axis of a `one_hot`'s result along which classes stand."""
    axis, rank = call.int("axis"), call[0].type.rank + 1
    if not -rank <= axis < rank:
        raise LeptonError(f"one_hot: axis {axis} does not exist in {rank} dimensions", code="E107")
    return axis % rank


def _one_hot_infer(call: Inference) -> TensorType:
    indices, depth, values = call[0].type, call[1], call[2].type
    axis = one_hot_axis(call)
    if values.rank != 1 or values.shape[0] != 2:
        raise LeptonError(f"one_hot: values is {values}, should have 2 elements", code="E103")
    check_dtype(call, "indices", NUMBERS)
    content, constant = content_of(depth), call.constant("depth")
    extent: Dim = call.unknown()
    if content is not None:
        extent = content.reshape(()).item()
    elif constant is not None:
        extent = int(constant.reshape(()))
    return TensorType(values.dtype, (*indices.shape[:axis], extent, *indices.shape[axis:]))


def _one_hot_evaluate(call: Evaluation) -> Array:
    depth, axis = int(call[1].reshape(())), call.int("axis") % (call[0].ndim + 1)
    index = np.expand_dims(call[0].astype(np.int64), axis)
    classes = np.array(range(depth)).reshape([-1] + [1] * (call[0].ndim - axis))
    hot: Array = np.where(index < 0, index + depth, index) == classes
    return np.take(call[2], hot.astype(np.int64))


define(
    "one_hot(indices, depth!, values)",
    "The second of `values` where `axis` is at the index, the first elsewhere.",
    infer=_one_hot_infer,
    evaluate=_one_hot_evaluate,
    attrs={"axis": Attr("int", -1)},
    traits=[Trait.INJECTIVE],
    onnx="OneHot",
    since=28,
)
