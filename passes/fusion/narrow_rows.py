"""narrow-rows: of layers of which a few rows are read, no other rows are computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.graph import Graph, Op, Region, Value
from leptonc.ir.location import Location
from leptonc.ir.ops.slicing import Cut
from leptonc.ir.table import Trait
from leptonc.passes.base import Pass
from leptonc.passes.cleanup.slice_rules import cut_by
from leptonc.passes.context import PassContext
from leptonc.passes.contract import REASSOCIATES, Contract
from leptonc.passes.fusion.row_sources import VIEWS, Part, picked_part, sources
from leptonc.passes.refine import erase_dead_from, replace_value
from leptonc.passes.views import reshape_to


@dataclass(frozen=True)
class NarrowRows(Pass):
    """Takes a few rows before the layers that compute each row by itself, not after them.

    A classifier that reads the first token needs one row of the last block of a transformer: one
    query, and what follows it. The rows are taken where others are needed too, or where a row
    depends on others: of the residual sum, and of what the queries are made of. Only parts with a
    product gain by that, and only where at most half of the rows are read.
    """

    name: ClassVar[str] = "narrow-rows"
    numbers: ClassVar[Contract] = REASSOCIATES

    def run(self, graph: Graph, context: PassContext) -> None:
        """Narrow in each region."""
        for region in [graph, *(inner for op in graph.walk() for inner in op.regions)]:
            needs = _Needs()
            for op in reversed(region):
                needs.look(op)
            for op in needs.picks:
                if needs.is_mixed(op):
                    context.miss(self.name, op.location, "other rows are read too")
            for ops in _connected(region, needs):
                self._narrow(ops, needs, context)

    def _narrow(self, ops: Sequence[Op], needs: _Needs, context: PassContext) -> None:
        """Compute only what is needed of `ops`, which stand in their order."""
        where = [op.location for op in ops if op in needs.picks]
        layers = [op for op in ops if op not in needs.picks]
        if not layers:
            return
        if not any(op.definition.has(Trait.PRODUCT) for op in layers):
            context.miss(self.name, where[0], "no product is behind the rows")
        elif context.grant(self.name, Location.fused(where, by=self.name)):
            _Narrowing(needs).replace(ops, self.name)


@dataclass
class _Needs:
    """What is needed of the values of a region, found from its end."""

    parts: dict[Value, Part | None] = field(default_factory=dict[Value, Part | None])
    """The part of a value that all its readers need; None where they need it whole."""
    layers: dict[Op, Mapping[int, int]] = field(default_factory=dict[Op, Mapping[int, int]])
    """Operations of whose result a part is needed: the axis of that part of each operand."""
    picks: dict[Op, Part] = field(default_factory=dict[Op, Part])
    """Slices and gathers that take a few rows."""

    def look(self, op: Op) -> None:
        """Note what `op` needs; all that reads its results has been looked at."""
        part, slots = picked_part(op), None
        if part is not None and _is_few(part, op.operands[0]):
            self.picks[op], slots = part, {0: part.axis}
        else:
            part = self.parts.get(op.results[0]) if op.results else None
            slots = None if part is None else sources(op, part.axis)
            if slots is not None:
                self.layers[op] = slots
        for slot, value in enumerate(op.operands):
            if part is not None and slots is not None and slot in slots:
                self._need(value, replace(part, axis=slots[slot]))
            else:
                self._need(value, None)
        for inner in (each for region in op.regions for each in region.walk()):
            for value in inner.operands:
                self.parts[value] = None

    def is_mixed(self, pick: Op) -> bool:
        """Whether only what else reads them keeps rows from being computed narrow."""
        source = pick.operands[0]
        maker, axis = source.producer, self.picks[pick].axis
        return self.parts[source] is None and maker is not None and sources(maker, axis) is not None

    def _need(self, value: Value, part: Part | None) -> None:
        same = self.parts.get(value, part) == part
        self.parts[value] = part if same else None


def _is_few(part: Part, value: Value) -> bool:
    extent = value.type.shape[part.axis]
    return not isinstance(extent, int) or 2 * part.count <= extent


def _connected(region: Region, needs: _Needs) -> list[list[Op]]:
    """The layers and what takes rows of them, by what hangs together, in program order."""
    leaders: dict[Op, Op] = {}

    def leader(op: Op) -> Op:
        while leaders[op] is not op:
            leaders[op] = leaders[leaders[op]]
            op = leaders[op]
        return op

    found: dict[Op, list[Op]] = {}
    ops = [op for op in region if op in needs.layers or op in needs.picks]
    for op in ops:
        leaders[op] = op
        for slot in needs.layers.get(op, (0,)):
            source = op.operands[slot]
            maker = source.producer
            if maker in leaders and maker in needs.layers and needs.parts[source] is not None:
                leaders[leader(maker)] = op
    for op in ops:
        found.setdefault(leader(op), []).append(op)
    return list(found.values())


class _Narrowing:
    """Replaces operations that hang together by those of a few rows."""

    def __init__(self, needs: _Needs) -> None:
        self.needs = needs
        self.narrow: dict[Value, Value] = {}
        self.taken: dict[tuple[Value, Part], Value] = {}

    def replace(self, ops: Sequence[Op], by: str) -> None:
        """Put narrow operations before `ops`, and erase those."""
        for op in ops:
            region = op.region
            assert region is not None
            build = Builder(region, before=op, location=Location.fused((op.location,), by=by))
            if op not in self.needs.picks:
                self._layer(op, build)
            elif op.operands[0] in self.narrow:
                rows, shape = self.narrow[op.operands[0]], op.result.type.shape
                fits = rows.type.shape == shape
                replace_value(op.result, rows if fits else reshape_to(build, rows, shape))
        erase_dead_from(ops)

    def _layer(self, op: Op, build: Builder) -> None:
        old, slots = op.results[0], self.needs.layers[op]
        part = self.needs.parts[old]
        assert part is not None
        operands = [
            self._rows(value, replace(part, axis=slots[slot]), build) if slot in slots else value
            for slot, value in enumerate(op.operands)
        ]
        if op.name in VIEWS:
            shape = list(old.type.shape)
            shape[part.axis] = part.count
            new = reshape_to(build, operands[0], tuple(shape))
        else:
            made = build.op(op.definition, operands, op.attrs, names=op.operand_names)
            new = made.results[0]
        new.name = old.name
        self.narrow[old] = new

    def _rows(self, value: Value, part: Part, build: Builder) -> Value:
        """The part of a value: computed narrow, or taken here."""
        if value in self.narrow:
            return self.narrow[value]
        key = (value, part)
        if key not in self.taken:
            if isinstance(value.type.shape[part.axis], int):
                self.taken[key] = cut_by(build, value, {part.axis: Cut(part.start, 1, part.count)})
            else:
                place = build.const(np.array([part.start], np.int64))
                self.taken[key] = build.gather(value, place, axis=part.axis)
        return self.taken[key]
