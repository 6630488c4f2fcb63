"""Functions of single words as tables, which come with a call: a program looks words up in them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim, symbol, symbols
from leptonc.ir.graph import Graph, Op, Value
from leptonc.ir.types import DType, TensorType
from leptonc.manifest import TextTable
from leptonc.passes.refine import replace_value

FUNCTIONS = frozenset({"string_case", "string_split"})
"""Operations that become look-ups in tables."""


class Tables:
    """Makes the tables of a graph: an input each, which the runtime fills in."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.made: dict[TextTable, tuple[Value, ...]] = {}
        self._taken = {value.name for value in graph.inputs}
        self._rows = self._symbol("words")

    def _symbol(self, wanted: str) -> Dim:
        """An extent that no other input has."""
        found = {name for value in self.graph.inputs for dim in value.type.shape
                 for name in symbols(dim)}  # fmt: skip
        while wanted in found:
            wanted += "_"
        return symbol(wanted)

    def _input(self, wanted: str, *more: Dim) -> Value:
        while wanted in self._taken:
            wanted += "_"
        self._taken.add(wanted)
        return self.graph.add_input(Value(TensorType(DType.I64, (self._rows, *more)), wanted))

    def replace(self, ops: Iterable[Op]) -> tuple[TextTable, ...]:
        """Look up what `ops` compute; the tables that takes, by their inputs."""
        for op in ops:
            if op.name == "string_case":
                self._case(op)
            else:
                self._split(op)
        return tuple(self.made)

    def _case(self, op: Op) -> None:
        action = op.str("action")
        at = next((t for t in self.made if t.function == action.lower()), None)
        if at is None:
            table = self._input(f"text.{action.lower()}")
            at = TextTable(table.name, action.lower())
            self.made[at] = (table,)
        (table,) = self.made[at]
        self._become(op, [self._builder(op).gather(table, op.operands[0])])

    def _split(self, op: Op) -> None:
        """The parts of words, of which as many columns are kept as the longest row has."""
        delimiter, maxsplit = op.attrs["delimiter"], op.attrs["maxsplit"]
        counts = self._input("text.counts")
        parts = self._input("text.parts", self._symbol("parts"))
        table = TextTable(
            parts.name, "split", counts.name,
            str(delimiter or ""), maxsplit if isinstance(maxsplit, int) else -1,
        )  # fmt: skip
        self.made[table] = (parts, counts)
        build, words = self._builder(op), op.operands[0]
        found, zero = build.gather(counts, words), build.const(np.array([0]))
        most = build.reduce_max(build.reshape(found, build.const(np.array([-1]))), keepdims=1)
        every = build.gather(parts, words)
        axis = build.const(np.array([words.type.rank]))
        kept = build.slice(every, zero, build.max(most, zero), axes=axis)
        self._become(op, [kept, found])

    @staticmethod
    def _builder(op: Op) -> Builder:
        assert op.region is not None
        return Builder(op.region, before=op, location=op.location, graph=op.graph)

    @staticmethod
    def _become(op: Op, values: list[Value]) -> None:
        for old, new in zip(op.results, values, strict=True):
            new.name = new.name or old.name
            replace_value(old, new)
        assert op.region is not None
        op.region.erase(op)
