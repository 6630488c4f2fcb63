# pyright: standard
"""Lowering of recurrent layers: one loop over examples, and one over steps in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx import PrimFunc

from leptonc.backends.cpu import emit
from leptonc.backends.tvm.lower.opaque import Kernel, kernel
from leptonc.backends.tvm.lower.parts import cast, natural
from leptonc.backends.tvm.lower.recurrent_parts import Rows, Vectors, activated
from leptonc.backends.tvm.lowering import TVM_DTYPE, KernelRule, LowerCall, Reason, Rule
from leptonc.backends.tvm.vector_math import clamp
from leptonc.ir.ops.recurrent import GRU_LAYER, LSTM_LAYER, RNN_LAYER, Layer
from leptonc.ir.ops.recurrent_activations import Activation, activations_of, directions_of


class Recurrence:
    """What every step of a layer reads, in the element type it is computed in."""

    def __init__(self, job: Kernel, layer: Layer) -> None:
        self.job, self.layer, self.call = job, layer, job.call
        x, w, r = (value.type for value in self.call.op.operands[:3])
        self.batch_first = bool(self.call.known.int("layout"))
        steps, batch = (x.shape[1], x.shape[0]) if self.batch_first else x.shape[:2]
        self.steps, self.batch = self.call.dim(steps), self.call.dim(batch)
        self.batch_dim = batch
        self.inputs, self.hidden = self.call.dim(w.shape[2]), self.call.dim(r.shape[2])
        dtype = natural(TVM_DTYPE[x.dtype])
        lanes = job.cpu.lanes if dtype == "float32" else max(job.cpu.lanes // 2, 1)
        self.vectors = Vectors(dtype, lanes)
        self.x, self.w, self.r = (self.wide(slot) for slot in range(3))

    def slot(self, name: str) -> int | None:
        """The slot of an operand, None where it is absent."""
        names = self.call.op.operand_names
        return names.index(name) if name in names else None

    def wide(self, slot: int) -> Any:
        """An operand in the type that is computed in; a copy unless it has it and is data."""
        value = self.call.op.operands[slot]
        dtype = self.vectors.dtype
        if value in self.job.inputs and TVM_DTYPE[value.type.dtype] == dtype:
            return self.job.inputs[value]
        shape = tuple(self.call.dim(dim) for dim in value.type.shape)
        copy = emit.workspace(shape, dtype)
        with emit.serial(self.job.count(value.type.shape)) as position:
            index = emit.unflatten(position, shape)
            emit.store(copy, cast(self.job.read(slot, index), dtype), index)
        return copy

    def number(self, name: str, *index: Any) -> Any:
        """One element of an operand, 0 where it is absent."""
        slot = self.slot(name)
        if slot is None:
            return tirx.const(0, self.vectors.dtype)
        return cast(self.job.read(slot, list(index)), self.vectors.dtype)

    def bias(self, direction: int, row: Any, *, recurrent: bool) -> Any:
        """The bias of a row of the input weights, or of the recurrent ones."""
        offset = self.hidden * emit.integer(self.layer.gates if recurrent else 0)
        return self.number("bias", emit.integer(direction), offset + row)

    def buffer(self, gates: int = 1) -> Any:
        """Memory for some gates of one example."""
        return emit.workspace((self.hidden * emit.integer(gates),), self.vectors.dtype)

    def rows(self, weights: Any, direction: int, first: int, gates: int) -> Rows:
        """The rows of `gates` gates from the gate `first` on."""
        length = self.inputs if weights is self.w else self.hidden
        size = self.hidden * emit.integer(gates)
        start = self.hidden * emit.integer(first)
        return Rows(weights, [emit.integer(direction)], start, size, length)

    def clipped(self, x: Any) -> Any:
        """What an activation is given."""
        limit = self.call.op.attrs.get("clip")
        return clamp(x, -limit, limit) if isinstance(limit, int | float) else x


@dataclass(frozen=True)
class Step:
    """One direction's buffers: the states, the gates, and room for what else a step needs."""

    direction: int
    functions: list[Activation]
    states: list[Any]
    gates: Any
    spare: Any


