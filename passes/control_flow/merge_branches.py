"""merge-branches: what both branches of a choice compute is computed once, before it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

from leptonc.ir.graph import Graph, Op, Region, Value
from leptonc.ir.table import RETURN
from leptonc.passes.base import Pass
from leptonc.passes.cleanup.equality import is_twin, key_of
from leptonc.passes.context import PassContext
from leptonc.passes.contract import EXACT, Contract
from leptonc.passes.control_flow.regions import inner_first
from leptonc.passes.refine import erase_dead_from, has_effect, refines, replace_value


@dataclass(frozen=True)
class MergeBranches(Pass):
    """Moves operations that stand in both branches of an `if`, on equal operands, before it.

    One of the branches runs them anyway, so this costs nothing and lets nothing fail that did not.
    Operations with an effect, and those that hold regions, stay. What both branches give back
    is no longer read from the choice.
    """

    name: ClassVar[str] = "merge-branches"
    numbers: ClassVar[Contract] = EXACT

    def run(self, graph: Graph, context: PassContext) -> None:
        """Inner choices first: what they give up may stand in both branches of an outer one."""
        for op in inner_first(graph, "if"):
            _Merge(op, context).run()


class _Merge:
    def __init__(self, op: Op, context: PassContext) -> None:
        self.op, self.context = op, context
        self.taken, self.other = op.regions
        self.waiting: dict[Hashable, list[Op]] = {}

    def run(self) -> None:
        """Move in program order, so that readers of what moved can follow it."""
        for op in self.other:
            self._offer(op)
        for op in self.taken:
            if self._can_move(op, self.taken):
                twin = self._twin(op)
                if twin is not None and self.context.grant("merge-branches", op.location):
                    self._move(op, twin)
        self._give_directly()

    def _can_move(self, op: Op, region: Region) -> bool:
        if op.definition is RETURN or op.regions or has_effect(op):
            return False
        return not any(_stands_in(value, region) for value in op.operands)

    def _offer(self, op: Op) -> None:
        if self._can_move(op, self.other):
            self.waiting.setdefault(key_of(op), []).append(op)

    def _twin(self, op: Op) -> Op | None:
        found = self.waiting.get(key_of(op), ())
        return next((each for each in found if each.region is not None and is_twin(each, op)), None)

    def _move(self, op: Op, twin: Op) -> None:
        assert self.op.region is not None
        self.op.region.move_before(self.op, op)
        readers = [reader for value in twin.results for reader in value.users]
        for old, new in zip(twin.results, op.results, strict=True):
            replace_value(old, new)
        erase_dead_from([twin])
        for reader in dict.fromkeys(readers):
            if reader.region is self.other:
                self._offer(reader)

    def _give_directly(self) -> None:
        """Read what both branches give back from where it is."""
        pairs = zip(self.op.results, self.taken.outputs, self.other.outputs, strict=True)
        for result, first, second in pairs:
            same = first is second and refines(first.type, result.type)
            if same and result.is_used and self.context.grant("same-result", self.op.location):
                replace_value(result, first)


def _stands_in(value: Value, region: Region) -> bool:
    return value.owner is region or (value.producer is not None and value.producer.region is region)
