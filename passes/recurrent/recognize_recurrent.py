"""recognize-recurrent: products and functions that are one step of a recurrent layer become it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.dims import is_positive
from leptonc.ir.graph import Graph, Op, Value
from leptonc.ir.location import Location
from leptonc.ir.ops.recurrent_packed import GATES
from leptonc.ir.types import DType
from leptonc.passes.base import Pass
from leptonc.passes.constants import is_exactly
from leptonc.passes.context import PassContext
from leptonc.passes.contract import REASSOCIATES, Contract
from leptonc.passes.control_flow.regions import Turning
from leptonc.passes.recurrent.cells import Cell, cell_of
from leptonc.passes.recurrent.gates import Source, Weight, packed
from leptonc.passes.recurrent.picked import Picked, Picker
from leptonc.passes.recurrent.steps import as_step, is_zeros, without_step
from leptonc.passes.refine import erase_dead_from, replace_value


@dataclass(frozen=True)
class RecognizeRecurrent(Pass):
    """Turns a step of an LSTM or of gated recurrent units into a layer of one step.

    Its gates may be summed from products of the input and of the state, of both joined, of all
    gates at once or of each by itself, with their biases anywhere, and in any order. The product of
    the input may be that of all steps, made before them, of which each reads a part. Weights are
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
        self.picker = Picker(graph)
        self.shared = _read_elsewhere(cells)
        self.given = {cell.last.result for cell in cells}
        self.taken = {source for cell in cells for source in cell.sums.weights}
        self.constants: dict[Hashable, Value] = {}
        self.replaced: dict[Value, Value] = {}
        self.recurrent: set[Value] = set()
        self.lent: dict[Hashable, dict[int, Weight]] = {}
        for cell in cells:
            state = self._evident(cell)
            if state is not None:
                self.recurrent |= cell.sums.read(state)
        for cell in cells:
            if len(cell.sums.weights) == 2:
                h = self._state_of(cell)
                self.lent.setdefault(_input_weights(cell, h), cell.sums.weights[h])

    def reason(self, cell: Cell) -> str | None:
        """Why a cell stays as it is."""
        sources = list(cell.sums.weights)
        if any(source.type.dtype is not DType.F32 for source in sources):
            return "its element type is not f32"
        if any(source.type.rank != 2 for source in sources):
            return "it is not one row for each example"
        if any(source.type.shape[0] != cell.state.type.shape[0] for source in sources):
            return "the numbers of examples differ"
        if len(sources) == 1 and _input_weights(cell, None) not in self.lent:
            return "no product reads a state"
        if len(sources) == 2 and not _fitting(cell):
            return "no product reads a state"
        gates = GATES[cell.layer]
        if any(len(given) < gates for given in cell.sums.weights.values()):
            return "a gate lacks a product"  # a weight of 0 would make NaNs of infinities
        if cell.sums.before:
            return self._reason_before(cell)
        if cell.layer == "gru" and cell.state.type.shape[0] != 1 and not self._goes_on(cell):
            return "one step of several examples by itself is faster as products"
        return None

    def _reason_before(self, cell: Cell) -> str | None:
        """Why a cell stays that reads a part of the products of all steps."""
        if not self.shared.isdisjoint(cell.sums.before):
            return "the product of all steps is read elsewhere"
        if not self._goes_on(cell):
            return "one step by itself reads a part of a product"
        region = cell.last.region
        parent = region.parent if region is not None else None
        return None if parent is None or parent.name != "loop" else _reason_in(parent, cell)

    def _goes_on(self, cell: Cell) -> bool:
        """True where steps come before or behind, so that they make one layer."""
        region = cell.last.region
        parent = region.parent if region is not None else None
        if parent is not None and parent.name in ("loop", "scan"):
            return True
        follows = cell.state in self.given or not self.given.isdisjoint(_fitting(cell))
        return follows or cell.last.result in self.taken

    def _evident(self, cell: Cell) -> Source | None:
        """Which of the two that are multiplied is the state; None where both may be."""
        if cell.recurrent is not None:
            return cell.recurrent
        fitting = _fitting(cell)
        if len(fitting) == 1:
            return fitting[0]
        told = [
            source for source in fitting
            if source in self.given or source.owner is not None or _beside(source, cell.state)
        ]  # fmt: skip
        return told[0] if len(told) == 1 else None

    def _state_of(self, cell: Cell) -> Source:
        """Which of the two that are multiplied is taken for the state."""
        evident = self._evident(cell)
        if evident is not None:
            return evident
        fitting = _fitting(cell)
        known = [
            source for source in fitting if not self.recurrent.isdisjoint(cell.sums.read(source))
        ]
        return (known or fitting or list(cell.sums.weights))[0]

    def make(self, cell: Cell) -> None:
        """Put the layer in place of the step."""
        first = cell.first_exit
        h = self._state_of(cell) if len(cell.sums.weights) == 2 else None
        (x,) = (source for source in cell.sums.weights if source is not h)
        rows = self.picker.rows(x) if isinstance(x, Picked) else self._now(x)
        assert first.region is not None
        parts = (*cell.sums.ops, *cell.exits)
        location = Location.fused([op.location for op in parts], by="recognize-recurrent")
        build = Builder(first.region, before=first, location=location, graph=self.graph)
        names = ["x", "w", "r", "bias"]
        operands = [as_step(build, rows), *self._constants(build, cell, x, h)]
        for name, state in (("initial_h", h), ("initial_c", cell.c)):
            assert not isinstance(state, Picked)
            if state is not None and not is_exactly(state, 0.0):
                names.append(name)
                operands.append(as_step(build, self._now(state)))
        attrs: dict[str, int] = {"hidden_size": cell.sums.units}
        if cell.linear_before_reset:
            attrs["linear_before_reset"] = 1
        results = build.op(cell.layer, operands, attrs, names=names).results
        exits = [(cell.last, results[1])]
        if cell.cell is not None:
            exits.append((cell.cell, results[2]))
        made = [(op, without_step(build, value, op.result.type.shape)) for op, value in exits]
        for op, value in made:
            value.name = value.name or op.result.name
            self.replaced[op.result] = value
            replace_value(op.result, value)
            erase_dead_from([op])

    def _now(self, value: Value) -> Value:
        """What stands for a value that a step gave."""
        return self.replaced.get(value, value)

    def _constants(self, build: Builder, cell: Cell, x: Source, h: Source | None) -> list[Value]:
        """The weights and the bias, made once of the same constants."""
        gates, sums = GATES[cell.layer], cell.sums
        dtype = x.type.dtype.numpy
        recurrent = np.zeros(gates * sums.units, dtype)
        if cell.recurrent_bias is not None:
            recurrent[-sums.units :] = cell.recurrent_bias
        bias = np.concatenate([sums.bias(gates, dtype), recurrent])[None]
        key = (build.region, bias.tobytes())
        row = self.constants.get(key) or self._kept(key, build.const(bias))
        given = self.lent[_input_weights(cell, None)] if h is None else sums.weights[h]
        both = (sums.weights[x], given)
        return [*(self._weight(build, each, gates, dtype) for each in both), row]

    def _weight(
        self, build: Builder, given: Mapping[int, Weight], gates: int, dtype: np.dtype[Any]
    ) -> Value:
        key = (build.region, *(given[gate] for gate in range(gates)))
        known = self.constants.get(key)
        if known is not None:
            return known
        return self._kept(key, build.const(np.ascontiguousarray(packed(given, gates), dtype)))

    def _kept(self, key: Hashable, value: Value) -> Value:
        self.constants[key] = value
        return value


