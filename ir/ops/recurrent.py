"""Recurrent layers: RNN, GRU and LSTM over whole sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim
from leptonc.ir.ops.broadcasting import FLOATS, check_dtype, check_same_dtype
from leptonc.ir.ops.extents import differ, natural
from leptonc.ir.ops.recurrent_activations import activations_of, directions_of
from leptonc.ir.table import Attr, Evaluation, Inference, define
from leptonc.ir.types import DType, TensorType

COMMON = {
    "activation_alpha": Attr("floats"),
    "activation_beta": Attr("floats"),
    "activations": Attr("strs"),
    "clip": Attr("float"),
    "direction": Attr("str", "forward"),
    "hidden_size": Attr("int"),
    "layout": Attr("int", 0),
}


@dataclass(frozen=True)
class Layer:
    """One kind of recurrent layer: gates, default activations and how many states it carries."""

    gates: int
    defaults: tuple[str, ...]
    states: tuple[str, ...]
    step: Callable[..., Callable[..., tuple[Array, ...]]]


def _check(call: Inference, name: str, expected: Sequence[Dim]) -> None:
    type = call.type(name)
    if type is None:
        return
    if type.rank != len(expected) or any(map(differ, type.shape, expected)):
        raise LeptonError(
            f"{call.definition.name}: {name} {type} should be [{','.join(map(str, expected))}]",
            code="E103",
        )


def _infer(layer: Layer) -> Callable[[Inference], list[TensorType]]:
    def infer(call: Inference) -> list[TensorType]:
        check_dtype(call, "x", FLOATS)
        dtype = check_same_dtype(call, "x", "w", "r", "bias", *layer.states, "p")
        check_dtype(call, "sequence_lens", {DType.I32})
        x, r = call.types[0], call.types[2]
        if x.rank != 3 or r.rank != 3:
            raise LeptonError(
                f"{call.definition.name}: x {x} and r {r} should have 3 dimensions", code="E103"
            )
        count, hidden = directions_of(call), r.shape[2]
        activations_of(call, layer.defaults)
        batch_first = bool(call.int("layout"))
        steps, batch, features = (x.shape[1], x.shape[0], x.shape[2]) if batch_first else x.shape
        _check(call, "w", (count, _times(layer.gates, hidden), features))
        _check(call, "r", (count, _times(layer.gates, hidden), hidden))
        _check(call, "bias", (count, _times(2 * layer.gates, hidden)))
        _check(call, "p", (count, _times(3, hidden)))
        _check(call, "sequence_lens", (batch,))
        state = (batch, count, hidden) if batch_first else (count, batch, hidden)
        for name in layer.states:
            _check(call, name, state)
        y = (batch, steps, count, hidden) if batch_first else (steps, count, batch, hidden)
        return [TensorType(dtype, y), *(TensorType(dtype, state) for _ in layer.states)]

    return infer


def _times(count: int, dim: Dim) -> Dim:
    return dim * count


def _evaluate(layer: Layer) -> Callable[[Evaluation], list[Array]]:
    def evaluate(call: Evaluation) -> list[Array]:
        dtype, wide = call[0].dtype, natural(call[0].dtype)
        batch_first = bool(call.int("layout"))
        x = call[0].astype(wide)
        x = x.swapaxes(0, 1) if batch_first else x
        lengths = call.get("sequence_lens")
        lengths = np.full(x.shape[1], x.shape[0]) if lengths is None else lengths
        passes = [
            _run(
                call,
                layer,
                x,
                lengths,
                index,
                backward=index == 1 or call.str("direction") == "reverse",
            )
            for index in range(directions_of(call))
        ]
        outputs = np.stack([y for y, _ in passes], axis=1)
        states = [
            np.stack(list(parts)) for parts in zip(*(final for _, final in passes), strict=True)
        ]
        if batch_first:
            outputs = outputs.transpose(2, 0, 1, 3)
            states = [state.swapaxes(0, 1) for state in states]
        return [array.astype(dtype) for array in (outputs, *states)]

    return evaluate


def _run(
    call: Evaluation, layer: Layer, x: Array, lengths: Array, index: int, *, backward: bool
) -> tuple[Array, tuple[Array, ...]]:
    """One pass: the outputs of each step, and the states after each example's last step."""
    steps, batch, hidden = x.shape[0], x.shape[1], call[2].shape[2]
    state = tuple(_initial(call, name, index, (batch, hidden), x.dtype) for name in layer.states)
    step = layer.step(call, index, activations_of(call, layer.defaults)[index], x.dtype)
    outputs = np.zeros((steps, batch, hidden), x.dtype)
    rows = np.asarray(range(batch), np.int64)
    for count in range(steps):
        # a backward pass starts at each example's own last step
        at = lengths - 1 - count if backward else np.full(batch, count)
        active = count < lengths
        at = np.where(active, at, 0)
        following = step(x[at, rows], *state)
        state = tuple(
            np.where(active[:, None], new, old) for new, old in zip(following, state, strict=True)
        )
        outputs[at[active], rows[active]] = following[0][active]
    return outputs, state


