"""check-places: a run ends where an index that is data is outside of what it reads or writes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim, bounds
from leptonc.ir.graph import Graph, Op, Region, Value
from leptonc.ir.location import Location
from leptonc.ir.table import DIMS, GROUP
from leptonc.ir.types import DType
from leptonc.passes.base import Pass
from leptonc.passes.context import PassContext
from leptonc.passes.contract import EXACT, Contract
from leptonc.passes.shapes.ranges import Ranges

_ALONG = frozenset({"gather", "gather_elements", "scatter_elements"})
"""Operations whose indices are places along one axis."""
_TUPLES = frozenset({"gather_nd", "scatter_nd"})
"""Operations whose indices are tuples, of a place along each of the leading axes."""
_SAME = frozenset({
    "cast", "expand", "flatten", "identity", "reshape", "slice", "squeeze", "transpose",
    "unsqueeze",
})  # fmt: skip
"""Operations whose elements are some of those of their operand."""
_SEARCHES = {"arg_max": 0, "arg_min": 0, "top_k": 1}
"""Operations that find places along an axis, and the result with them."""


@dataclass(frozen=True)
class CheckPlaces(Pass):
    """Counts the indices that are outside of the operand, and ends the run where there are any.

    So it is for `gather`, `gather_elements`, `gather_nd`, `scatter_elements` and `scatter_nd`, of
    which kernels move such indices to the nearest element. Indices that are known to be inside
    (by their limits, as places that were found along an axis as long) are not counted, nor are
    those that were counted in the same region for the same extents.
    """

    name: ClassVar[str] = "check-places"
    numbers: ClassVar[Contract] = EXACT

    def run(self, graph: Graph, context: PassContext) -> None:
        """Look at each operation once, in program order."""
        ranges = Ranges()
        seen = _checked(graph)
        for op in list(graph.walk()):
            region = op.region
            if region is None or (region.parent and region.parent.definition is GROUP):
                continue
            ranges.learn(op)
            if op.name not in _ALONG and op.name not in _TUPLES:
                continue
            indices, extents = op.operands[1], _extents(op)
            key = (region, indices, extents)
            if not extents or key in seen or 0 in indices.type.shape:
                continue
            if _is_inside(ranges, op, indices, extents):
                context.miss(self.name, op.location, "the indices are known to be inside")
            elif context.grant(self.name, op.location):
                seen.add(key)
                _check(op, indices, extents)


def _checked(graph: Graph) -> set[tuple[Region, Value, tuple[Dim, ...]]]:
    """The indices that were counted before, each with the extents."""
    found: set[tuple[Region, Value, tuple[Dim, ...]]] = set()
    for op in graph.walk():
        if op.name == "extents" and "{}" in op.str("fault") and op.region is not None:
            last = op.operands[0].producer
            while last is not None and last.name in ("reshape", "reduce_sum", "cast", "or"):
                last = last.operands[0].producer
            readers = [use.op for use in last.operands[0].uses] if last is not None else []
            for reader in readers:
                if reader.name in _ALONG | _TUPLES:
                    found.add((op.region, reader.operands[1], _extents(reader)))
    return found


def _extents(op: Op) -> tuple[Dim, ...]:
    """The extents that the indices are places in."""
    shape, indices = op.operands[0].type.shape, op.operands[1].type
    if op.name in _ALONG:
        return (shape[op.int("axis")],)
    batch = op.int("batch_dims") if op.name == "gather_nd" else 0
    depth = indices.shape[-1]
    assert isinstance(depth, int)
    return shape[batch : batch + depth]


def _is_inside(ranges: Ranges, op: Op, indices: Value, extents: Sequence[Dim]) -> bool:
    """True where nothing can be wrong, or where what is constant is compared elsewhere."""
    if op.name == "gather" and indices.blob is not None:
        return True
    known = ranges.facts(indices)
    if all(-bounds(dim)[0] <= known.low and known.high < bounds(dim)[0] for dim in extents):
        return True
    return len(extents) == 1 and (
        _is_counted(ranges, indices, extents[0]) or _is_found(indices, extents[0])
    )


def _is_counted(ranges: Ranges, indices: Value, extent: Dim) -> bool:
    """True for places that are counted up from one inside to one inside."""
    known = ranges.facts(indices)
    if known.base is None:
        return False
    low, high = known.base, known.base
    for step, dim in zip(known.steps, indices.type.shape, strict=True):
        low, high = low + (dim - 1) * min(step, 0), high + (dim - 1) * max(step, 0)
    return bounds(low + extent)[0] >= 0 and bounds(extent - high)[0] > 0


def _is_found(indices: Value, extent: Dim) -> bool:
    """True for places that were found along an axis that is not longer."""
    value = indices
    while (op := value.producer) is not None and op.name in _SAME:
        if op.name == "cast" and value.type.dtype not in (DType.I32, DType.I64):
            return False
        value = op.operands[0]
    if op is None or op.name not in _SEARCHES or value is not op.results[_SEARCHES[op.name]]:
        return False
    along = op.operands[0].type.shape[op.int("axis")]
    return bounds(extent - along)[0] >= 0


def _check(op: Op, indices: Value, extents: Sequence[Dim]) -> None:
    assert op.region is not None
    build = Builder(
        op.region, before=op, location=Location.fused([op.location], by=CheckPlaces.name)
    )
    high = _row(build, extents, indices.type.dtype)
    low = _row(build, [-dim for dim in extents], indices.type.dtype)
    wrong = build.or_(build.less(indices, low), build.greater_or_equal(indices, high))
    # integers as wide as the indices are the cheapest; how many there are has to fit into them
    fits = indices.type.is_static and math.prod(indices.type.extents) < 1 << 31
    count = build.cast(wrong, to=indices.type.dtype if fits else DType.I64)
    if indices.type.rank:
        axes = build.const(np.arange(indices.type.rank, dtype=np.int64))
        count = build.reduce_sum(count, axes=axes, keepdims=0)
    row = build.reshape(count, build.const(np.ones(1, np.int64)))
    build.op("extents", [row], {"names": (0,), "fault": _fault(op, extents)})


def _row(build: Builder, numbers: Sequence[Dim], dtype: DType) -> Value:
    """Extents as data, or one of them without a dimension; those beyond the type at its end."""
    least, most = np.iinfo(dtype.numpy).min, np.iinfo(dtype.numpy).max
    shape = (len(numbers),) if len(numbers) > 1 else ()
    if all(isinstance(number, int) for number in numbers):
        data = [min(max(int(str(number)), least), most) for number in numbers]
        return build.const(np.array(data, dtype.numpy).reshape(shape))
    given = build.op(DIMS, [], {"value": tuple(numbers), "shape": shape, "dtype": DType.I64})
    return given.result if dtype is DType.I64 else build.cast(given.result, to=dtype)


def _fault(op: Op, extents: Sequence[Dim]) -> str:
    """What the error says; the braces stand for how many there are."""
    many = f"extents of {', '.join(map(str, extents))}"
    where = many if len(extents) > 1 else f"an extent of {extents[0]}"
    may = "; ".join(f"{-dim} to {dim - 1}" for dim in extents)
    return f"{op.name}: {{}} of the indices are outside {where}: they may be {may}"
