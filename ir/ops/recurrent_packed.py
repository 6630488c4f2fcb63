"""Recurrent layers with weights in the order that kernels read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.ops.recurrent import COMMON, GRU, LSTM, RNN
from leptonc.ir.ops.recurrent_activations import directions_of
from leptonc.ir.table import Arguments, Attr, Evaluation, Inference, OpDef, Trait, define
from leptonc.ir.types import TensorType

LAYERS: dict[str, OpDef] = {"lstm": LSTM, "gru": GRU, "rnn": RNN}
GATES = {"lstm": 4, "gru": 3, "rnn": 1}


@dataclass(frozen=True)
class Phase:
    """A recurrent product: which gates it gives, and how many units a panel of its weight has."""

    gates: tuple[int, ...]
    units: int

    @property
    def width(self) -> int:
        """The columns of a panel: the units of its first gate, of its second, and so on."""
        return len(self.gates) * self.units

    def panels(self, hidden: int) -> int:
        """The panels that hold all units; the last may be partly unused."""
        return -(-hidden // self.units)

    def rows(self, hidden: int) -> NDArray[np.int64]:
        """Which row of an ONNX weight each column is; -1 for unused ones."""
        unit = np.arange(self.panels(hidden) * self.units).reshape(-1, 1, self.units)
        gate = np.array(self.gates).reshape(1, -1, 1)
        return np.where(unit < hidden, gate * hidden + unit, -1).reshape(-1)


def gates_by_phase(layer: str, *, linear: bool) -> tuple[tuple[int, ...], ...]:
    """The gates that each product of a step gives; a later one needs what an earlier one gave."""
    if layer == "gru" and not linear:
        return (0, 1), (2,)
    return (tuple(range(GATES[layer])),)


def phases_of(call: Arguments[Any]) -> tuple[Phase, ...]:
    """The products of a step of a packed layer."""
    units = call.ints("units") or ()
    gates = gates_by_phase(call.str("layer"), linear=bool(call.int("linear_before_reset")))
    return tuple(Phase(*pair) for pair in zip(gates, units, strict=True))


def _infer(call: Inference) -> Sequence[TensorType]:
    x, layer, hidden = call.types[0], call.str("layer"), call.int("hidden_size")
    if layer not in LAYERS:
        raise LeptonError(f"packed_recurrent.layer is {layer!r}, no recurrent layer", code="E108")
    count, batch_first = directions_of(call), bool(call.int("layout"))
    steps, batch = (x.shape[1], x.shape[0]) if batch_first else x.shape[:2]
    y = (batch, steps, count, hidden) if batch_first else (steps, count, batch, hidden)
    state = (batch, count, hidden) if batch_first else (count, batch, hidden)
    states = 2 if layer == "lstm" else 1
    return [x.with_shape(*y), *(x.with_shape(*state) for _ in range(states))]


def _evaluate(call: Evaluation) -> Sequence[Array]:
    row = LAYERS[call.str("layer")]
    names = ["x", "w", "r"]
    w, r, bias = _unpacked(call)
    items = [call[0], w, r]
    if bias is not None:
        names.append("bias")
        items.append(bias)
    for name in ("initial_h", "initial_c"):
        state = call.get(name)
        if state is not None:
            names.append(name)
            items.append(state)
    attrs = {name: call.attrs[name] for name in row.attrs if name in call.attrs}
    assert row.evaluate is not None
    return list(row.evaluate(Evaluation(row, items, names, {"input_forget": 0, **attrs})))


def _unpacked(call: Evaluation) -> tuple[Array, Array, Array | None]:
    """The weights and the bias as ONNX has them; the recurrent bias is taken into the other."""
    hidden, gates = call.int("hidden_size"), GATES[call.str("layer")]
    phases, packed, flat, bias = phases_of(call), call[1], call[2], call.get("bias")
    count, _, inputs, _ = packed.shape
    w = np.zeros((count, gates * hidden, inputs), packed.dtype)
    r = np.zeros((count, gates * hidden, hidden), packed.dtype)
    both = np.zeros((count, 2 * gates * hidden), packed.dtype)
    columns = np.moveaxis(packed, 2, 1).reshape(count, inputs, -1)
    at = start = 0
    for phase in phases:
        rows = phase.rows(hidden)
        used = rows >= 0
        w[:, rows[used]] = columns[:, :, at : at + len(rows)][:, :, used].swapaxes(1, 2)
        if bias is not None:
            both[:, rows[used]] = bias[:, at : at + len(rows)][:, used]
        size = len(rows) * hidden
        part = flat[:, start : start + size].reshape(count, -1, hidden, phase.width)
        r[:, rows[used]] = np.moveaxis(part, 2, 3).reshape(count, -1, hidden)[:, used]
        at, start = at + len(rows), start + size
    if bias is not None and bias.shape[1] > at:
        both[:, -hidden:] = bias[:, at : at + hidden]
    return w, r, None if bias is None else both


PACKED_RECURRENT = define(
    "packed_recurrent(x, w, r, bias?, initial_h?, initial_c?)",
    "`lstm`, `gru` or `rnn` with the columns of its weights by panels of `units` units: `w` "
    "[directions, panels, inputs, panel width], `r` [directions, numbers]. The two biases are "
    "summed, but for that of the last gate of `gru` with `linear_before_reset`.",
    infer=_infer, evaluate=_evaluate,
    attrs={
        **COMMON, "hidden_size": Attr("int", required=True), "layer": Attr("str", required=True),
        "units": Attr("ints", required=True), "linear_before_reset": Attr("int", 0),
    },
    traits=[Trait.PRODUCT],
)  # fmt: skip
