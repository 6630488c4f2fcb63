"""What a gate of a recurrent cell is the sum of: products with constant weights, and biases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.graph import Op, Value
from leptonc.passes.constants import array_of, integers
from leptonc.passes.recurrent.picked import MOST_PICKS, Picked, row_wise

MOST_OPERATIONS = 64
"""A cell has fewer; this bounds how deep sums are followed."""

Source = Value | Picked
"""What is multiplied in a step."""


@dataclass(frozen=True)
class Weight:
    """Part of a constant: some rows, one for each input, and some columns, one for each unit."""

    constant: Value
    transposed: bool
    rows: tuple[int, int]
    columns: tuple[int, int]

    def array(self) -> Array:
        """Its elements, units first."""
        data = array_of(self.constant)
        assert data is not None
        whole = data if self.transposed else data.T
        return whole[slice(*self.columns), slice(*self.rows)]


@dataclass
class Sums:
    """The sums that gates are of: weights by what is multiplied and by gate, biases by gate.

    `ops` are the operations that stand for them, in the order in which they were met, and `before`
    those of all steps at once, of which parts are picked.
    """

    units: int
    weights: dict[Source, dict[int, Weight]] = field(
        default_factory=dict[Source, dict[int, Weight]]
    )
    biases: dict[int, Array] = field(default_factory=dict[int, Array])
    ops: dict[Op, None] = field(default_factory=dict[Op, None])
    before: dict[Op, None] = field(default_factory=dict[Op, None])

    def add(self, gate: int, value: Value, start: int = 0, picks: tuple[Value, ...] = ()) -> bool:
        """Take in what `value`, from column `start` on, is the sum of; False if it is none.

        `picks` are what moved and selected its rows.
        """
        op, row = value.producer, row_of(value, start + self.units)
        if row is not None:
            self._add_bias(gate, row[start:])
            return True
        if op is None or len(self.ops) + len(self.before) > MOST_OPERATIONS:
            return False
        met = self.before if picks else self.ops
        source = _source_of_part(op, value)
        if source is not None:
            met[op] = None
            return self.add(gate, source[0], start + source[1], picks)
        if op.name == "add":
            met[op] = None
            return self._add_sum(gate, op, start, picks)
        if op.name == "linear":
            met[op] = None
            return self._add_product(gate, op, start, picks)
        rows = row_wise(value)
        if rows is None or len(picks) == MOST_PICKS:
            return False
        met[op] = None
        return self.add(gate, rows, start, (*picks, value))

    def _add_sum(self, gate: int, op: Op, start: int, picks: tuple[Value, ...]) -> bool:
        for value in op.operands:
            row = row_of(value, start + self.units)
            if row is None and value.type != op.result.type:
                return False
        return all(self.add(gate, value, start, picks) for value in op.operands)

    def _add_product(self, gate: int, op: Op, start: int, picks: tuple[Value, ...]) -> bool:
        bias, weight = op.operand("bias"), array_of(op.operands[1])
        row = array_of(bias) if bias is not None else None
        if weight is None or (bias is not None and row is None):
            return False
        transposed, columns = bool(op.attrs["transposed"]), (start, start + self.units)
        if columns[1] > weight.shape[0 if transposed else 1]:
            return False
        source, begin = op.operands[0], 0
        parts = (Picked.of(op, picks),) if picks else _joined(source)
        for part in parts:
            width = part.type.shape[-1]
            if not isinstance(width, int):
                return False
            of_gate = self.weights.setdefault(part, {})
            if gate in of_gate:
                return False
            rows = (begin, begin + width)
            of_gate[gate] = Weight(op.operands[1], transposed, rows, columns)
            begin += width
        if len(parts) > 1 and source.producer is not None:
            self.ops[source.producer] = None
        if row is not None:
            self._add_bias(gate, row[start : start + self.units])
        return bool(parts)

    def _add_bias(self, gate: int, row: Array) -> None:
        # in double precision, so that the order and what was summed before make no difference
        self.biases[gate] = self.biases.get(gate, np.zeros(self.units)) + row

    def take(self, other: Sums, source: Source, known_as: Source) -> bool:
        """Take in what `other` is the sum of, where `source` is multiplied as `known_as`."""
        for value, given in other.weights.items():
            mine = self.weights.setdefault(known_as if value is source else value, {})
            if not mine.keys().isdisjoint(given):
                return False
            mine.update(given)
        for gate, row in other.biases.items():
            self._add_bias(gate, row)
        self.ops.update(other.ops)
        self.before.update(other.before)
        return True

    def read(self, source: Source) -> set[Value]:
        """The constants that `source` is multiplied with."""
        return {weight.constant for weight in self.weights[source].values()}

    def bias(self, gates: int, dtype: np.dtype[Any]) -> Array:
        """The biases of one gate after another."""
        empty = np.zeros(self.units)
        rows = [self.biases.get(gate, empty) for gate in range(gates)]
        return np.concatenate(rows).astype(dtype)


def packed(given: Mapping[int, Weight], gates: int) -> Array:
    """The weights of what is multiplied, as ONNX has them: gate by gate, units first."""
    return np.concatenate([given[gate].array() for gate in range(gates)])[None]


def row_of(value: Value, width: int) -> Array | None:
    """The first `width` elements of the row that all rows of a constant are; None for others."""
    data = array_of(value)
    if data is None or not data.size:
        return None
    if data.size == 1:
        return np.full(width, data.reshape(-1)[0])
    rows = data.reshape(-1, data.shape[-1])
    same = width <= rows.shape[1] and np.array_equal(rows, np.broadcast_to(rows[0], rows.shape))
    return rows[0, :width] if same else None


def _joined(value: Value) -> tuple[Value, ...]:
    """The parts that are put together along the last axis, or the value alone."""
    op = value.producer
    last = value.type.rank - 1
    if op is None or op.name != "concat" or op.int("axis") not in (last, -1):
        return (value,)
    return op.operands if len(op.operands) == 2 and op.operands[0] is not op.operands[1] else ()


def _source_of_part(op: Op, value: Value) -> tuple[Value, int] | None:
    """Of what, and from which column on, a part along the last axis is; None for other things."""
    source = op.operands[0] if op.operands else value
    last = source.type.rank - 1
    if op.name == "split" and op.int("axis") in (last, -1):
        before = [part.type.shape[-1] for part in op.results[: op.results.index(value)]]
        known = [width for width in before if isinstance(width, int)]
        return (source, sum(known)) if len(known) == len(before) else None
    if op.name != "slice":
        return None
    starts = integers(op.operand("starts"))
    steps, axes = op.operand("steps"), op.operand("axes")
    along = integers(axes) if axes is not None else (0,)
    forward = steps is None or integers(steps) == (1,)
    width = source.type.shape[-1]
    if along not in ((last,), (-1,)) or not forward or starts is None or not isinstance(width, int):
        return None
    start = starts[0] + width if starts[0] < 0 else starts[0]
    return (source, start) if 0 <= start <= width else None


def pairs(op: Op) -> Iterator[tuple[Value, Value]]:
    """Two operands in either order."""
    if len(op.operands) == 2:
        yield op.operands[0], op.operands[1]
        yield op.operands[1], op.operands[0]


def made_by(value: Value, name: str) -> Op | None:
    """The operation called `name` that gives `value`."""
    op = value.producer
    return op if op is not None and op.name == name else None
