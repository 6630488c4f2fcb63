"""inline-branches: of a choice that is known, the branch that is taken takes its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from leptonc.ir.graph import Graph, Op
from leptonc.ir.table import RETURN
from leptonc.passes.base import Pass
from leptonc.passes.constants import uniform
from leptonc.passes.context import PassContext
from leptonc.passes.contract import EXACT, Contract
from leptonc.passes.refine import erase_dead_from, refines, replace_value


@dataclass(frozen=True)
class InlineBranches(Pass):
    """Replaces an `if` whose condition is a constant by the operations of the branch it takes."""

    name: ClassVar[str] = "inline-branches"
    numbers: ClassVar[Contract] = EXACT

    def run(self, graph: Graph, context: PassContext) -> None:
        """Inline in program order; what is inlined may hold further choices."""
        waiting = [op for op in graph.walk() if op.name == "if"]
        while waiting:
            op = waiting.pop()
            if op.region is None:
                continue
            chosen = _chosen(op)
            if chosen is not None and context.grant(self.name, op.location):
                _inline(op, chosen)


def _chosen(op: Op) -> int | None:
    """Which region runs; None where that is not known or gives a less known type."""
    condition = uniform(op.operands[0])
    if condition is None:
        return None
    index = 0 if condition else 1
    pairs = zip(op.results, op.regions[index].outputs, strict=True)
    return index if all(refines(new.type, old.type) for old, new in pairs) else None


def _inline(op: Op, index: int) -> None:
    region, body = op.region, op.regions[index]
    assert region is not None
    outputs = body.outputs
    for inner in body:
        if inner.definition is not RETURN:
            region.move_before(op, inner)
    for old, new in zip(op.results, outputs, strict=True):
        replace_value(old, new)
    feeders = [value.producer for value in op.operands if value.producer is not None]
    region.erase(op)
    erase_dead_from(feeders)
