"""recognize-squeeze: gates of channels are convolutions, however exporters write them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.blob import Blob
from leptonc.ir.build import Builder
from leptonc.ir.graph import Op, Value
from leptonc.passes.base import RewritePass
from leptonc.passes.constants import array_of
from leptonc.passes.contract import REASSOCIATES, Contract
from leptonc.passes.pattern import Match, NoMatchError, Var, pat
from leptonc.passes.rewrite import Rule, rule

x = Var("x")

MOST = 8
"""How many operations there may be between the pool and the gate."""

POINTWISE = frozenset({
    "relu", "sigmoid", "hard_sigmoid", "swish", "hard_swish", "gelu", "tanh", "clip", "leaky_relu",
})  # fmt: skip


def _chain(value: Value) -> tuple[Value, list[Op]] | None:
    """The pooled channels that `value` is made of, and the operations that do it, last first."""
    ops: list[Op] = []
    for _ in range(MOST):
        op = value.producer
        if op is None or value.use_count != 1:
            return None
        ops.append(op)
        value = op.operands[0]
        if op.name == "reshape":
            pool = value.producer
            pooled = pool is not None and pool.name == "global_average_pool"
            whole = pooled and value.type.shape == (*op.result.type.shape, 1, 1)
            return (value, ops) if whole else None
        if op.name not in POINTWISE and not _is_layer(op):
            return None
    return None


def _is_layer(op: Op) -> bool:
    """True for a linear layer whose weights are constants."""
    if op.name != "linear" or op.operands[0].type.rank != 2:
        return False
    bias = op.operand("bias")
    known = all(value.blob is not None for value in op.operands[1:])
    return known and (bias is None or bias.type.rank == 1)


def _as_convolution(build: Builder, value: Value, op: Op) -> Value:
    weights, bias = array_of(op.operands[1]), op.operand("bias")
    assert weights is not None
    if not op.int("transposed"):
        weights = weights.T
    kernel = build.const(Blob.of(np.ascontiguousarray(weights)[:, :, None, None]))
    return build.conv(value, kernel) if bias is None else build.conv(value, kernel, bias=bias)


@rule(pat.reshape(x, Var("extents")))
def gate_by_convolutions(m: Match, build: Builder) -> Value:
    """Linear layers of pooled channels that become channels again are convolutions of one place.

    Of one example: for several, products of matrices share their weights.
    """
    shape = m[x].type.shape
    m.fits(len(shape) == 2 and m.root.result.type.shape == (*shape, 1, 1))
    found = _chain(m[x])
    if found is None or not any(op.name == "linear" for op in found[1]):
        raise NoMatchError
    m.require(shape[0] == 1, "there are several examples")
    value, ops = found
    m.also += ops
    for op in reversed(ops[:-1]):
        if op.name == "linear":
            value = _as_convolution(build, value, op)
        else:
            operands = [value, *op.operands[1:]]
            value = build.op(op.definition, operands, op.attrs, names=op.operand_names).result
    return value


@dataclass(frozen=True)
class RecognizeSqueeze(RewritePass):
    """Writes squeeze and excitation in one form: pool, convolution, activation, convolution, gate.

    Exporters have linear layers between reshapes, or convolutions; in onnxruntime both take the
    same time for one example (12 us for 64 channels, 54 us for 1024), and the reshapes go. Kernels
    keep the gate in the layout of what it multiplies. Runs after `form-linear`.
    """

    name: ClassVar[str] = "recognize-squeeze"
    numbers: ClassVar[Contract] = REASSOCIATES
    rules: ClassVar[tuple[Rule, ...]] = (gate_by_convolutions,)
