"""share-constants: equal constants are kept once, and none larger than what is read of it."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.blob import Array, Blob
from leptonc.ir.build import Builder
from leptonc.ir.graph import Graph, Op, Region
from leptonc.ir.location import Location
from leptonc.ir.table import CONST, GROUP
from leptonc.passes.base import Pass, option
from leptonc.passes.context import PassContext
from leptonc.passes.contract import EXACT, Contract
from leptonc.passes.refine import erase_dead_from, replace_value
from leptonc.passes.shapes.propagate_ranges import is_spare

BROADCAST = frozenset({
    "add", "and", "bitwise_and", "bitwise_or", "bitwise_xor", "div", "equal", "greater",
    "greater_or_equal", "less", "less_or_equal", "max", "mean", "min", "mod", "mul", "or", "pow",
    "sub", "sum", "where", "xor",
})  # fmt: skip
"""Operations that give the same for a constant and for what it is broadcast from."""

SAMPLES = 61
"""How many elements of a constant tell whether looking at all of it is worth while."""

_SMALL = 256
"""Constants up to this many bytes are told apart by their bytes, larger ones by a digest."""

_COMPARED = 1 << 16
"""Bytes that are compared at once."""


@dataclass(frozen=True)
class ShareConstants(Pass):
    """Keeps constants of equal type and bytes once, whichever regions read them.

    A constant that repeats itself along an axis is cut to one element there where every reader
    broadcasts it, and one number is a scalar there; so scalars of different ranks are one constant.
    Bytes tell constants apart, so 0.0 and -0.0 stay two. Only constants that agree in type and in a
    few elements are read as a whole.
    """

    name: ClassVar[str] = "share-constants"
    numbers: ClassVar[Contract] = EXACT
    elements: int = option(1 << 24, "constants with more elements are not searched for repetition")

    def run(self, graph: Graph, context: PassContext) -> None:
        """Cut, then share."""
        for op in list(_constants(graph)):
            self._cut(op, context)
        alike: dict[Hashable, list[Op]] = {}
        for op in _constants(graph):
            blob = op.attrs["value"]
            if isinstance(blob, Blob) and not blob.is_absent:
                alike.setdefault((blob.type, _sample(blob.array)), []).append(op)
        for ops in alike.values():
            if len(ops) > 1:
                _share(graph, ops, context)

    def _cut(self, op: Op, context: PassContext) -> None:
        value, blob = op.result, op.attrs["value"]
        if not isinstance(blob, Blob) or blob.is_absent or not 0 < blob.size <= self.elements:
            return
        if not value.type.rank or any(use.op.name not in BROADCAST for use in value.uses):
            return
        axes = tuple(axis for axis in range(value.type.rank) if _repeats(blob.array, axis))
        if not axes:
            return
        array = blob.array
        for axis in axes:
            array = np.take(array, [0], axis)
        uses = value.uses
        if array.size == 1 and all(_gives_rank(use.op, use.slot) for use in uses):
            array = array.reshape(())
        if array.shape == value.type.shape:
            return
        if not all(is_spare(use.op, use.slot) for use in uses):
            reason = "readers have extents from the constant alone"
            context.miss(self.name, op.location, reason)
            return
        if context.grant(self.name, op.location):
            assert op.region is not None
            location = Location.fused([op.location], by=self.name)
            build = Builder(op.region, before=op, location=location)
            new = build.const(Blob.of(np.ascontiguousarray(array).reshape(array.shape)))
            new.name = value.name
            value.replace_uses_with(new)
            erase_dead_from([op])


def _constants(region: Region) -> Iterator[Op]:
    """Constants of a region and of those in it, except where groups have made kernels."""
    for op in region:
        if op.definition is CONST:
            yield op
        elif op.definition is not GROUP:
            for inner in op.regions:
                yield from _constants(inner)


def _repeats(array: Array, axis: int) -> bool:
    """True where every element along an axis has the same bits."""
    if array.shape[axis] == 1:
        return True
    if array.dtype == object:
        return False
    parts = np.moveaxis(array, axis, 0)
    first = parts[0].tobytes()
    if parts[1].tobytes() != first:
        return False
    at_once = max(1, _COMPARED // len(first))
    blocks = (parts[start : start + at_once] for start in range(0, len(parts), at_once))
    return all(block.tobytes() == first * len(block) for block in blocks)


def _gives_rank(op: Op, slot: int) -> bool:
    """True where an operand beside `slot` has as many axes as the result."""
    rank = op.results[0].type.rank
    return any(value.type.rank == rank for at, value in enumerate(op.operands) if at != slot)


def _sample(array: Array) -> Hashable:
    flat = array.reshape(-1)
    picked = flat[:: max(1, flat.size // SAMPLES)]
    return tuple(picked.tolist()) if array.dtype == object else picked.tobytes()


def _bits(op: Op) -> Hashable:
    blob = op.attrs["value"]
    assert isinstance(blob, Blob)
    array = blob.array
    if array.dtype == object or array.nbytes > _SMALL:
        return blob.digest
    return array.tobytes()


def _share(graph: Graph, ops: list[Op], context: PassContext) -> None:
    """Read the first of equal constants in place of the others."""
    kept: dict[Hashable, Op] = {}
    for op in ops:
        first = kept.setdefault(_bits(op), op)
        if first is op or not context.grant(ShareConstants.name, op.location):
            continue
        if first.region is not op.region and first.region is not graph:
            graph.move_before(next(iter(graph)), first)
        replace_value(op.result, first.result)
        erase_dead_from([op])
