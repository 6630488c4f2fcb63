# pyright: standard
"""Lowering of recurrent layers with packed weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm.tirx import PrimFunc

from leptonc.backends.cpu.recurrent import RecurrentBuffers, RecurrentSpec, recurrent
from leptonc.backends.cpu.recurrent_packing import RecurrentWeight
from leptonc.backends.tvm.lower.opaque import Kernel, kernel
from leptonc.backends.tvm.lower.recurrent_parts import activated
from leptonc.backends.tvm.lowering import KernelRule, LowerCall, Reason, Rule
from leptonc.backends.tvm.vector_math import clamp
from leptonc.ir.ops.recurrent import GRU_LAYER, LSTM_LAYER, RNN_LAYER
from leptonc.ir.ops.recurrent_activations import Activation, activations_of, directions_of
from leptonc.ir.ops.recurrent_packed import phases_of

LAYERS = {"lstm": LSTM_LAYER, "gru": GRU_LAYER, "rnn": RNN_LAYER}


def _lowered(call: LowerCall, cpu: Any) -> PrimFunc:
    return kernel(call, cpu, lambda job: recurrent(_spec(call), cpu, _buffers(job)))


def _spec(call: LowerCall) -> RecurrentSpec:
    op, known = call.op, call.known
    x, w = op.operands[0].type, op.operands[1].type
    directions, _, inputs, panel = w.extents
    linear = op.attrs["layer"] == "gru" and bool(op.int("linear_before_reset"))
    hidden = op.int("hidden_size")
    sizes = RecurrentWeight(directions, inputs, hidden, phases_of(known), panel, linear)
    batch_first = bool(op.int("layout"))
    steps, batch = x.shape[1::-1] if batch_first else x.shape[:2]
    steps, batch = (dim if isinstance(dim, int) else call.dim(dim) for dim in (steps, batch))
    clip = op.attrs.get("clip")
    functions = [
        [_function(one, clip if not (op.attrs["layer"] == "lstm" and at == 2) else None)
         for at, one in enumerate(group)]
        for group in activations_of(known, LAYERS[op.str("layer")].defaults)
    ]  # fmt: skip
    backward = [at == 1 or op.attrs["direction"] == "reverse" for at in range(directions_of(known))]
    return RecurrentSpec(op.str("layer"), steps, batch, sizes, functions, backward, batch_first)


def _function(activation: Activation, clip: Any) -> Callable[[Any], Any]:
    """An activation of what is held to `clip` first."""
    if isinstance(clip, int | float):
        return lambda x: activated(activation, clamp(x, -clip, clip))
    return lambda x: activated(activation, x)


def _buffers(job: Kernel) -> RecurrentBuffers:
    op = job.call.op
    x, w, r = (job.inputs[value] for value in op.operands[:3])

    def named(name: str) -> Any:
        value = op.operand(name)
        return None if value is None else job.inputs[value]

    count = len(op.results) - 1
    return RecurrentBuffers(
        x,
        w,
        r,
        named("bias"),
        [named(name) for name in ("initial_h", "initial_c")[:count]],
        job.outputs.get(0),
        [job.outputs.get(at) for at in range(1, count + 1)],
    )


RULES: dict[str, Rule] = {}
KERNELS: dict[str, KernelRule] = {"packed_recurrent": _lowered}
REASONS: dict[str, Reason] = {}
