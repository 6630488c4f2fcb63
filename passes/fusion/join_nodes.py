"""join-nodes: what ONNX can say in one node is said in one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.blob import Array, Blob
from leptonc.ir.build import Builder
from leptonc.ir.graph import Op, Value
from leptonc.ir.types import DType
from leptonc.passes.base import RewritePass
from leptonc.passes.contract import REASSOCIATES, Contract
from leptonc.passes.fusion.broadcast_rules import RULES as BROADCAST_RULES
from leptonc.passes.fusion.dequantize_rules import RULES as DEQUANTIZE_RULES
from leptonc.passes.fusion.gemm_rules import GEMM_RULES
from leptonc.passes.fusion.weights import narrowed, per_channel, x
from leptonc.passes.pattern import Const, Match, OpPattern, Var, pat
from leptonc.passes.rewrite import Rule, rule

factor, summand, shift = Const("factor"), Const("summand"), Const("shift")
scaled, shifted, lowered = pat.mul(x, factor), pat.add(x, shift), pat.sub(x, shift)
pool = pat.global_average_pool(x)
FLOATS = (DType.F16, DType.F32, DType.F64)
"""What a batch normalisation of standard ONNX takes in runtimes."""


def _row(m: Match, constant: Const) -> Array:
    """A constant of the match, one number for each channel."""
    type = m[x].type
    m.fits(type.dtype in FLOATS and type.rank >= 2)
    inner = [op.result.type == type for op in m.ops.values()]
    m.require(all(inner), "a constant broadcasts")
    return per_channel(m, m[constant], m[x], 1)


def _normalization(m: Match, build: Builder, scale: Array, offset: Array, mean: Array) -> Value:
    dtype = m[x].type.dtype.numpy
    far = np.abs(mean * scale).max(initial=0.0) > 1000 * max(1.0, np.abs(offset).max(initial=0.0))
    m.require(not bool(far), "the shift is so large that little would be left of the rest")
    rows = [narrowed(m, row, dtype) for row in (scale, offset, mean, 0 * scale + 1)]
    constants = [build.const(Blob.of(row)) for row in rows]
    return build.op("batch_normalization", [m[x], *constants], {"epsilon": 0.0}).result


@rule(pat.add(scaled, summand))
def affine_to_batch_norm(m: Match, build: Builder) -> Value:
    """A factor and a summand per channel are a batch normalisation of standard numbers."""
    scale, offset = _row(m, factor), _row(m, summand)
    return _normalization(m, build, scale, offset, 0 * scale)


def _shifted(inner: OpPattern, sign: int, name: str) -> Rule:
    @rule(pat.mul(inner, factor))
    def body(m: Match, build: Builder) -> Value:
        """A shift and a factor per channel are a batch normalisation without an offset."""
        reader = m.root.result.users[0] if m.root.result.use_count == 1 else None
        last = reader is None or reader.name != "add" or not _adds_constant(reader)
        m.fits(last)
        scale, mean = _row(m, factor), -sign * _row(m, shift)
        return _normalization(m, build, scale, 0 * scale, mean)

    return Rule(name, body.pattern, body.body, body.doc)


def _adds_constant(op: Op) -> bool:
    return any(value.blob is not None for value in op.operands)


def _whole(inner: OpPattern, sign: int, name: str) -> Rule:
    @rule(pat.add(pat.mul(inner, factor), summand))
    def body(m: Match, build: Builder) -> Value:
        """A shift, a factor and a summand per channel are a batch normalisation."""
        scale, mean = _row(m, factor), -sign * _row(m, shift)
        return _normalization(m, build, scale, _row(m, summand), mean)

    return Rule(name, body.pattern, body.body, body.doc)


@rule(pat.reshape(pool, Var("extents")))
def pooled_view_to_mean(m: Match, build: Builder) -> Value:
    """A global pool whose axes of one element are dropped is a mean that drops them."""
    rank = m[x].type.rank
    m.require(m.root.result.type.shape == m[x].type.shape[:2], "other axes than space are dropped")
    axes = build.const(Blob.of(np.arange(2, rank, dtype=np.int64)))
    return build.reduce_mean(m[x], axes=axes, keepdims=0)


@rule(pat.average_pool(x))
def whole_average_to_global_pool(m: Match, build: Builder) -> Value:
    """An average over a window that holds the whole image is a global pool."""
    op, space = m.root, m[x].type.shape[2:]
    window = zip(op.ints("kernel_shape") or (), space, strict=True)
    whole = all(isinstance(extent, int) and 0 < extent <= span for span, extent in window)
    m.require(whole, "the window does not hold the whole image")
    m.fits(set(op.ints("dilations") or (1,)) == {1})
    one = m.root.result.type.shape[2:] == (1,) * len(space)
    m.require(one and not any(op.ints("pads") or ()), "the window takes in padding")
    m.require(op.str("auto_pad") in ("NOTSET", "VALID"), "the padding depends on the extents")
    return build.global_average_pool(m[x])


@dataclass(frozen=True)
class JoinNodes(RewritePass):
    """Says in one standard node of ONNX what takes several operations.

    A factor and a summand per channel become a batch normalisation, a global pool and the view that
    flattens it a mean, a product of matrices with transposes, factors and summands beside it a
    general one: each reads its tensor once in a runtime that does not fuse. Views that broadcasting
    makes unnecessary go, one place of an axis is gathered, and integers are moved as such. Kernels
    made from a graph fuse what this pass joins, so it runs before a model is written only.
    """

    name: ClassVar[str] = "join-nodes"
    numbers: ClassVar[Contract] = REASSOCIATES
    rules: ClassVar[tuple[Rule, ...]] = (
        _whole(shifted, 1, "shifted-affine-to-batch-norm"),
        _whole(lowered, -1, "lowered-affine-to-batch-norm"),
        affine_to_batch_norm,
        _shifted(shifted, 1, "shifted-factor-to-batch-norm"),
        _shifted(lowered, -1, "lowered-factor-to-batch-norm"),
        pooled_view_to_mean, whole_average_to_global_pool, *GEMM_RULES,
        *BROADCAST_RULES, *DEQUANTIZE_RULES,
    )  # fmt: skip
