"""Which values of a graph something needs, through the results and turns of choices and loops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from leptonc.ir.graph import Attribute, Graph, Op, Region, Value
from leptonc.ir.ops.control import IF, SCAN
from leptonc.ir.table import RETURN, Trait
from leptonc.passes.control_flow.regions import Turning
from leptonc.passes.refine import has_effect


class Live:
    """The values that outputs, effects and conditions of a graph need."""

    def __init__(self, graph: Graph) -> None:
        self.values: set[Value] = set()
        self._running: set[Op] = set()
        self._waiting: list[Value] = list(graph.outputs)
        for op in graph.walk():
            if op.definition.has(Trait.EFFECT):
                self._waiting += op.operands
                self._run_around(op.region)
        self._settle()
        for op in graph.walk():
            if op.regions and op.results and has_effect(op) and self.values.isdisjoint(op.results):
                self._waiting.append(op.results[0])  # what has to stay has a result
                self._settle()

    def _settle(self) -> None:
        while self._waiting:
            value = self._waiting.pop()
            if value in self.values:
                continue
            self.values.add(value)
            op = value.producer
            self._run_around(op.region if op is not None else value.owner)
            if op is None:
                self._need_input(value)
            elif op.definition is IF or op.name in ("loop", "scan"):
                self._run(op)
                self._need_result(op, op.results.index(value))
            else:
                self._waiting += op.operands

    def _run_around(self, region: Region | None) -> None:
        """Note that what holds `region` runs, with whatever decides whether and how often."""
        if region is not None and region.parent is not None:
            self._run(region.parent)

    def _run(self, op: Op) -> None:
        if op in self._running:
            return
        self._running.add(op)
        self._run_around(op.region)
        if op.name in ("loop", "scan"):
            starts = set(Turning(op).starts)
            named = zip(op.operands, op.operand_names, strict=True)
            self._waiting += [
                value for value, name in named
                if name in ("max_trip", "cond") or (op.definition is SCAN and value not in starts)
            ]  # fmt: skip
            self._waiting += op.regions[0].outputs[: Turning(op).first_output]
        else:
            self._waiting += op.operands

    def _need_result(self, op: Op, index: int) -> None:
        if op.definition is IF:
            self._waiting += [region.outputs[index] for region in op.regions]
            return
        loop = Turning(op)
        count = len(loop.starts)
        if index < count:
            self._need_carried(loop, index)
        else:
            self._waiting.append(loop.collected[index - count])

    def _need_input(self, value: Value) -> None:
        """What a value that a region is given comes from."""
        parent = value.owner.parent if value.owner is not None else None
        if parent is None or parent.name not in ("loop", "scan"):
            if parent is not None:
                self._waiting += parent.operands
            return
        loop = Turning(parent)
        index = loop.region.inputs.index(value) - loop.first_input
        if 0 <= index < len(loop.starts):
            self._need_carried(loop, index)

    def _need_carried(self, loop: Turning, index: int) -> None:
        self.values.add(loop.taken[index])
        self._waiting += (loop.starts[index], loop.given[index])


@dataclass(frozen=True)
class Kept:
    """Places of what stays: results of an `if`, or what a loop carries, collects and slices."""

    carried: Sequence[int]
    collected: Sequence[int]
    sequences: Sequence[int]

    def is_everything(self, op: Op) -> bool:
        """True where nothing goes."""
        count = len(self.carried) + len(self.collected)
        slices = 0 if op.definition is not SCAN else op.int("num_scan_inputs")
        return (count, len(self.sequences)) == (len(op.results), slices)

    def attributes(self, loop: Turning) -> dict[str, Attribute]:
        """The attributes of the loop that stays."""
        attrs = dict(loop.op.attrs)
        if loop.op.definition is not SCAN:
            return attrs
        attrs["num_scan_inputs"] = len(self.sequences)
        items = (("input", self.sequences), ("output", self.collected))
        for name, kept in items:
            for what in ("axes", "directions"):
                given = loop.op.ints(f"scan_{name}_{what}")
                if given:
                    attrs[f"scan_{name}_{what}"] = tuple(given[index] for index in kept) or None
        return attrs


def kept_of(op: Op, live: Live) -> Kept:
    """What of an `if`, `loop` or `scan` is needed; all of one that is not needed at all."""
    used = [index for index, value in enumerate(op.results) if value in live.values]
    if op.definition is IF:
        return Kept(used or range(len(op.results)), [], [])
    loop = Turning(op)
    count = len(loop.starts)
    carried = [
        index for index in range(count)
        if index in used or loop.taken[index] in live.values
    ]  # fmt: skip
    collected = [index - count for index in used if index >= count]
    if not carried and not collected:
        return Kept(range(count), range(len(loop.collected)), range(len(loop.sequences)))
    return Kept(carried, collected, _kept_sequences(loop, live))


def _kept_sequences(loop: Turning, live: Live) -> list[int]:
    """The sequences that are read, and those whose lengths are held against the others'."""
    slices = loop.region.inputs[len(loop.starts) :] if loop.sequences else ()
    axes = loop.per_item("scan_input_axes", len(loop.sequences))
    lengths = [value.type.shape[axis] for value, axis in zip(loop.sequences, axes, strict=True)]
    kept = [index for index, value in enumerate(slices) if value in live.values]
    for index, length in enumerate(lengths):
        if length not in (lengths[other] for other in kept):
            kept.append(index)
    return sorted(kept)


def is_dead(op: Op) -> bool:
    """True for what may be erased."""
    unread = not any(value.is_used for value in op.results)
    return op.definition is not RETURN and unread and not has_effect(op)