def _initial(
    call: Evaluation, name: str, index: int, shape: tuple[int, int], dtype: np.dtype[Any]
) -> Array:
    given = call.get(name)
    if given is None:
        return np.zeros(shape, dtype)
    return (given[:, index] if call.int("layout") else given[index]).astype(dtype)


def _clipped(call: Evaluation, x: Array) -> Array:
    limit = call.attrs.get("clip")
    return np.clip(x, -limit, limit) if isinstance(limit, int | float) else x


def _weights(
    call: Evaluation, index: int, gates: int, dtype: np.dtype[Any]
) -> tuple[Array, Array, Array, Array]:
    """Input and recurrent weights with their biases, of one direction."""
    w, r = call[1][index].astype(dtype), call[2][index].astype(dtype)
    bias, hidden = call.get("bias"), call[2].shape[2]
    both = np.zeros(2 * gates * hidden, dtype) if bias is None else bias[index].astype(dtype)
    return w.T, r.T, both[: gates * hidden], both[gates * hidden :]


def _rnn_step(
    call: Evaluation, index: int, functions: list[Any], dtype: Any
) -> Callable[..., tuple[Array, ...]]:
    w, r, wb, rb = _weights(call, index, 1, dtype)

    def step(x: Array, h: Array) -> tuple[Array, ...]:
        return (functions[0](_clipped(call, x @ w + h @ r + wb + rb)),)

    return step


def _gru_step(
    call: Evaluation, index: int, functions: list[Any], dtype: Any
) -> Callable[..., tuple[Array, ...]]:
    w, r, wb, rb = _weights(call, index, 3, dtype)
    gate, candidate = functions
    size = 2 * call[2].shape[2]

    def step(x: Array, h: Array) -> tuple[Array, ...]:
        given = x @ w + wb
        gates = gate(_clipped(call, given[:, :size] + h @ r[:, :size] + rb[:size]))
        update, reset = np.split(gates, 2, axis=1)
        if call.int("linear_before_reset"):
            recalled = reset * (h @ r[:, size:] + rb[size:])
        else:
            recalled = (reset * h) @ r[:, size:] + rb[size:]
        fresh = candidate(_clipped(call, given[:, size:] + recalled))
        return ((1 - update) * fresh + update * h,)

    return step


def _lstm_step(
    call: Evaluation, index: int, functions: list[Any], dtype: Any
) -> Callable[..., tuple[Array, ...]]:
    w, r, wb, rb = _weights(call, index, 4, dtype)
    gate, candidate, output = functions
    peepholes = call.get("p")
    holes = None if peepholes is None else np.split(peepholes[index].astype(dtype), 3)

    def seen(total: Array, hole: int, c: Array) -> Array:
        # what is not looked at may be infinite
        return _clipped(call, total if holes is None else total + holes[hole] * c)

    def step(x: Array, h: Array, c: Array) -> tuple[Array, ...]:
        i, o, f, g = np.split(x @ w + h @ r + wb + rb, 4, axis=1)
        enter = gate(seen(i, 0, c))
        keep = 1 - enter if call.int("input_forget") else gate(seen(f, 2, c))
        cell = keep * c + enter * candidate(_clipped(call, g))
        leave = gate(seen(o, 1, cell))
        return leave * output(cell), cell

    return step


RNN_LAYER = Layer(1, ("tanh",), ("initial_h",), _rnn_step)
GRU_LAYER = Layer(3, ("sigmoid", "tanh"), ("initial_h",), _gru_step)
LSTM_LAYER = Layer(4, ("sigmoid", "tanh", "tanh"), ("initial_h", "initial_c"), _lstm_step)

RNN = define(
    "rnn(x, w, r, bias?, sequence_lens?, initial_h?)",
    "A simple recurrent layer: every output, and the last of each direction.",
    infer=_infer(RNN_LAYER), evaluate=_evaluate(RNN_LAYER), attrs=COMMON, onnx="RNN", since=7,
)  # fmt: skip
GRU = define(
    "gru(x, w, r, bias?, sequence_lens?, initial_h?)",
    "Gated recurrent units: every output, and the last of each direction.",
    infer=_infer(GRU_LAYER), evaluate=_evaluate(GRU_LAYER),
    attrs={**COMMON, "linear_before_reset": Attr("int", 0)}, onnx="GRU", since=7,
)  # fmt: skip
LSTM = define(
    "lstm(x, w, r, bias?, sequence_lens?, initial_h?, initial_c?, p?)",
    "Long short-term memory: every output, the last of each direction, and the last cells.",
    infer=_infer(LSTM_LAYER), evaluate=_evaluate(LSTM_LAYER),
    attrs={**COMMON, "input_forget": Attr("int", 0)}, onnx="LSTM", since=7,
)  # fmt: skip
