"""Rows that write elements at computed places."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import bounds
from leptonc.ir.ops.broadcasting import check_same_dtype, normalized_axis, shown_shape
from leptonc.ir.ops.gather import check_indices, nd_depth
from leptonc.ir.ops.shape import differ
from leptonc.ir.table import Attr, Evaluation, Inference, define
from leptonc.ir.types import DType, TensorType

REDUCTIONS = ("none", "add", "mul", "max", "min")


def _check_reduction(call: Inference) -> None:
    reduction, dtype = call.str("reduction"), call[0].type.dtype
    if reduction not in REDUCTIONS:
        raise LeptonError(
            f"{call.definition.name}: reduction is {reduction!r}, should be one of "
            f"{', '.join(REDUCTIONS)}",
            code="E108",
        )
    if reduction != "none" and dtype is DType.STR:
        raise LeptonError(
            f"{call.definition.name}: {reduction} of {dtype} is not defined", code="E102"
        )


def _write(target: Array, places: tuple[Array, ...], updates: Array, reduction: str) -> None:
    """Combine `updates` into `target`, one after the other where places coincide."""
    functions: dict[str, Callable[..., None]] = {
        "add": np.add.at, "mul": np.multiply.at, "max": np.maximum.at, "min": np.minimum.at,
    }  # fmt: skip
    if reduction != "none":
        functions[reduction](target, places, updates)
        return
    flat = np.ravel_multi_index(places, target.shape[: len(places)]).reshape(-1)
    rows = updates.reshape(flat.size, *target.shape[len(places) :])
    _, last = np.unique(flat[::-1], return_index=True)  # where places coincide the last one stays
    kept = flat.size - 1 - last
    target.reshape(-1, *target.shape[len(places) :])[flat[kept]] = rows[kept]


def _elements_infer(call: Inference) -> TensorType:
    data, indices, updates = (value.type for value in call.items)
    axis = normalized_axis(call, call.int("axis"), data.rank)
    check_same_dtype(call, "x", "updates")
    _check_reduction(call)
    check_indices(call, "indices", data.shape[axis])
    same = indices.rank == updates.rank == data.rank and not any(
        map(differ, indices.shape, updates.shape)
    )
    if not same:
        raise LeptonError(
            f"scatter_elements: {data}, indices {indices} and updates {updates} should be of one "
            "rank, "
            "the last two of one shape",
            code="E103",
        )
    for other, (dim, limit) in enumerate(zip(indices.shape, data.shape, strict=True)):
        if other != axis and bounds(dim - limit)[0] > 0:
            raise LeptonError(
                f"scatter_elements: axis {other} of the indices is {dim}, should be at most "
                f"{limit}",
                code="E103",
            )
    return data


def _elements_evaluate(call: Evaluation) -> Array:
    data, indices, updates = call.items
    axis = call.int("axis") % data.ndim
    result = data.copy()
    if indices.size == 0:
        return result
    places: list[Array] = list(np.ogrid[tuple(slice(n) for n in indices.shape)])
    places[axis] = np.where(indices < 0, indices + data.shape[axis], indices)
    _write(result, tuple(np.broadcast_arrays(*places)), updates, call.str("reduction"))
    return result


define(
    "scatter_elements(x, indices, updates)",
    "The operand with each update put at its own place, but at the index along `axis`; "
    "`reduction` combines.",
    infer=_elements_infer,
    evaluate=_elements_evaluate,
    attrs={"axis": Attr("int", 0), "reduction": Attr("str", "none")},
    onnx="ScatterElements",
    since=18,
)


def _nd_infer(call: Inference) -> TensorType:
    data, indices, updates = (value.type for value in call.items)
    check_same_dtype(call, "x", "updates")
    _check_reduction(call)
    depth = nd_depth(call, data, indices, 0)
    wanted = (*indices.shape[:-1], *data.shape[depth:])
    if len(wanted) != updates.rank or any(map(differ, wanted, updates.shape)):
        raise LeptonError(
            f"scatter_nd: updates are {updates}, should have the shape {shown_shape(wanted)}",
            code="E103",
        )
    return data


def _nd_evaluate(call: Evaluation) -> Array:
    data, indices, updates = call.items
    result = data.copy()
    depth = indices.shape[-1]
    if indices.size == 0 and depth:
        return result
    if depth == 0:
        flat = result.reshape(1, *data.shape)
        places: tuple[Array, ...] = (np.zeros(indices.shape[:-1], np.int64),)
        _write(flat, places, updates, call.str("reduction"))
        return flat.reshape(data.shape)
    extents = np.array(data.shape[:depth])
    wrapped = np.where(indices < 0, indices + extents, indices)
    _write(result, tuple(np.moveaxis(wrapped, -1, 0)), updates, call.str("reduction"))
    return result


define(
    "scatter_nd(x, indices, updates)",
    "The operand with slices put at index tuples; `reduction` combines them with what is there.",
    infer=_nd_infer, evaluate=_nd_evaluate,
    attrs={"reduction": Attr("str", "none")}, onnx="ScatterND", since=18,
)  # fmt: skip


def _cache_infer(call: Inference) -> TensorType:
    cache, update = call[0].type, call[1].type
    axis = cache_axis(call)
    check_same_dtype(call, "x", "update")
    if call.str("mode") not in ("linear", "circular"):
        raise LeptonError(
            f"tensor_scatter: mode is {call.str('mode')!r}, should be linear or circular",
            code="E108",
        )
    fits = update.rank == cache.rank and bounds(update.shape[axis] - cache.shape[axis])[0] <= 0
    others = [i for i in range(min(update.rank, cache.rank)) if i != axis]
    if not fits or any(differ(update.shape[i], cache.shape[i]) for i in others):
        raise LeptonError(
            f"tensor_scatter: an update {update} does not fit into {cache} along axis {axis}",
            code="E103",
        )
    places = call.type("write_indices")
    if places is not None and (places.rank != 1 or differ(places.shape[0], cache.shape[0])):
        raise LeptonError(
            f"tensor_scatter: write_indices are {places}, should have {cache.shape[0]} elements",
            code="E103",
        )
    return cache


def cache_axis(call: Inference) -> int:
    """The axis along which a `tensor_scatter` writes."""
    axis = normalized_axis(call, call.int("axis"), call[0].type.rank)
    if axis == 0:
        raise LeptonError("tensor_scatter: axis 0 is the batch, should be another", code="E107")
    return axis


def _cache_evaluate(call: Evaluation) -> Array:
    cache, update = call[0].copy(), call[1]
    axis = call.int("axis") % cache.ndim
    extent, length = cache.shape[axis], update.shape[axis]
    starts = call.get("write_indices")
    for batch in range(cache.shape[0]):
        start = int(starts[batch]) if starts is not None else 0
        places = list(range(start, start + length))
        if call.str("mode") == "circular":
            places = [place % max(extent, 1) for place in places]
        rows, news = (np.moveaxis(array[batch], axis - 1, 0) for array in (cache, update))
        rows[places] = news
    return cache


define(
    "tensor_scatter(x, update, write_indices?)",
    "A cache with the update written along `axis` from each batch element's index on, round and "
    "round if circular.",
    infer=_cache_infer,
    evaluate=_cache_evaluate,
    attrs={"axis": Attr("int", -2), "mode": Attr("str", "linear")},
    onnx="TensorScatter",
    since=24,
)
