"""join-slices: slices that cut one tensor into parts become one split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.graph import Graph, Op, Region, Value
from leptonc.ir.location import Location
from leptonc.ir.ops.slicing import Cut
from leptonc.passes.base import Pass
from leptonc.passes.cleanup.slice_rules import known_cuts
from leptonc.passes.context import PassContext
from leptonc.passes.contract import EXACT, Contract
from leptonc.passes.refine import erase_dead_from, replace_value


@dataclass(frozen=True)
class JoinSlices(Pass):
    """Makes one `split` of slices that cut a tensor along one axis and leave nothing out.

    A runtime that does not fuse then starts one kernel for all parts. Kernels made from a graph
    read parts of a tensor where they are, so this runs before a model is written only.
    """

    name: ClassVar[str] = "join-slices"
    numbers: ClassVar[Contract] = EXACT

    def run(self, graph: Graph, context: PassContext) -> None:
        """Look at each tensor that slices read, in program order."""
        for region in _regions(graph):
            first: dict[Value, Op] = {}
            for op in region:
                if op.name == "slice":
                    first.setdefault(op.operands[0], op)
            for source, anchor in first.items():
                _join(source, anchor, context)


def _regions(region: Region) -> Iterator[Region]:
    yield region
    for op in region:
        for inner in op.regions:
            yield from _regions(inner)


def _join(source: Value, anchor: Op, context: PassContext) -> None:
    """Join the slices of `source`; no split stands before `anchor`, the first of them."""
    by_axis: dict[int, list[tuple[Cut, Op]]] = {}
    for op in source.users:
        if op.name != "slice" or op.region is not anchor.region or op.operands[0] is not source:
            continue
        cuts = known_cuts(op)
        if cuts is not None and len(cuts) == 1:
            ((axis, cut),) = cuts.items()
            by_axis.setdefault(axis, []).append((cut, op))
    for axis, parts in by_axis.items():
        sizes = _sizes(source, axis, parts, context)
        ops = [op for _, op in parts]
        location = Location.fused([op.location for op in ops], by=JoinSlices.name)
        if sizes and context.grant(JoinSlices.name, location):
            anchor = _replace(anchor, source, axis, sizes, ops, location)


def _sizes(
    source: Value, axis: int, parts: list[tuple[Cut, Op]], context: PassContext
) -> list[int]:
    """The extents of the parts, which are put in order; none where they are not the whole."""
    if len(parts) < 2 or not all(isinstance(cut.start, int) for cut, _ in parts):
        return []
    parts.sort(key=lambda part: int(str(part[0].start)))
    sizes: list[int] = []
    position = 0
    for cut, op in parts:
        if cut.step != 1 or cut.start != position or not isinstance(cut.extent, int):
            context.miss(JoinSlices.name, op.location, "the slices leave gaps or overlap")
            return []
        sizes.append(cut.extent)
        position += cut.extent
    if position != source.type.shape[axis]:
        context.miss(JoinSlices.name, parts[0][1].location, "the slices leave something out")
        return []
    return sizes


def _replace(
    anchor: Op, source: Value, axis: int, sizes: list[int], ops: list[Op], location: Location
) -> Op:
    region = anchor.region
    assert region is not None
    build = Builder(region, before=anchor, location=location)
    rows = build.const(np.array(sizes, np.int64))
    made = build.op(
        "split", [source, rows], {"axis": axis}, result_types=[op.result.type for op in ops]
    )
    for op, part in zip(ops, made.results, strict=True):
        replace_value(op.result, part)
    erase_dead_from(ops)
    return made
