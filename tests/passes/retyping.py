"""The same graph with other extents and other element types."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from leptonc.ir.blob import Array, Blob
from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim
from leptonc.ir.graph import Attribute, Graph, Op, Value
from leptonc.ir.table import CONST
from leptonc.ir.types import DType, TensorType
from tests.passes.specimens import REJECTED


def retyped(graph: Graph, dims: Mapping[Dim, Dim], dtypes: Mapping[DType, DType]) -> Graph | None:
    """`graph` with other extents and element types in all inputs and constants.

    The types of operations follow; None where they do not go together, or regions are in the way.
    """
    inputs = [Value(_other(value.type, dims, dtypes), value.name) for value in graph.inputs]
    made = Graph(graph.name, inputs, graph.output_names)
    build = Builder(made)
    values = dict(zip(graph.inputs, inputs, strict=True))
    try:
        for op in graph:
            _rebuild(op, build, values, dims, dtypes)
    except (*REJECTED, AssertionError):
        return None
    return made


def _rebuild(
    op: Op,
    build: Builder,
    values: dict[Value, Value],
    dims: Mapping[Dim, Dim],
    dtypes: Mapping[DType, DType],
) -> None:
    if op.regions:
        raise LookupError("operations with regions are left alone")
    operands = [values[value] for value in op.operands]
    if op.definition is CONST:
        attrs: Mapping[str, Attribute] = {"value": _other_constant(op, dims, dtypes)}
    else:
        attrs = {
            name: dtypes.get(value, value) if isinstance(value, DType) else value
            for name, value in op.attrs.items()
        }
    copy = build.op(op.definition, operands, attrs, names=op.operand_names)
    for old, new in zip(op.results, copy.results, strict=True):
        new.name = old.name
        values[old] = new


def _other(type: TensorType, dims: Mapping[Dim, Dim], dtypes: Mapping[DType, DType]) -> TensorType:
    return TensorType(
        dtypes.get(type.dtype, type.dtype), tuple(dims.get(dim, dim) for dim in type.shape)
    )


def _other_constant(op: Op, dims: Mapping[Dim, Dim], dtypes: Mapping[DType, DType]) -> Blob:
    blob = op.result.blob
    assert blob is not None
    data = blob.array
    if _is_shape(op.result):
        numbers = [dims.get(int(item), int(item)) for item in data.reshape(-1)]
        return Blob.of(np.array(numbers, data.dtype).reshape(data.shape))
    type = _other(blob.type, dims, dtypes)
    return blob if type == blob.type else Blob.of(_stretched(data, type))


def _is_shape(value: Value) -> bool:
    return any(
        operand.shape_like and use.op.operand_names[use.slot] == operand.name
        for use in value.uses
        for operand in use.op.definition.operands
    )


def _stretched(data: Array, type: TensorType) -> Array:
    """`data` repeated, or cut, along each axis; zeros where there is none."""
    shape = type.extents
    if data.size == 0:
        return np.zeros(shape, type.dtype.numpy)
    for axis, extent in enumerate(shape):
        places = np.arange(extent) % data.shape[axis]
        data = np.take(data, places, axis)
    with np.errstate(all="ignore"):
        return np.ascontiguousarray(data).reshape(shape).astype(type.dtype.numpy)
