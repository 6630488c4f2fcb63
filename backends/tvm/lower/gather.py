# pyright: standard
"""Lowering of operations that read elements at computed places, never outside an operand."""

from __future__ import annotations

from typing import Any

from tvm import te, tirx

from leptonc.backends.tvm.lower.indexing import compute, if_any, inside, wrapped
from leptonc.backends.tvm.lowering import LowerCall, Reason, Rule
from leptonc.ir.dims import Dim
from leptonc.ir.ops.broadcasting import normalized_axis


def _is_trusted(call: LowerCall, extent: Dim) -> bool:
    """True for constant indices, all from 0 on, that were checked against a known extent."""
    known = call.known.constant("indices")
    return known is not None and isinstance(extent, int) and bool((known >= 0).all())


def _gather(call: LowerCall) -> te.Tensor:
    data, rank = call.known[0].type, call.known[1].type.rank
    axis = normalized_axis(call.known, call.known.int("axis"), data.rank)
    extent = data.shape[axis]
    trusted = _is_trusted(call, extent)

    def element(*index: Any) -> Any:
        at = wrapped(call, call[1](*index[axis : axis + rank]), extent, trusted=trusted)
        return if_any(call, extent, call[0](*index[:axis], at, *index[axis + rank :]))

    return compute(call, element)


def _gather_elements(call: LowerCall) -> te.Tensor:
    data = call.known[0].type
    axis = normalized_axis(call.known, call.known.int("axis"), data.rank)
    shape = call.op.results[0].type.shape
    trusted = _is_trusted(call, data.shape[axis])

    def element(*index: Any) -> Any:
        source = [
            at if have == dim else inside(call, at, dim)
            for at, have, dim in zip(index, shape, data.shape, strict=True)
        ]
        source[axis] = wrapped(call, call[1](*index), data.shape[axis], trusted=trusted)
        value = call[0](*source)
        for other, (have, dim) in enumerate(zip(shape, data.shape, strict=True)):
            value = if_any(call, dim, value) if other == axis or have != dim else value
        return value

    return compute(call, element)


def _gather_nd(call: LowerCall) -> te.Tensor:
    data, indices, batch = call.known[0].type, call.known[1].type, call.known.int("batch_dims")
    depth, outer = int(str(indices.shape[-1])), indices.rank - 1

    def element(*index: Any) -> Any:
        source = [
            inside(call, at, dim) if dim != other else at
            for at, dim, other in zip(index[:batch], data.shape, indices.shape, strict=False)
        ]
        for at in range(depth):
            number = call[1](*index[:outer], call.index(at))
            source.append(wrapped(call, number, data.shape[batch + at]))
        value = call[0](*source, *index[outer:])
        for extent in data.shape[: batch + depth]:
            value = if_any(call, extent, value)
        return value

    return compute(call, element)


def _reverse_sequence(call: LowerCall) -> te.Tensor:
    data = call.known[0].type
    batch, time = call.known.int("batch_axis"), call.known.int("time_axis")

    def element(*index: Any) -> Any:
        length = call[1](index[batch]).astype(call.dims.index_dtype)
        source = list(index)
        mirrored = inside(call, length - 1 - index[time], data.shape[time])
        source[time] = tirx.Select(index[time] < length, mirrored, index[time])
        return call[0](*source)

    return compute(call, element)


RULES: dict[str, Rule] = {
    "gather": _gather, "gather_elements": _gather_elements, "gather_nd": _gather_nd,
    "reverse_sequence": _reverse_sequence,
}  # fmt: skip
REASONS: dict[str, Reason] = {}
