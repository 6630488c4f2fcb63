# pyright: standard
"""Lowering of operations whose places are data: parts and borders known at run time only."""

from __future__ import annotations

from typing import Any

from tvm import te, tirx

from leptonc.backends.tvm.lower.indexing import compute, if_any, inside, zero
from leptonc.backends.tvm.lower.movement import folded
from leptonc.backends.tvm.lowering import LowerCall, Reason, Rule


def _number(call: LowerCall, name: str, axis: int) -> Any:
    """One element of a row, known or data, as an index."""
    content = call.known.content(name)
    if content is not None:
        return call.dim(content[axis])
    row = call.get(name)
    assert row is not None
    return row(call.index(axis)).astype(call.dims.index_dtype)


def _slice_from(call: LowerCall) -> te.Tensor:
    source = call.known[0].type.shape

    def element(*index: Any) -> Any:
        # what is read is inside of the operand by the arithmetic that made starts and shape;
        # limited all the same, since they are data
        at = [
            inside(
                call,
                _number(call, "starts", axis) + place * _number(call, "steps", axis),
                source[axis],
            )
            for axis, place in enumerate(index)
        ]
        value = call[0](*at)
        for extent in source:
            value = if_any(call, extent, value)
        return value

    return compute(call, element)


def _pad_to(call: LowerCall) -> te.Tensor:
    source, mode = call.known[0].type.shape, call.known.str("mode")
    fill, value = zero(call.dtype()), call.get("constant_value")
    if value is not None:
        fill = value(*[call.index(0)] * call.known.all("constant_value")[0].type.rank)

    def element(*index: Any) -> Any:
        at = [place - _number(call, "before", axis) for axis, place in enumerate(index)]
        if mode == "constant":
            within = [
                condition
                for place, extent in zip(at, source, strict=True)
                for condition in (place >= 0, place < call.dim(extent))
            ]
            read = call[0](*at)
            return tirx.if_then_else(tirx.all(*within), read, fill) if within else read
        found = call[0](
            *(
                folded(call, mode, place, call.dim(extent))
                for place, extent in zip(at, source, strict=True)
            )
        )
        for extent in source:
            found = if_any(call, extent, found)
        return found

    return compute(call, element)


RULES: dict[str, Rule] = {"slice_from": _slice_from, "pad_to": _pad_to}
REASONS: dict[str, Reason] = {}
