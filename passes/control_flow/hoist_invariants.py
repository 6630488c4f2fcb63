"""hoist-invariants: what is the same in every turn of a loop is computed once, before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from leptonc.ir.dims import symbols
from leptonc.ir.graph import Graph, Op, Region, Value
from leptonc.ir.table import DIMS, GROUP, RETURN
from leptonc.passes.base import Pass, option
from leptonc.passes.context import PassContext
from leptonc.passes.contract import EXACT, Contract
from leptonc.passes.control_flow.regions import Turning, reads, symbols_of
from leptonc.passes.control_flow.speculation import cannot_fail, work_of
from leptonc.passes.refine import has_effect


@dataclass(frozen=True)
class HoistInvariants(Pass):
    """Moves operations out of the region of a `loop` or `scan` that read nothing a turn changes.

    A loop that is known to turn at least once gives up all of them. From another only those come
    that cannot fail and that cost at most `most_work`: a loop that never turns would not have run
    them. Operations with an effect stay, as do those whose extents are bound inside the loop, and
    what stands in a branch inside it, which a turn may not reach.
    """

    name: ClassVar[str] = "hoist-invariants"
    numbers: ClassVar[Contract] = EXACT
    most_work: int = option(
        65_536, "elements that may be computed in vain where a loop may not turn at all"
    )

    def run(self, graph: Graph, context: PassContext) -> None:
        """Inner loops first, so that what they give up can leave the outer ones too."""
        if any(op.name in ("loop", "scan") for op in graph.walk()):
            known = {name for value in graph.inputs for name in _symbols(value)}
            _Hoisting(self.most_work, context).visit(graph, known)


def _symbols(value: Value) -> set[str]:
    return {name for dim in value.type.shape for name in symbols(dim)}


@dataclass(frozen=True)
class _Hoisting:
    most_work: int
    context: PassContext

    def visit(self, region: Region, known: set[str]) -> None:
        """Hoist in all loops of a region; `known` are the symbols that are bound so far."""
        bound = set(known)
        for op in region:
            for inner in op.regions:
                if op.definition is not GROUP:
                    self.visit(inner, bound)
            if op.name in ("loop", "scan"):
                self._hoist(op, bound)
            bound |= symbols_of(op) if not op.regions else _result_symbols(op)

    def _hoist(self, op: Op, bound: set[str]) -> None:
        loop = Turning(op)
        turns = loop.turns
        surely = turns is not None and turns > 0
        inside: set[Value] = set(loop.region.inputs)
        seen = {name for value in loop.region.inputs for name in _symbols(value)} - bound
        seen |= {str(name) for name in op.attrs.get("turn") or ()}  # pyright: ignore
        for inner in loop.region:
            if inner.definition is RETURN:
                break
            changing = any(value in inside for value in reads(inner)) or has_effect(inner)
            spoken = symbols_of(inner)
            unbound = inner.definition is DIMS and not spoken <= bound
            if changing or unbound or spoken & seen or self._is_kept(inner, surely=surely):
                inside.update(inner.results)
                seen |= spoken - bound
                continue
            assert op.region is not None
            op.region.move_before(op, inner)
            bound |= spoken

    def _is_kept(self, op: Op, *, surely: bool) -> bool:
        """True where it costs more, or risks more, to run `op` once than to leave it."""
        reason = ""
        if not surely and not cannot_fail(op):
            reason = f"{op.name} may fail, and the loop may not turn at all"
        elif not surely and work_of(op) > self.most_work:
            reason = f"{op.name} is expensive, and the loop may not turn at all"
        if reason:
            self.context.miss("hoist-invariants", op.location, reason)
            return True
        return not self.context.grant("hoist-invariants", op.location)


def _result_symbols(op: Op) -> set[str]:
    return {name for value in op.results for name in _symbols(value)}
