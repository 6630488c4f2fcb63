"""group-operations: operations that become one kernel are put into one group."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from leptonc.ir.build import Builder
from leptonc.ir.graph import Graph, Op, Region, Value
from leptonc.ir.location import Location
from leptonc.ir.table import GROUP
from leptonc.passes.base import Pass, option
from leptonc.passes.clone import clone_op, clone_value
from leptonc.passes.context import PassContext
from leptonc.passes.contract import EXACT, Contract
from leptonc.passes.fusion.kinds import Kind, inputs_of, moves_inside
from leptonc.passes.fusion.limits import FusionLimits
from leptonc.passes.fusion.plan import Group, Planner
from leptonc.passes.refine import erase_dead_from


@dataclass(frozen=True)
class GroupOperations(Pass):
    """Puts every computing operation into a `group`; a group becomes one kernel.

    Chains of elementwise operations, and copies such as `transpose` among them, become one group.
    A product or a reduction takes the elementwise operations behind it, a reduction those before
    it as well. A product also takes cheap operations on single numbers that what is behind it
    reads. Work that would have to be done again for each reader stays outside, and so do
    `reshape` and its like at the ends of a group, where they cost nothing. A cheap operation on one
    tensor is computed in each kernel that reads it, if reading its operand instead costs no more.
    What a group of elementwise operations has to store for others is one more result of it. The
    kind of a group is ``elementwise``, ``reduction``, ``product`` or ``opaque``. Constants, `dims`
    and operations with regions stay outside; single numbers and extents are copied into the groups
    that read them.
    """

    name: ClassVar[str] = "group-operations"
    numbers: ClassVar[Contract] = EXACT
    fuse: bool = option(True, "put several operations into one group")

    def run(self, graph: Graph, context: PassContext) -> None:
        """Group the operations of each region that is no group itself."""
        limits = context.facts.get(FusionLimits, FusionLimits())
        for region in list(_regions(graph)):
            for group in Planner(region, limits).plan(fuse=self.fuse):
                if not context.grant(self.name, group.exit.location):
                    return
                _build(group)


def _regions(region: Region) -> Iterator[Region]:
    yield region
    for op in region:
        if op.definition is not GROUP:
            for inner in op.regions:
                yield from _regions(inner)


def _build(plan: Group) -> None:
    """Replace the operations of `plan` by one group that stands where its first output stood."""
    ops, region = plan.computed, plan.exit.region
    assert region is not None
    outside = inputs_of(ops, plan.numbers)
    inputs = [clone_value(value) for value in outside]
    body = Region(inputs)
    values: dict[Value, Value] = dict(zip(outside, inputs, strict=True))
    for op in ops:
        for slot, value in enumerate(op.operands):
            if value not in values and moves_inside(op, slot) and value.producer is not None:
                body.append(clone_op(value.producer, values))
        body.append(clone_op(op, values))
    exit = plan.exit
    results = [value for value in exit.results if value.is_used] or list(exit.results[:1])
    results += [op.result for op in plan.outputs]
    Builder(body, location=exit.location).return_(*(values[value] for value in results))
    location = Location.fused((op.location for op in ops), by="group-operations")
    kind = Kind.ELEMENTWISE if plan.kind is Kind.INJECTIVE else plan.kind
    first = plan.outputs[0] if plan.outputs else exit
    build = Builder(region, before=first, location=location)
    group = build.op(GROUP, outside, {"kind": kind.value}, regions=[body])
    for old, new in zip(results, group.results, strict=True):
        new.name, new.content = old.name, old.content
        old.replace_uses_with(new)
    _erase(plan.ops)


def _erase(ops: list[Op]) -> None:
    feeders = [value.producer for op in ops for value in op.operands if value.producer is not None]
    for op in reversed(ops):
        if op.region is not None:
            op.region.erase(op)
    erase_dead_from(feeders)
