"""narrow-integers: integers that 32 bits hold are computed in 32 bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.blob import Blob
from leptonc.ir.build import Builder
from leptonc.ir.graph import Graph, Op, Region, Value
from leptonc.ir.location import Location
from leptonc.ir.table import DIMS
from leptonc.ir.types import DType
from leptonc.passes.base import Pass, option
from leptonc.passes.context import PassContext
from leptonc.passes.contract import EXACT, Contract
from leptonc.passes.precision.narrow_choice import Choice
from leptonc.passes.precision.narrow_kinds import NARROW, UNGUARDED, WIDE, Unit, unit_of
from leptonc.passes.refine import erase_dead_from, replace_value
from leptonc.passes.shapes.branches import Branch, branch
from leptonc.passes.shapes.interval import Known, limits_of
from leptonc.passes.shapes.ranges import Ranges

LOW, HIGH = limits_of(NARROW)

_GROWING = frozenset({"abs", "add", "cum_sum", "mul", "neg", "reduce_sum", "sub"})
"""Operations whose results may be larger than their operands."""


@dataclass(frozen=True)
class NarrowIntegers(Pass):
    """Computes integers of 64 bits in 32 bits where their limits show that these hold them.

    Vectors of 32 bits have twice as many elements, and products, comparisons and conversions to
    floats that those of 64 bits lack. Limits are those that `propagate-ranges` knows: of constants,
    of places, of extents, which a run checks to be below 10^9, of other element types and of what
    is computed of these, every operand and every result on the way. What only one side of a `where`
    reads has to fit where that side is taken. Other integers keep their width, and so do inputs
    and outputs: numbers are converted where the parts meet. Only parts that compute more elements
    than they convert become narrow, open extents taken for 64.
    """

    name: ClassVar[str] = "narrow-integers"
    numbers: ClassVar[Contract] = EXACT
    least: int = option(256, "how many elements more have to be computed than converted")

    def run(self, graph: Graph, context: PassContext) -> None:
        """Choose the operations, then make each of them again in 32 bits."""
        ranges, ops = Ranges(), _operations(graph)
        for op in ops:
            ranges.learn(op)
        limits = _Limits(ranges, ops)
        units = [unit for op in ops if (unit := unit_of(op, limits.fits)) is not None]
        taking_part = {unit.op for unit in units}
        for op in ops:
            if op not in taking_part:
                limits.explain(op, context)
        choice = Choice(units)
        choice.settle()
        for unit in units:
            if unit.op not in choice.left and unit.work >= self.least:
                reason = "as many elements would be converted as it computes"
                context.miss(self.name, unit.op.location, reason)
        chosen: list[Unit] = []
        for part in choice.parts():
            place = Location.fused([unit.op.location for unit in part], by=self.name)
            computed, converted = choice.saved(part)
            if not computed:
                continue
            if computed - converted < self.least:
                reason = f"it computes {computed} elements, and {converted} would be converted"
                context.miss(self.name, place, reason)
            elif context.grant(self.name, place):
                chosen += part
        _Writer(choice).write(chosen)


def _operations(graph: Graph) -> list[Op]:
    """All operations in the order of computing, those inside of groups left out."""
    found: list[Op] = []
    waiting: list[Op] = list(reversed(list(graph)))
    while waiting:
        op = waiting.pop()
        found.append(op)
        if op.name != "group":
            for region in reversed(op.regions):
                waiting += reversed(list(region))
    return found


class _Limits:
    """What values lie between, at the places that anybody looks at."""

    def __init__(self, ranges: Ranges, ops: Sequence[Op]) -> None:
        self.ranges = ranges
        self.chosen: dict[Value, Known] = {}
        """Limits of what only one side of a `where` reads."""
        for op in ops:
            if op.name == "where":
                for truth in (1, 0):
                    self._look(op, branch(op, truth, ranges))

    def fits(self, value: Value) -> bool:
        """True where 32 bits hold every element that is looked at."""
        return _is_inside(self.ranges.facts(value)) or (
            value in self.chosen and _is_inside(self.chosen[value])
        )

    def _look(self, where: Op, found: Branch) -> None:
        only: set[Value] = set()
        for value in reversed(found.seen):
            if all(
                (use.op is where and use.slot == found.slot) or _leads_to(use.op, use.slot, only)
                for use in value.uses
            ):
                only.add(value)
                if value.type.dtype in WIDE:
                    self.chosen[value] = found.facts(value)

    def explain(self, op: Op, context: PassContext) -> None:
        """Note which numbers keep an operation from becoming narrow whose operands fit."""
        if len(op.results) != 1 or op.results[0].type.dtype not in WIDE or not op.operands:
            return
        wide = [value for value in op.operands if value.type.dtype in WIDE]
        if not wide or not all(map(self.fits, wide)) or self.fits(op.results[0]):
            return
        known = self.ranges.facts(op.results[0])
        if op.name in _GROWING:
            reason = f"its numbers may be from {known.low} to {known.high}"
            context.miss(NarrowIntegers.name, op.location, reason)


def _leads_to(op: Op, slot: int, only: set[Value]) -> bool:
    if op.name in UNGUARDED or (op.name == "where" and slot == 0):
        return False
    return len(op.results) == 1 and op.results[0] in only


def _is_inside(known: Known) -> bool:
    return known.low >= LOW and known.high <= HIGH


class _Writer:
    """Makes operations again, in 32 bits."""

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self.narrow: dict[Value, Value] = {}
        self.widened: set[Value] = set()

    def write(self, units: Sequence[Unit]) -> None:
        """Make the operations of `units`, which are in the order of computing in each region."""
        order = {op: place for place, op in enumerate(self.choice.units)}
        units = sorted(units, key=lambda unit: order[unit.op])
        results = (unit.op.results[0] for unit in units)
        self.widened = {value for value in results if self.choice.is_widened(value)}
        for unit in units:
            self._write(unit)
        erase_dead_from([unit.op for unit in units])

    def _write(self, unit: Unit) -> None:
        op, (old,) = unit.op, unit.op.results
        assert op.region is not None
        build = Builder(op.region, before=op, location=_location(op), graph=op.graph)
        operands = [
            self._of(value, op) if slot in unit.slots else value
            for slot, value in enumerate(op.operands)
        ]
        new = _made(build, unit, operands)
        if not unit.gives:
            replace_value(old, new)
            return
        self.narrow[old] = new
        if old in self.widened:
            wide = _cast(build, new, old.type.dtype)
            self.narrow[wide] = new
            replace_value(old, wide)
        elif not new.name:
            new.name = old.name

    def _of(self, value: Value, reader: Op) -> Value:
        """A value in 32 bits, made before what reads it first."""
        if value not in self.narrow:
            home = value.owner if value.producer is None else value.producer.region
            anchor = reader
            while anchor.region is not home:
                assert anchor.region is not None
                assert anchor.region.parent is not None
                anchor = anchor.region.parent
            assert isinstance(home, Region)
            build = Builder(home, before=anchor, location=_location(reader), graph=reader.graph)
            self.narrow[value] = _converted(build, value)
        return self.narrow[value]


def _location(op: Op) -> Location:
    return Location.fused([op.location], by=NarrowIntegers.name)


def _cast(build: Builder, value: Value, to: DType) -> Value:
    return value if value.type.dtype is to else build.cast(value, to=to)


def _converted(build: Builder, value: Value) -> Value:
    """A value in 32 bits; where it is known, so is that."""
    op = value.producer
    if value.blob is not None:
        return build.const(value.blob.array.astype(np.int32))
    if op is not None and op.definition is DIMS:
        return build.op(DIMS, [], {**op.attrs, "dtype": NARROW}).result
    return _cast(build, value, NARROW)


def _made(build: Builder, unit: Unit, operands: Sequence[Value]) -> Value:
    op = unit.op
    if op.name == "cast":
        return _cast(build, operands[0], NARROW if unit.gives else op.result.type.dtype)
    attrs = dict(op.attrs)
    if op.name == "constant_of_shape" and isinstance(blob := attrs["value"], Blob):
        attrs["value"] = Blob.of(blob.array.astype(np.int32))
    type = op.result.type.with_dtype(NARROW) if unit.gives else op.result.type
    return build.op(
        op.definition, operands, attrs, names=op.operand_names, result_types=[type]
    ).result
