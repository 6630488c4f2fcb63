"""One step of an LSTM or of gated recurrent units, spelled out as products and functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from leptonc.ir.blob import Array
from leptonc.ir.graph import Op, Value
from leptonc.passes.constants import is_exactly
from leptonc.passes.recurrent.gates import Sums, made_by, pairs
from leptonc.passes.recurrent.picked import Picked


@dataclass
class Cell:
    """One step: what it gives for the states it takes, and the sums of its gates in ONNX's order.

    `last` computes the state `h`; `cell` the state `c` of an LSTM.
    """

    layer: str
    last: Op
    state: Value
    sums: Sums
    cell: Op | None = None
    c: Value | None = None
    linear_before_reset: bool = False
    recurrent: Value | None = None
    """What is known to be the state `h` among what is multiplied."""
    recurrent_bias: Array | None = None
    """What is added to the product of the state that a gate resets, before it does."""

    @property
    def exits(self) -> tuple[Op, ...]:
        """The operations that give what others read."""
        return (self.last,) if self.cell is None else (self.last, self.cell)

    @property
    def is_closed(self) -> bool:
        """True where nothing else reads what is between the sums and the states."""
        inner = self.sums.ops
        return all(
            reader in inner or reader in self.exits
            for op in inner
            if op not in self.exits
            for value in op.results
            for reader in value.users
        )

    @property
    def first_exit(self) -> Op:
        """The first of the operations that give what others read."""
        return self.last if self.cell is None else self.cell


def cell_of(op: Op) -> Cell | None:
    """The step whose state `h` is the result of `op`."""
    makers = {"mul": (_lstm_cells,), "add": (_gru_cells,)}.get(op.name, ())
    for make in makers:
        for cell in make(op):
            if cell.is_closed and len(cell.sums.weights) in (1, 2):
                return cell
    return None


def _lstm_cells(op: Op) -> Iterator[Cell]:
    """``h = sigmoid(o) * tanh(c)`` of ``c = sigmoid(f) * c' + sigmoid(i) * tanh(g)``."""
    for opened, shown in pairs(op):
        leave, output = made_by(opened, "sigmoid"), made_by(shown, "tanh")
        cell = made_by(output.operands[0], "add") if output is not None else None
        if leave is None or output is None or cell is None:
            continue
        for kept, entered in pairs(cell):
            for before, (keep, c) in _products(kept, "sigmoid"):
                for after, (enter, fresh) in _products(entered, "sigmoid"):
                    candidate = made_by(fresh, "tanh")
                    state = _state(c, cell.result)
                    if candidate is None or state is None:
                        continue
                    functions = (enter, leave, keep, candidate)
                    inner = (before, after, output, *functions)
                    sums = _summed(state, functions, inner)
                    if sums is not None:
                        yield Cell("lstm", op, state, sums, cell, c)


def _state(value: Value, result: Value) -> Value | None:
    """The state that `value` is; `result` stands for one of zeros, whatever its extents."""
    if value.type == result.type:
        return value
    return result if is_exactly(value, 0.0) else None


def _products(value: Value, name: str) -> Iterator[tuple[Op, tuple[Op, Value]]]:
    """The product that gives `value`, its factor that `name` makes and the other one."""
    product = made_by(value, "mul")
    if product is not None:
        for first, second in pairs(product):
            factor = made_by(first, name)
            if factor is not None:
                yield product, (factor, second)


def _summed(state: Value, functions: Sequence[Op], inner: Sequence[Op]) -> Sums | None:
    """The sums that the functions are of, all of them of as many units as the state has."""
    units = state.type.shape[-1]
    if not isinstance(units, int) or state.type.rank != 2:
        return None
    sums = Sums(units)
    sums.ops.update(dict.fromkeys(inner))
    for gate, function in enumerate(functions):
        if function.operands[0].type != state.type or not sums.add(gate, function.operands[0]):
            return None
    return sums


def _gru_cells(op: Op) -> Iterator[Cell]:
    """``h = (1 - z) * n + z * h'``, or ``n + z * (h' - n)``, of ``z`` and ``n`` as gates make them.

    The candidate ``n`` is ``tanh(a + r * b)`` with a product of ``h'`` in ``b``, or ``tanh`` of
    sums with a product of ``r * h'``.
    """
    for update, fresh, old, inner in _mixed(op):
        candidate, state = made_by(fresh, "tanh"), _state(old, op.result)
        if candidate is not None and state is not None:
            taken = (*inner, update, candidate)
            yield from _reset_after(op, state, update, candidate, taken)
            if state is not op.result:
                yield from _reset_before(op, state, update, candidate, taken)


def _mixed(op: Op) -> Iterator[tuple[Op, Value, Value, Sequence[Op]]]:
    """The gate, the new and the old state that `op` mixes, and the operations that it takes.

    Of an old state of zeros nothing is left; the result itself stands for it.
    """
    for kept, other in pairs(op):
        for product, (gate, value) in _products(kept, "sigmoid"):
            minus, difference = made_by(value, "neg"), made_by(value, "sub")
            if minus is not None and minus.operands[0] is other:
                yield gate, other, op.result, (product, minus)
            if difference is not None and difference.operands[1] is other:
                yield gate, other, difference.operands[0], (product, difference)
            fresh = made_by(other, "mul")
            if fresh is None:
                continue
            for rest, candidate in pairs(fresh):
                inverse = made_by(rest, "sub")
                ones = inverse is not None and is_exactly(inverse.operands[0], 1.0)
                if inverse is not None and ones and inverse.operands[1] is gate.result:
                    yield gate, candidate, value, (product, fresh, inverse)


def _reset_after(
    op: Op, state: Value, update: Op, candidate: Op, inner: Sequence[Op]
) -> Iterator[Cell]:
    """Candidates ``tanh(a + r * b)``."""
    total = made_by(candidate.operands[0], "add")
    for given, recalled in pairs(total) if total is not None else ():
        for product, (reset, memory) in _products(recalled, "sigmoid"):
            assert total is not None
            sums = _summed(state, (update, reset), (*inner, total, product, reset))
            if sums is None:
                continue
            inside, outside = Sums(sums.units), Sums(sums.units)
            if not (inside.add(2, memory) and outside.add(2, given)):
                continue
            zero = state is op.result or is_exactly(state, 0.0)
            first = not inside.weights and zero
            if not (first or list(inside.weights) == [state]) or state in outside.weights:
                continue
            bias = inside.biases.pop(2, None)
            if sums.take(inside, state, state) and sums.take(outside, state, state):
                yield Cell(
                    "gru", op, state, sums, recurrent=None if first else state, recurrent_bias=bias,
                    linear_before_reset=True,
                )  # fmt: skip


def _reset_before(
    op: Op, state: Value, update: Op, candidate: Op, inner: Sequence[Op]
) -> Iterator[Cell]:
    """Candidates ``tanh`` of sums with a product of ``r * h'``."""
    new = _summed(state, (), ())
    if new is None or not new.add(2, candidate.operands[0]):
        return
    for source in new.weights:
        found = () if isinstance(source, Picked) else _products(source, "sigmoid")
        for product, (reset, memory) in found:
            sums = _summed(state, (update, reset), (*inner, product, reset))
            if memory is state and sums is not None and sums.take(new, source, state):
                yield Cell("gru", op, state, sums, recurrent=state)
                return
