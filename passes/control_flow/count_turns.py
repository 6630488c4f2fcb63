"""count-turns: what a loop tells its region is known there, the number of the turn as an extent."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim, symbol
from leptonc.ir.graph import Graph, Op, Value
from leptonc.ir.ops.control import LOOP
from leptonc.ir.table import DIMS
from leptonc.passes.base import Pass
from leptonc.passes.context import PassContext
from leptonc.passes.contract import EXACT, Contract
from leptonc.passes.refine import replace_value


@dataclass(frozen=True)
class CountTurns(Pass):
    """Lets the region of each `loop` read the number of the turn as an extent, named by `turn`.

    Kernels then take it as an integer like other extents, slices that depend on it have known
    shapes, and no tensor is made of it in each turn. The condition that a region is given always
    holds, so it becomes a constant.
    """

    name: ClassVar[str] = "count-turns"
    numbers: ClassVar[Contract] = EXACT

    def run(self, graph: Graph, context: PassContext) -> None:
        """Rewrite the inputs of each region that something reads."""
        loops = [op for op in graph.walk() if op.definition is LOOP]
        taken = {str(name) for op in loops for name in op.attrs.get("turn") or ()}  # pyright: ignore
        for op in loops:
            number, condition = op.regions[0].inputs[:2]
            if condition.is_used and context.grant(self.name, op.location):
                truth = np.full(condition.type.extents, fill_value=True)
                replace_value(condition, _build(op, graph).const(truth))
            if number.is_used and context.grant(self.name, op.location):
                name = next(n for i in itertools.count() if (n := f"turn{i}") not in taken)
                taken.add(name)
                _count(op, number, symbol(name), graph)


def _count(op: Op, number: Value, turn: Dim, graph: Graph) -> None:
    """Read the number of the turn as an extent."""
    op.set_attr("turn", (turn,))
    attrs = {"value": (turn,), "shape": number.type.extents, "dtype": number.type.dtype}
    replace_value(number, _build(op, graph).op(DIMS, (), attrs).result)


def _build(op: Op, graph: Graph) -> Builder:
    """A builder at the start of a loop's region."""
    first = next(iter(op.regions[0]))
    return Builder(op.regions[0], before=first, location=op.location, graph=graph)
