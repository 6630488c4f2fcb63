"""recognize-recurrent: products and functions that are one step of a recurrent layer become it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.graph import Graph, Value
from leptonc.ir.location import Location
from leptonc.ir.ops.recurrent_packed import GATES
from leptonc.ir.types import DType
from leptonc.passes.base import Pass
from leptonc.passes.context import PassContext
from leptonc.passes.contract import REASSOCIATES, Contract
from leptonc.passes.recurrent.cells import Cell, cell_of
from leptonc.passes.recurrent.gates import Sums
from leptonc.passes.recurrent.steps import as_step, without_step
from leptonc.passes.refine import erase_dead_from, replace_value


@dataclass(frozen=True)
class RecognizeRecurrent(Pass):
    """Turns a step of an LSTM or of gated recurrent units into a layer of one step.

    Its gates may be summed from products of the input and of the state, of both joined, of all
    gates at once or of each by itself, with their biases anywhere, and in any order. Weights are
    put together at compile time. `join-steps` makes one layer of the steps that follow each other.
    """

    name: ClassVar[str] = "recognize-recurrent"
    numbers: ClassVar[Contract] = REASSOCIATES

    def run(self, graph: Graph, context: PassContext) -> None:
        """Recognise all steps, then build them: one step tells what another's state is."""
        cells = [cell for op in graph.walk() if (cell := cell_of(op)) is not None]
        maker = _Maker(cells, graph)
        for cell in cells:
            reason = maker.reason(cell)
            if reason is not None:
                context.miss(self.name, cell.last.location, reason)
            elif context.grant(self.name, cell.last.location):
                maker.make(cell)


class _Maker:
    """Builds layers; cells that read the same constants share the weights made of them."""

    def __init__(self, cells: list[Cell], graph: Graph) -> None:
        self.graph = graph
        self.given = {cell.last.result for cell in cells}
        self.constants: dict[Hashable, Value] = {}
        self.recurrent: set[Value] = set()
        for cell in cells:
            state = self._evident(cell)
            if state is not None:
                self.recurrent |= cell.sums.read(state)

    @staticmethod
    def reason(cell: Cell) -> str | None:
        """Why a cell stays as it is."""
        sources = list(cell.sums.weights)
        if any(source.type.dtype is not DType.F32 for source in sources):
            return "its element type is not f32"
        if any(source.type.rank != 2 for source in sources):
            return "it is not one row for each example"
        if any(source.type.shape[0] != cell.state.type.shape[0] for source in sources):
            return "the numbers of examples differ"
        if not any(source.type == cell.state.type for source in sources):
            return "no product reads a state"
        gates = GATES[cell.layer]
        if any(len(given) < gates for given in cell.sums.weights.values()):
            return "a gate lacks a product"  # a weight of 0 would make NaNs of infinities
        return None

    def _evident(self, cell: Cell) -> Value | None:
        """Which of the two that are multiplied is the state; None where both may be."""
        if cell.recurrent is not None:
            return cell.recurrent
        fitting = [source for source in cell.sums.weights if source.type == cell.state.type]
        if len(fitting) == 1:
            return fitting[0]
        told = [
            source for source in fitting
            if source in self.given or source.owner is not None or _beside(source, cell.state)
        ]  # fmt: skip
        return told[0] if len(told) == 1 else None

    def _state_of(self, cell: Cell) -> Value:
        evident = self._evident(cell)
        if evident is not None:
            return evident
        fitting = [source for source in cell.sums.weights if source.type == cell.state.type]
        known = [
            source for source in fitting if not self.recurrent.isdisjoint(cell.sums.read(source))
        ]
        return (known or fitting)[0]

    def make(self, cell: Cell) -> None:
        """Put the layer in place of the step."""
        first = cell.first_exit
        assert first.region is not None
        parts = (*cell.sums.ops, *cell.exits)
        location = Location.fused([op.location for op in parts], by="recognize-recurrent")
        build = Builder(first.region, before=first, location=location, graph=self.graph)
        h = self._state_of(cell)
        (x,) = (source for source in cell.sums.weights if source is not h)
        names = ["x", "w", "r", "bias", "initial_h"]
        operands = [as_step(build, x), *self._constants(build, cell, x, h), as_step(build, h)]
        attrs: dict[str, int] = {"hidden_size": cell.sums.units}
        if cell.c is not None:
            names.append("initial_c")
            operands.append(as_step(build, cell.c))
        if cell.linear_before_reset:
            attrs["linear_before_reset"] = 1
        results = build.op(cell.layer, operands, attrs, names=names).results
        exits = [(cell.last, results[1])]
        if cell.cell is not None:
            exits.append((cell.cell, results[2]))
        made = [(op, without_step(build, value, op.result.type.shape)) for op, value in exits]
        for op, value in made:
            value.name = value.name or op.result.name
            replace_value(op.result, value)
            erase_dead_from([op])

    def _constants(self, build: Builder, cell: Cell, x: Value, h: Value) -> list[Value]:
        """The weights and the bias, made once of the same constants."""
        gates, sums = GATES[cell.layer], cell.sums
        dtype = x.type.dtype.numpy
        recurrent = np.zeros(gates * sums.units, dtype)
        if cell.recurrent_bias is not None:
            recurrent[-sums.units :] = cell.recurrent_bias
        bias = np.concatenate([sums.bias(gates, dtype), recurrent])[None]
        key = (build.region, bias.tobytes())
        row = self.constants.get(key) or self._kept(key, build.const(bias))
        return [self._weight(build, sums, x, gates), self._weight(build, sums, h, gates), row]

    def _weight(self, build: Builder, sums: Sums, source: Value, gates: int) -> Value:
        key = (build.region, tuple(sums.weights[source].items()))
        known = self.constants.get(key)
        if known is not None:
            return known
        array = np.ascontiguousarray(sums.packed(source, gates), source.type.dtype.numpy)
        return self._kept(key, build.const(array))

    def _kept(self, key: Hashable, value: Value) -> Value:
        self.constants[key] = value
        return value


def _beside(source: Value, state: Value) -> bool:
    """True where both are parts of one tensor, as states are that are handed on together."""
    a, b = source.producer, state.producer
    if a is None or b is None or not a.operands or not b.operands:
        return False
    return a.name == b.name and a.operands[0] is b.operands[0]
