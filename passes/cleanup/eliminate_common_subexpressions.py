"""eliminate-common-subexpressions: equal operations on equal operands are computed once."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Hashable, MutableMapping
from dataclasses import dataclass
from typing import ClassVar

from leptonc.ir.graph import Graph, Op, Region
from leptonc.ir.table import GROUP, RETURN, Trait
from leptonc.passes.base import Pass
from leptonc.passes.cleanup.equality import is_repeatable, is_twin, key_of
from leptonc.passes.cleanup.numbering import Numbering
from leptonc.passes.context import PassContext
from leptonc.passes.contract import EXACT, Contract
from leptonc.passes.refine import erase_dead_from, replace_value

Seen = MutableMapping[Hashable, list[Op]]
_NAME = "eliminate-common-subexpressions"


@dataclass(frozen=True)
class EliminateCommonSubexpressions(Pass):
    """Computes equal operations on equal operands once, and keeps equal constants once.

    What a region computes is used again in the regions inside it, never the other way round.
    Constants are compared bit by bit, after their type and a few of their elements agree. Choices
    and loops are equal where their operands are and what their regions give back is computed
    alike, in whatever order; those that check something or draw random numbers stay.
    """

    name: ClassVar[str] = _NAME
    numbers: ClassVar[Contract] = EXACT

    def run(self, graph: Graph, context: PassContext) -> None:
        """Merge in program order."""
        held = any(op.regions for op in graph)
        _Merge(Numbering() if held else None, context).within(graph, {}, 0)


class _Merge:
    def __init__(self, numbers: Numbering | None, context: PassContext) -> None:
        self.numbers, self.context = numbers, context

    def within(self, region: Region, seen: Seen, depth: int) -> None:
        """Merge in a region; inner regions first, so that equal ones are spelled alike."""
        for op in region:
            for inner in op.regions:
                outside: Seen = {} if op.definition is GROUP else ChainMap({}, seen)
                inside = self.numbers.enter(inner, depth) if self.numbers is not None else 0
                self.within(inner, outside, inside)
            if not self._merged(op, seen) and self.numbers is not None:
                self.numbers.note(op)

    def _merged(self, op: Op, seen: Seen) -> bool:
        if op.definition is RETURN or op.definition.has(Trait.EFFECT) or not is_repeatable(op):
            return False
        key = key_of(op) if self.numbers is None or not op.regions else self.numbers.key(op)
        twin = next((other for other in seen.get(key, ()) if is_twin(op, other)), None)
        if key is None or twin is None:
            if op.regions:
                self._explain(op, seen)
            if key is not None:
                seen[key] = [*seen.get(key, ()), op]
        elif self.context.grant("equal-regions" if op.regions else _NAME, op.location):
            for old, new in zip(op.results, twin.results, strict=True):
                replace_value(old, new)
            erase_dead_from([op])
            return True
        return False

    def _explain(self, op: Op, seen: Seen) -> None:
        """Say why an operation with regions is no twin of the last one on the same operands."""
        near = key_of(op)
        if near in seen and self.numbers is not None:
            effect = self.numbers.has_effect(op)
            reason = "it checks something or draws numbers" if effect else "the regions differ"
            self.context.miss("equal-regions", op.location, reason)
        seen[near] = [op]
