"""select-branches: a choice between two small computations computes both and selects elements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.graph import Graph, Op, Value
from leptonc.ir.location import Location
from leptonc.ir.table import CONST, RETURN
from leptonc.ir.types import DType
from leptonc.passes.base import Pass, option
from leptonc.passes.context import PassContext
from leptonc.passes.contract import EXACT, Contract
from leptonc.passes.control_flow.regions import inner_first
from leptonc.passes.control_flow.speculation import cannot_fail, work_of
from leptonc.passes.refine import erase_dead_from, replace_value


@dataclass(frozen=True)
class SelectBranches(Pass):
    """Replaces an `if` by the operations of both branches and a `where` for each result.

    This is done where nothing in the branches can fail or has an effect, both give tensors of the
    same known extents, and all of it together is less work than to enter a branch.
    """

    name: ClassVar[str] = "select-branches"
    numbers: ClassVar[Contract] = EXACT
    most_work: int = option(4096, "elements that both branches together may compute and select")
    most_operations: int = option(4, "operations that both branches together may have")

    def run(self, graph: Graph, context: PassContext) -> None:
        """Inner choices first; an outer one holds their operations then."""
        for op in inner_first(graph, "if"):
            reason = self._reason(op)
            if reason is not None:
                context.miss(self.name, op.location, reason)
            elif context.grant(self.name, op.location):
                _select(op, graph)

    def _reason(self, op: Op) -> str | None:
        """Why the choice stays; None where it goes."""
        inside = [each for region in op.regions for each in region if each.definition is not RETURN]
        risky = next((each for each in inside if not cannot_fail(each)), None)
        if risky is not None:
            return f"{risky.name} may fail, or must not run in vain"
        count = sum(each.definition is not CONST for each in inside)
        if count > self.most_operations:
            return f"the branches have {count} operations"
        for result, *given in zip(op.results, *(each.outputs for each in op.regions), strict=True):
            if any(value.type != result.type for value in given) or not result.type.is_static:
                return "the branches give tensors of extents that differ or are not known"
            if result.type.dtype is DType.STR or result.type.dtype.is_narrow:
                return f"no kernel selects {result.type.dtype} elements"
        given = sum(float(np.prod(value.type.extents)) for value in op.results)
        work = given + sum(work_of(each) for each in inside)
        return None if work <= self.most_work else f"both branches cost {work:g} elements"


def _select(op: Op, graph: Graph) -> None:
    assert op.region is not None
    location = Location.fused([op.location], by="select-branches")
    build = Builder(op.region, before=op, location=location, graph=graph)
    outputs = [region.outputs for region in op.regions]
    for region in op.regions:
        for inner in region:
            if inner.definition is not RETURN:
                op.region.move_before(op, inner)
    condition = op.operands[0]
    if condition.type.rank and any(value.is_used for value in op.results):
        condition = build.reshape(condition, build.const(np.zeros(0, np.int64)))
    for result, taken, other in zip(op.results, *outputs, strict=True):
        if result.is_used:
            same = taken is other
            chosen = taken if same else build.where(condition, taken, other)
            _rename(chosen, result)
            replace_value(result, chosen)
    feeders = [value.producer for value in op.operands if value.producer is not None]
    op.region.erase(op)
    erase_dead_from([*build.made, *feeders])


def _rename(new: Value, old: Value) -> None:
    new.name = new.name or old.name