Advance = Callable[[Recurrence, Step], None]


def _rnn(layer: Recurrence, step: Step) -> None:
    h, (function,) = step.states[0], step.functions
    everything = layer.rows(layer.r, step.direction, 0, 1)
    layer.vectors.add_products(step.gates, everything, h, [])

    def update(k: Any) -> None:
        emit.store(h, activated(function, layer.clipped(emit.load(step.gates, [k]))), [k])

    layer.vectors.each(layer.hidden, update)


def _gru(layer: Recurrence, step: Step) -> None:
    (h,), (gate, candidate) = step.states, step.functions
    vectors, hidden, direction = layer.vectors, layer.hidden, step.direction
    linear = bool(layer.call.known.int("linear_before_reset"))
    vectors.add_products(step.gates, layer.rows(layer.r, direction, 0, 2), h, [])
    recalled, source = step.spare

    def open_gates(k: Any) -> None:
        emit.store(step.gates, activated(gate, layer.clipped(emit.load(step.gates, [k]))), [k])

    vectors.each(hidden * emit.integer(2), open_gates)

    def prepare(k: Any) -> None:
        reset = emit.load(step.gates, [hidden + k])
        start = layer.bias(direction, hidden * emit.integer(2) + k, recurrent=True)
        emit.store(recalled, start, [k])
        held = emit.load(h, [k])
        emit.store(source, held if linear else reset * held, [k])

    vectors.each(hidden, prepare)
    vectors.add_products(recalled, layer.rows(layer.r, direction, 2, 1), source, [])

    def update(k: Any) -> None:
        keep, reset = emit.load(step.gates, [k]), emit.load(step.gates, [hidden + k])
        given = emit.load(step.gates, [hidden * emit.integer(2) + k])
        recall = emit.load(recalled, [k])
        fresh = activated(candidate, layer.clipped(given + (reset * recall if linear else recall)))
        one = tirx.const(1, vectors.dtype)
        emit.store(h, (one - keep) * fresh + keep * emit.load(h, [k]), [k])

    vectors.each(hidden, update)


def _lstm(layer: Recurrence, step: Step) -> None:
    h, c = step.states
    gate, candidate, output = step.functions
    vectors, hidden, direction = layer.vectors, layer.hidden, step.direction
    vectors.add_products(step.gates, layer.rows(layer.r, direction, 0, 4), h, [])
    coupled = bool(layer.call.known.int("input_forget"))

    def gate_of(index: int, k: Any, peephole: int, cell: Any) -> Any:
        total = emit.load(step.gates, [hidden * emit.integer(index) + k])
        if layer.slot("p") is not None:
            at = hidden * emit.integer(peephole) + k
            total = total + layer.number("p", emit.integer(direction), at) * cell
        return activated(gate, layer.clipped(total))

    def remember(k: Any) -> None:
        cell = emit.load(c, [k])
        enter = gate_of(0, k, 0, cell)
        fresh = activated(
            candidate, layer.clipped(emit.load(step.gates, [hidden * emit.integer(3) + k]))
        )
        emit.store(step.spare[0], enter, [k])
        enter = emit.load(step.spare[0], [k])
        one = tirx.const(1, vectors.dtype)
        keep = one - enter if coupled else gate_of(2, k, 2, cell)
        emit.store(c, keep * cell + enter * fresh, [k])

    def show(k: Any) -> None:
        cell = emit.load(c, [k])
        emit.store(h, gate_of(1, k, 1, cell) * activated(output, cell), [k])

    vectors.each(hidden, remember)
    vectors.each(hidden, show)


def _begin(layer: Recurrence, step: Step, example: Any, at: Any) -> None:
    """The gates from the biases and the input of the step `at`."""
    gates = layer.layer.gates
    apart = 2 if layer.layer is GRU_LAYER else gates

    def start(first: int, count: int, *, both: bool) -> None:
        def one(k: Any) -> None:
            row = layer.hidden * emit.integer(first) + k
            total = layer.bias(step.direction, row, recurrent=False)
            if both:
                total = total + layer.bias(step.direction, row, recurrent=True)
            emit.store(step.gates, total, [row])

        layer.vectors.each(layer.hidden * emit.integer(count), one)

    start(0, apart, both=True)
    if apart < gates:
        start(apart, gates - apart, both=False)
    index = [example, at] if layer.batch_first else [at, example]
    rows = layer.rows(layer.w, step.direction, 0, gates)
    layer.vectors.add_products(step.gates, rows, layer.x, index)


