"""eliminate-dead-code: operations that nothing reads are erased."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from leptonc.ir.graph import Graph, Region
from leptonc.ir.table import RETURN
from leptonc.passes.base import Pass
from leptonc.passes.context import PassContext
from leptonc.passes.contract import EXACT, Contract
from leptonc.passes.refine import has_effect


@dataclass(frozen=True)
class EliminateDeadCode(Pass):
    """Erases operations whose results nothing reads, in nested regions too."""

    name: ClassVar[str] = "eliminate-dead-code"
    numbers: ClassVar[Contract] = EXACT

    def run(self, graph: Graph, context: PassContext) -> None:
        """Erase from the end, so that whole chains go."""
        _erase_in(graph, context)


def _erase_in(region: Region, context: PassContext) -> None:
    for op in reversed(region):
        if op.definition is RETURN:
            continue
        used = any(value.is_used for value in op.results)
        if not used and not has_effect(op) and context.grant("eliminate-dead-code", op.location):
            region.erase(op)
            continue
        for inner in op.regions:
            _erase_in(inner, context)