def _input_weights(cell: Cell, h: Source | None) -> Hashable:
    """What the input of a cell is multiplied with: equal for the steps of one layer."""
    (x,) = (source for source in cell.sums.weights if source is not h)
    gates = range(GATES[cell.layer])
    return (cell.layer, cell.linear_before_reset, *(cell.sums.weights[x].get(g) for g in gates))


def _reason_in(loop: Op, cell: Cell) -> str | None:
    """Why a loop would not become a layer, so that its turns had to multiply one step each."""
    turning, states = Turning(loop), 1 if cell.cell is None else 2
    if len(turning.starts) != states:
        return "its loop carries other values than the states"
    for source in cell.sums.weights:
        if isinstance(source, Picked):
            read = source.read_at(turning.region.inputs[0])
            if read is None:
                return "its turns do not read one part after another"
            zeros = cell.layer == "lstm" and all(is_zeros(start) for start in turning.starts)
            if not zeros and not is_positive(read):
                return "its loop may not turn at all"
    return None


def _fitting(cell: Cell) -> list[Value]:
    """What is multiplied and may be the state of a cell."""
    return [
        source for source in cell.sums.weights
        if not isinstance(source, Picked) and source.type == cell.state.type
    ]  # fmt: skip


def _read_elsewhere(cells: Iterable[Cell]) -> set[Op]:
    """What is computed before the steps, and read by more than the steps."""
    before = {op: None for cell in cells for op in cell.sums.before}
    inside = before.keys() | {op for cell in cells for op in cell.sums.ops}
    return {
        op for op in before
        if any(reader not in inside for value in op.results for reader in value.users)
    }  # fmt: skip


def _beside(source: Value, state: Value) -> bool:
    """True where both are parts of one tensor, as states are that are handed on together."""
    a, b = source.producer, state.producer
    if a is None or b is None or not a.operands or not b.operands:
        return False
    return a.name == b.name and a.operands[0] is b.operands[0]
