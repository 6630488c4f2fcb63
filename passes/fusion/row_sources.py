"""Which parts of its operands an operation needs for a part of its result along one axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from leptonc.ir.dims import Dim, product
from leptonc.ir.graph import Op
from leptonc.ir.table import Trait
from leptonc.passes.cleanup.movement_rules import permutation
from leptonc.passes.cleanup.slice_rules import axis_of, known_cuts
from leptonc.passes.constants import integers

VIEWS = ("flatten", "reshape", "squeeze", "unsqueeze")


@dataclass(frozen=True)
class Part:
    """`count` neighbours along `axis`, the first at `start`."""

    axis: int
    start: int
    count: int


def picked_part(op: Op) -> Part | None:
    """The part of its first operand that a slice or a gather takes; None if it is not one."""
    shape = op.operands[0].type.shape if op.operands else ()
    if op.name == "gather":
        places, axis = integers(op.operands[1]), axis_of(op)
        if places is None or len(places) != 1:
            return None
        extent, start = shape[axis], places[0]
        if isinstance(extent, int):
            return Part(axis, start % extent, 1) if -extent <= start < extent else None
        return Part(axis, start, 1) if start >= 0 else None
    if op.name != "slice":
        return None
    cuts = known_cuts(op)
    if cuts is None or len(cuts) != 1:
        return None
    ((axis, cut),) = cuts.items()
    known = isinstance(shape[axis], int) and isinstance(cut.start, int)
    if not known or not isinstance(cut.extent, int) or cut.step != 1 or cut.extent == 0:
        return None
    assert isinstance(cut.start, int)
    return Part(axis, cut.start, cut.extent)


def sources(op: Op, axis: int) -> Mapping[int, int] | None:
    """The axis of each operand of which only a part is needed, where that is so for the result.

    Operands that are not named are needed whole. None where a part of the result along `axis` needs
    more than the same part of the operands.
    """
    if any(result.is_used for result in op.results[1:]) or op.regions:
        return None
    if op.definition.has(Trait.EFFECT):
        return None
    if op.definition.has(Trait.ELEMENTWISE):
        return _elementwise(op, axis) if len(op.results) == 1 else None
    rank = op.results[0].type.rank
    match op.name:
        case "transpose":
            return {0: permutation(op)[axis]}
        case "softmax" | "log_softmax":
            return {0: axis} if axis != axis_of(op) else None
        case "layer_normalization" | "rms_normalization":
            first = axis_of(op)
            inside = all(value.type.rank <= rank - first for value in op.operands[1:])
            return {0: axis} if axis < first and inside else None
        case "linear" | "linear_bytes":
            return {0: axis} if axis < rank - 1 else None
        case "matmul":
            return _matmul(op, axis)
        case "attention":
            return _attention(op, axis)
        case name if name in VIEWS:
            return _view(op, axis)
        case _:
            return None


def _elementwise(op: Op, axis: int) -> Mapping[int, int] | None:
    if "axis" in op.attrs or op.name == "bit_cast":
        return None
    return _broadcast(op, axis, op.results[0].type.shape)


def _broadcast(op: Op, axis: int, shape: tuple[Dim, ...]) -> dict[int, int] | None:
    """The operands that have the axis; what has one element for all is needed whole."""
    found: dict[int, int] = {}
    for slot, value in enumerate(op.operands):
        at = axis - (len(shape) - value.type.rank)
        if at < 0 or value.type.shape[at] == 1:
            continue
        if value.type.shape[at] != shape[axis]:
            return None
        found[slot] = at
    return found or None


def _matmul(op: Op, axis: int) -> Mapping[int, int] | None:
    rank = op.result.type.rank
    if any(value.type.rank < 2 for value in op.operands) or axis == rank - 1:
        return None
    if axis == rank - 2:
        return {0: op.operands[0].type.rank - 2}
    return _broadcast(op, axis, op.result.type.shape)


def _attention(op: Op, axis: int) -> Mapping[int, int] | None:
    """Queries do not know of each other, unless what they see depends on their places."""
    if axis != op.result.type.rank - 2 or op.int("is_causal"):
        return None
    found, mask = {0: axis}, op.operand("mask")
    if mask is None or mask.type.rank < 2 or mask.type.shape[-2] == 1:
        return found
    if mask.type.shape[-2] != op.result.type.shape[axis]:
        return None
    return {**found, op.operands.index(mask): mask.type.rank - 2}


def _view(op: Op, axis: int) -> Mapping[int, int] | None:
    """The axis of the operand that has the same extent, and as many elements before it."""
    source, shape = op.operands[0].type.shape, op.result.type.shape
    if 0 in source:
        return None
    before = product(shape[:axis])
    for at, extent in enumerate(source):
        if extent == shape[axis] and product(source[:at]) == before:
            return {0: at}
    return None
