"""eliminate-common-subexpressions: equal operations on equal operands are computed once."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Hashable, MutableMapping
from dataclasses import dataclass
from typing import ClassVar

from leptonc.ir.graph import Graph, Op, Region
from leptonc.ir.table import GROUP, RETURN, Trait
from leptonc.passes.base import Pass
from leptonc.passes.cleanup.equality import is_twin, key_of
from leptonc.passes.context import PassContext
from leptonc.passes.contract import EXACT, Contract
from leptonc.passes.refine import erase_dead_from, replace_value

Seen = MutableMapping[Hashable, list[Op]]


@dataclass(frozen=True)
class EliminateCommonSubexpressions(Pass):
    """Computes equal operations on equal operands once, and keeps equal constants once.

    What a region computes is used again in the regions inside it, never the other way round.
    Constants are compared bit by bit, after their type and a few of their elements agree.
    """

    name: ClassVar[str] = "eliminate-common-subexpressions"
    numbers: ClassVar[Contract] = EXACT

    def run(self, graph: Graph, context: PassContext) -> None:
        """Merge in program order."""
        _merge_in(graph, {}, context)


def _merge_in(region: Region, seen: Seen, context: PassContext) -> None:
    for op in region:
        for inner in op.regions:
            outside: Seen = {} if op.definition is GROUP else ChainMap({}, seen)
            _merge_in(inner, outside, context)
        if op.definition is RETURN or op.regions or op.definition.has(Trait.EFFECT):
            continue
        key = key_of(op)
        twin = next((other for other in seen.get(key, ()) if is_twin(op, other)), None)
        if twin is None:
            seen[key] = [*seen.get(key, ()), op]
        elif context.grant("eliminate-common-subexpressions", op.location):
            for old, new in zip(op.results, twin.results, strict=True):
                replace_value(old, new)
            erase_dead_from([op])
