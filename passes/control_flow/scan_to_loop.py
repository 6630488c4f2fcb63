"""scan-to-loop: a scan is a loop that takes one slice of each sequence in each turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim
from leptonc.ir.graph import Graph, Op, Region, Value
from leptonc.ir.location import Location
from leptonc.ir.ops.control import SCAN
from leptonc.ir.table import DIMS, RETURN
from leptonc.ir.types import DType, TensorType
from leptonc.passes.base import Pass
from leptonc.passes.context import PassContext
from leptonc.passes.contract import EXACT, Contract
from leptonc.passes.refine import replace_value


@dataclass(frozen=True)
class ScanToLoop(Pass):
    """Replaces each `scan` by a `loop` of as many turns as the sequences have slices.

    The region reads its slices by the number of the turn, from the end where a direction is
    reversed. What it collects is turned round or transposed behind the loop, where it has to be.
    """

    name: ClassVar[str] = "scan-to-loop"
    numbers: ClassVar[Contract] = EXACT

    def run(self, graph: Graph, context: PassContext) -> None:
        """Outer scans first; their regions move into loops as they are."""
        for op in [op for op in graph.walk() if op.definition is SCAN]:
            if context.grant(self.name, op.location):
                _Rewrite(op, graph, Location.fused([op.location], by=self.name)).run()


class _Rewrite:
    """One scan on its way to a loop."""

    def __init__(self, op: Op, graph: Graph, location: Location) -> None:
        assert op.region is not None
        self.op, self.graph = op, graph
        self.build = Builder(op.region, before=op, location=location, graph=graph)
        self.scanned = op.int("num_scan_inputs")
        self.states = op.operands[: len(op.operands) - self.scanned]
        self.sequences = op.operands[len(self.states) :]
        self.axes = _per_item(op, "scan_input_axes", self.scanned)
        self.backwards = _per_item(op, "scan_input_directions", self.scanned)
        self.length = self._length()

    def run(self) -> None:
        """Put a loop, and what its scan outputs need behind it, in place of the scan."""
        count = self._number(self.build, self.length)
        operands = [count, *self.states]
        names = ["max_trip", *["carried"] * len(self.states)]
        results = self.build.op("loop", operands, names=names, regions=[self._region()]).results
        kept = len(self.states)
        collected = len(results) - kept
        axes = _per_item(self.op, "scan_output_axes", collected)
        backwards = _per_item(self.op, "scan_output_directions", collected)
        for index, (old, new) in enumerate(zip(self.op.results, results, strict=True)):
            if not old.is_used:
                continue
            found = new
            if index >= kept:
                found = self._placed(new, axes[index - kept], reverse=backwards[index - kept] != 0)
            found.name = found.name or old.name
            replace_value(old, found)
        assert self.op.region is not None
        self.op.region.erase(self.op)

    def _length(self) -> Dim:
        """How many turns there are; sequences that may differ in length are compared first."""
        lengths = [
            value.type.shape[axis] for value, axis in zip(self.sequences, self.axes, strict=True)
        ]
        known = next((length for length in lengths if isinstance(length, int)), lengths[0])
        for value, axis, length in zip(self.sequences, self.axes, lengths, strict=True):
            if length != known:
                axis %= value.type.rank
                row = self.build.shape(value, start=axis, end=axis + 1)
                self.build.extents(row, names=(known,))
        return known

    def _number(self, build: Builder, dim: Dim) -> Value:
        return build.op(DIMS, (), {"value": (dim,), "shape": (), "dtype": DType.I64}).result

    def _region(self) -> Region:
        """The scan's operations behind those that take the slices."""
        (old,) = self.op.regions
        turn, go = Value(TensorType(DType.I64, ()), "turn"), Value(TensorType(DType.BOOL, ()), "go")
        states = [Value(value.type, value.name) for value in old.inputs[: len(self.states)]]
        new = Region([turn, go, *states])
        build = Builder(new, location=self.build.location, graph=self.graph)
        slices = [
            self._slice(build, turn, value, axis, reverse=backwards != 0)
            for value, axis, backwards in zip(
                self.sequences, self.axes, self.backwards, strict=True
            )
        ]
        for before, after in zip(old.inputs, (*states, *slices), strict=True):
            before.replace_uses_with(after)
        end = build.return_(build.const(np.array(True)), *old.outputs)
        for inner in old:
            if inner.definition is not RETURN:
                new.move_before(end, inner)
        return new

    def _slice(
        self, build: Builder, turn: Value, value: Value, axis: int, *, reverse: bool
    ) -> Value:
        at = build.sub(self._number(build, self.length - 1), turn) if reverse else turn
        return build.gather(value, at, axis=axis % value.type.rank)

    def _placed(self, value: Value, axis: int, *, reverse: bool) -> Value:
        """What was collected along the first axis, along `axis`, the last first if `reverse`."""
        build = self.build
        if reverse:
            ends = (-1, np.iinfo(np.int64).min, 0, -1)
            start, end, first, step = (build.const(np.array([n], np.int64)) for n in ends)
            value = build.slice(value, start, end, axes=first, steps=step)
        rank = value.type.rank
        axis %= rank
        if axis:
            order = [*range(1, axis + 1), 0, *range(axis + 1, rank)]
            value = build.transpose(value, perm=tuple(order))
        return value


def _per_item(op: Op, name: str, count: int) -> tuple[int, ...]:
    return op.ints(name) or (0,) * count
