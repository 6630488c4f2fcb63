"""Rows that read elements at computed places."""

from __future__ import annotations

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim, bounds
from leptonc.ir.graph import Content
from leptonc.ir.ops.broadcasting import check_dtype, normalized_axis
from leptonc.ir.ops.contents import content_of
from leptonc.ir.ops.shape import differ
from leptonc.ir.table import Attr, Evaluation, Inference, Trait, define
from leptonc.ir.types import DType, TensorType

INDICES = (DType.I32, DType.I64)


def check_indices(call: Inference, name: str, extent: Dim, data: Array | None = None) -> None:
    """Raise E110 where a constant index is outside `extent`; negative ones count from the end."""
    check_dtype(call, name, INDICES)
    known = call.constant(name) if data is None else data
    if known is None or not isinstance(extent, int) or known.size == 0:
        return
    low, high = int(known.min()), int(known.max())
    if low < -extent or high >= extent:
        wrong = low if low < -extent else high
        raise LeptonError(
            f"{call.definition.name}: index {wrong} is outside an extent of {extent}",
            notes=[f"it may be {-extent} to {extent - 1}"] if extent else ["the operand is empty"],
            code="E110",
        )


def _gather_infer(call: Inference) -> TensorType:
    data, indices = call[0].type, call[1].type
    axis = normalized_axis(call, call.int("axis"), data.rank)
    check_indices(call, "indices", data.shape[axis])
    return data.with_shape(*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :])


def _gather_evaluate(call: Evaluation) -> Array:
    return np.take(call[0], call[1], call.int("axis"))


def _gather_content(call: Inference) -> Content | None:
    data, indices = content_of(call[0]), content_of(call[1])
    if data is None or indices is None:
        return None
    if not all(isinstance(index, int) for index in indices.reshape(-1)):
        return None
    extent = data.shape[call.int("axis")]
    wrong = [index for index in indices.reshape(-1) if not -extent <= index < extent]
    if wrong:
        raise LeptonError(
            f"gather: index {wrong[0]} does not exist in {extent} elements", code="E110"
        )
    return np.asarray(np.take(data, indices.astype(np.int64), call.int("axis")), dtype=object)


define(
    "gather(x, indices)", "Slices of the operand at `indices` along `axis`.",
    infer=_gather_infer, evaluate=_gather_evaluate, content=_gather_content,
    attrs={"axis": Attr("int", 0)}, traits=[Trait.INJECTIVE], onnx="Gather", since=13,
)  # fmt: skip


def _gather_elements_infer(call: Inference) -> TensorType:
    data, indices = call[0].type, call[1].type
    axis = normalized_axis(call, call.int("axis"), data.rank)
    check_indices(call, "indices", data.shape[axis])
    if indices.rank != data.rank:
        raise LeptonError(
            f"gather_elements: indices are {indices}, should be of rank {data.rank}", code="E103"
        )
    for other, (dim, limit) in enumerate(zip(indices.shape, data.shape, strict=True)):
        if other != axis and bounds(dim - limit)[0] > 0:
            raise LeptonError(
                f"gather_elements: axis {other} of the indices is {dim}, should be at most {limit}",
                code="E103",
            )
    return data.with_shape(*indices.shape)


def _gather_elements_evaluate(call: Evaluation) -> Array:
    data, indices = call[0], call[1]
    axis = call.int("axis") % data.ndim
    places: list[Array] = list(np.ogrid[tuple(slice(n) for n in indices.shape)])
    places[axis] = np.where(indices < 0, indices + data.shape[axis], indices)
    return data[tuple(places)]


define(
    "gather_elements(x, indices)",
    "For each index the element at its own place, but at the index along `axis`.",
    infer=_gather_elements_infer,
    evaluate=_gather_elements_evaluate,
    attrs={"axis": Attr("int", 0)},
    traits=[Trait.INJECTIVE],
    onnx="GatherElements",
    since=13,
)


def nd_depth(call: Inference, data: TensorType, indices: TensorType, batch: int) -> int:
    """How many dimensions of `data` an index tuple of a ``*_nd`` row names."""
    depth = indices.shape[-1] if indices.rank else None
    if not isinstance(depth, int):
        raise LeptonError(
            f"{call.definition.name}: indices are {indices}, the last extent should be known",
            code="E109",
        )
    if depth > data.rank - batch:
        raise LeptonError(
            f"{call.definition.name}: index tuples of {depth} elements for {data} with {batch} "
            "batch dimensions",
            notes=[f"they should have at most {data.rank - batch}"],
            code="E103",
        )
    known = call.constant("indices")
    for at in range(depth if known is not None else 0):
        column = None if known is None else known[..., at]
        check_indices(call, "indices", data.shape[batch + at], column)
    return depth


def _gather_nd_infer(call: Inference) -> TensorType:
    data, indices, batch = call[0].type, call[1].type, call.int("batch_dims")
    if not 0 <= batch < max(indices.rank, 1) or batch > data.rank:
        raise LeptonError(
            f"gather_nd: batch_dims is {batch}, should be below {min(indices.rank, data.rank + 1)}",
            code="E108",
        )
    depth = nd_depth(call, data, indices, batch)
    for axis in range(batch):
        if differ(data.shape[axis], indices.shape[axis]):
            raise LeptonError(
                f"gather_nd: batch dimension {axis} is {data.shape[axis]} and "
                f"{indices.shape[axis]}, should be equal",
                code="E103",
            )
    return data.with_shape(*indices.shape[:-1], *data.shape[batch + depth :])


def _gather_nd_evaluate(call: Evaluation) -> Array:
    data, indices, batch = call[0], call[1], call.int("batch_dims")
    lead: list[Array] = list(np.ogrid[tuple(slice(n) for n in indices.shape[:-1])])[:batch]
    return data[(*lead, *np.moveaxis(indices, -1, 0))]


define(
    "gather_nd(x, indices)",
    "Slices of the operand at index tuples, element by element over `batch_dims` dimensions.",
    infer=_gather_nd_infer,
    evaluate=_gather_nd_evaluate,
    attrs={"batch_dims": Attr("int", 0)},
    traits=[Trait.INJECTIVE],
    onnx="GatherND",
    since=13,
)


def _reverse_infer(call: Inference) -> TensorType:
    data, lengths = call[0].type, call[1].type
    batch, time = call.int("batch_axis"), call.int("time_axis")
    if {batch, time} != {0, 1} or data.rank < 2:
        raise LeptonError(
            f"reverse_sequence: batch_axis {batch} and time_axis {time} of {data} should be 0 and "
            "1",
            code="E108",
        )
    if lengths.rank != 1 or differ(lengths.shape[0], data.shape[batch]):
        raise LeptonError(
            f"reverse_sequence: sequence_lens is {lengths}, should have {data.shape[batch]} "
            "elements",
            code="E103",
        )
    return data


def _reverse_evaluate(call: Evaluation) -> Array:
    data, batch = call[0], call.int("batch_axis")
    result = data.copy()
    rows, source = (np.moveaxis(array, batch, 0) for array in (result, data))
    for at, length in enumerate(call[1]):
        rows[at, : int(length)] = source[at, : int(length)][::-1]
    return result


define(
    "reverse_sequence(x, sequence_lens)",
    "The first `sequence_lens` steps of each batch element reversed.",
    infer=_reverse_infer,
    evaluate=_reverse_evaluate,
    attrs={"batch_axis": Attr("int", 1), "time_axis": Attr("int", 0)},
    traits=[Trait.INJECTIVE],
    onnx="ReverseSequence",
    since=28,
)