def _output(layer: Recurrence, example: Any, at: Any, direction: int, k: Any) -> list[Any]:
    which = emit.integer(direction)
    return [example, at, which, k] if layer.batch_first else [at, which, example, k]


def _state(layer: Recurrence, example: Any, direction: int, k: Any) -> list[Any]:
    which = emit.integer(direction)
    return [example, which, k] if layer.batch_first else [which, example, k]


def _begin_states(layer: Recurrence, step: Step, example: Any) -> None:
    """The states before the first step."""
    for name, state in zip(layer.layer.states, step.states, strict=True):

        def begin(k: Any, name: str = name, state: Any = state) -> None:
            first = layer.number(name, *_state(layer, example, step.direction, k))
            emit.store(state, first, [k])

        layer.vectors.each(layer.hidden, begin)


def _give(
    layer: Recurrence, result: int, index: Callable[[Any], list[Any]], state: Any = None
) -> None:
    """Store a state, or zeros, in a result that is in use."""
    if result not in layer.job.outputs:
        return
    dtype = layer.call.dtype()

    def one(k: Any) -> None:
        value = tirx.const(0, dtype) if state is None else cast(emit.load(state, [k]), dtype)
        emit.store(layer.job.outputs[result], value, index(k))

    layer.vectors.each(layer.hidden, one)


def _length(layer: Recurrence, example: Any) -> Any:
    """How many steps an example has."""
    slot = layer.slot("sequence_lens")
    if slot is None:
        return layer.steps
    stated = layer.job.read(slot, [example]).astype("int64")
    return emit.let(tirx.max(tirx.min(stated, layer.steps), emit.integer(0)))


def _walk(layer: Recurrence, step: Step, example: Any, advance: Advance) -> None:
    """One example through all steps of one direction."""
    direction = step.direction
    backward = direction == 1 or layer.call.known.str("direction") == "reverse"
    _begin_states(layer, step, example)
    length = _length(layer, example)
    with emit.serial(length) as count:
        at = emit.let(length - emit.integer(1) - count) if backward else count
        _begin(layer, step, example, at)
        advance(layer, step)
        _give(layer, 0, lambda k: _output(layer, example, at, direction, k), step.states[0])
    if 0 in layer.job.outputs:
        with emit.serial(layer.steps - length, length) as at:
            _give(layer, 0, lambda k: _output(layer, example, at, direction, k))
    for result, state in enumerate(step.states, 1):
        _give(layer, result, lambda k: _state(layer, example, direction, k), state)


def _lowered(layer: Layer, advance: Advance) -> KernelRule:
    def rule(call: LowerCall, cpu: Any) -> PrimFunc:
        functions = activations_of(call.known, layer.defaults)

        def body(job: Kernel) -> None:
            recurrence = Recurrence(job, layer)
            parallel = cpu.threads > 1 and recurrence.batch_dim != 1
            with emit.outer_loop(recurrence.batch, parallel=parallel) as example:
                for direction in range(directions_of(call.known)):
                    states = [recurrence.buffer() for _ in layer.states]
                    spare = [recurrence.buffer() for _ in range(2)]
                    gates = recurrence.buffer(layer.gates)
                    step = Step(direction, functions[direction], states, gates, spare)
                    _walk(recurrence, step, example, advance)

        return kernel(call, cpu, body)

    return rule


RULES: dict[str, Rule] = {}
KERNELS: dict[str, KernelRule] = {
    "rnn": _lowered(RNN_LAYER, _rnn),
    "gru": _lowered(GRU_LAYER, _gru),
    "lstm": _lowered(LSTM_LAYER, _lstm),
}
REASONS: dict[str, Reason] = {}
