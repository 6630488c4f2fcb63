"""unroll-loops: a loop of few turns becomes the operations of each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.dims import symbols
from leptonc.ir.graph import Graph, Op, Region, Value
from leptonc.ir.location import Location
from leptonc.ir.ops.control import LOOP
from leptonc.ir.table import RETURN
from leptonc.passes.base import Pass, option
from leptonc.passes.clone import clone_op
from leptonc.passes.context import PassContext
from leptonc.passes.contract import EXACT, Contract
from leptonc.passes.control_flow.regions import Turning, is_true, reads, symbols_of
from leptonc.passes.control_flow.speculation import is_free
from leptonc.passes.refine import erase_dead_from, refines, replace_value, update_types

LOOPS = ("loop", "scan")


def _loops(region: Region) -> list[Op]:
    """The loops of a region, those in others behind what holds them."""
    return [op for op in region.walk() if op.name in LOOPS]


@dataclass(frozen=True)
class UnrollLoops(Pass):
    """Replaces a `loop` or `scan` whose number of turns is known by what its turns compute.

    Of no turns the carried values stay, and one turn is always worth it. More are where only their
    number ends the loop and all turns together have at most `most_operations` operations: to turn
    costs as much as a few small kernels, but a larger model is not what unrolling is for.
    """

    name: ClassVar[str] = "unroll-loops"
    numbers: ClassVar[Contract] = EXACT
    most_operations: int = option(24, "operations that all turns together may have")

    def run(self, graph: Graph, context: PassContext) -> None:
        """Inner loops first: what they become counts in the outer ones.

        In the turns of an outer loop it may be known how often an inner one turns.
        """
        waiting = _loops(graph)
        while waiting:
            op = waiting.pop()
            loop = Turning(op)
            turns = loop.turns
            if turns is None:
                context.miss(self.name, op.location, "how often it turns is not known")
                continue
            reason = self._reason(loop, turns, graph)
            if reason is not None:
                context.miss(self.name, op.location, reason)
            elif context.grant(self.name, op.location):
                waiting += _Unrolling(loop, graph).run(turns)

    def _reason(self, loop: Turning, turns: int, graph: Graph) -> str | None:
        """Why the loop stays; None where it goes."""
        inside = [op for op in loop.region.walk() if op.definition is not RETURN]
        count = turns * sum(not is_free(op) for op in inside)
        if turns > 1 and count > self.most_operations:
            return f"{turns} turns have {count} operations"
        if turns > 1 and not loop.is_endless:
            return "a condition may end it"
        if turns == 1 and not _begins(loop):
            return "a condition may keep it from turning"
        if loop.op.attrs.get("turn"):
            return "the number of the turn is an extent"
        if turns > 1 and _binds(loop, inside, graph):
            return "each turn has extents of its own"
        return _misfit(loop, turns)


def _begins(loop: Turning) -> bool:
    start = loop.op.operand("cond")
    return start is None or is_true(start)


def _binds(loop: Turning, inside: list[Op], graph: Graph) -> bool:
    """True where extents become known inside the region."""
    spoken = {name for op in inside for name in symbols_of(op)}
    within = {value for op in inside for value in op.results}
    around = [*graph.inputs, *loop.op.operands, *loop.region.inputs]
    around += [value for op in inside for value in reads(op) if value not in within]
    told = {name for value in around for dim in value.type.shape for name in symbols(dim)}
    return not spoken <= told


def _misfit(loop: Turning, turns: int) -> str | None:
    """Why the types keep the loop from going."""
    results = loop.op.results
    for index, (start, taken, given) in enumerate(
        zip(loop.starts, loop.taken, loop.given, strict=True)
    ):
        last = given.type if turns else start.type
        fits = refines(start.type, taken.type) and refines(last, results[index].type)
        if not fits or (turns > 1 and given.type != taken.type):
            return "a turn changes the extents of what is carried"
    stacked = results[len(loop.starts) :]
    if not turns and not all(value.type.is_static for value in stacked):
        return "the extents of what no turn gives are not known"
    return None


class _Unrolling:
    def __init__(self, loop: Turning, graph: Graph) -> None:
        assert loop.op.region is not None
        self.loop, self.op = loop, loop.op
        location = Location.fused([self.op.location], by="unroll-loops")
        self.build = Builder(self.op.region, before=self.op, location=location, graph=graph)  # pyright: ignore[reportArgumentType] - it stands in a region
        self.inner: list[Op] = []

    def run(self, turns: int) -> list[Op]:
        """Put the turns, and what stacks their results, in place of the loop.

        Gives the loops that stand in the turns.
        """
        carried, rows = list(self.loop.starts), list[list[Value]]()
        for turn in range(turns):
            outputs = self._turn(turn, turns, carried)[self.loop.first_output :]
            carried, row = outputs[: len(carried)], outputs[len(carried) :]
            rows.append(row)
        stacked = [self._stacked(index, [row[index] for row in rows])
                   for index in range(len(self.loop.collected))]  # fmt: skip
        for old, new in zip(self.op.results, (*carried, *stacked), strict=True):
            replace_value(old, new)
        feeders = [value.producer for value in self.op.operands if value.producer is not None]
        assert self.op.region is not None
        self.op.region.erase(self.op)
        erase_dead_from([*self.build.made, *feeders])
        return [op for op in self.inner if op.region is not None]

    def _turn(self, turn: int, turns: int, carried: list[Value]) -> list[Value]:
        """The outputs of the region in one turn."""
        values = dict(zip(self.loop.region.inputs, self._inputs(turn, turns, carried), strict=True))
        assert self.op.region is not None
        for inner in self.loop.region:
            if inner.definition is RETURN:
                break
            copy = self.op.region.insert_before(self.op, clone_op(inner, values))
            update_types([copy])
            self.inner += [copy] if copy.name in LOOPS else []
            self.inner += [op for region in copy.regions for op in _loops(region)]
        return [values.get(value, value) for value in self.loop.region.outputs]

    def _inputs(self, turn: int, turns: int, carried: list[Value]) -> list[Value]:
        if self.op.definition is LOOP:
            types = [value.type for value in self.loop.region.inputs[:2]]
            number = self.build.const(np.full(types[0].extents, turn, np.int64))
            truth = self.build.const(np.full(types[1].extents, fill_value=True))
            return [number, truth, *carried]
        sequences = self.loop.sequences
        axes = self.loop.per_item("scan_input_axes", len(sequences))
        back = self.loop.per_item("scan_input_directions", len(sequences))
        slices: list[Value] = []
        for value, axis, reverse in zip(sequences, axes, back, strict=True):
            at = self.build.const(np.array(turns - 1 - turn if reverse else turn, np.int64))
            slices.append(self.build.gather(value, at, axis=axis % value.type.rank))
        return [*carried, *slices]

    def _stacked(self, index: int, parts: list[Value]) -> Value:
        """What the turns gave, one behind the other along the axis of the result."""
        result = self.op.results[len(self.loop.starts) + index]
        if not parts:
            empty = np.zeros(result.type.extents, result.type.dtype.numpy)
            return self.build.const(empty)
        count = len(self.loop.collected)
        axis = self.loop.per_item("scan_output_axes", count)[index] % result.type.rank
        if self.loop.per_item("scan_output_directions", count)[index]:
            parts = parts[::-1]
        axes = self.build.const(np.array([axis], np.int64))
        rows = [self.build.unsqueeze(part, axes) for part in parts]
        return rows[0] if len(rows) == 1 else self.build.op("concat", rows, {"axis": axis}).result
