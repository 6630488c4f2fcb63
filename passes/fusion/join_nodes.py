"""join-nodes: what ONNX can say in one node is said in one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.blob import Array, Blob
from leptonc.ir.build import Builder
from leptonc.ir.graph import Value
from leptonc.ir.types import DType
from leptonc.passes.base import RewritePass
from leptonc.passes.contract import REASSOCIATES, Contract
from leptonc.passes.fusion.weights import narrowed, per_channel, x
from leptonc.passes.pattern import Const, Match, OpPattern, Var, pat
from leptonc.passes.rewrite import Rule, rule

factor, summand = Const("factor"), Const("summand")
scaled, shifted = pat.mul(x, factor), pat.add(x, summand)
pool = pat.global_average_pool(x)


def _constants(m: Match, inner: OpPattern) -> tuple[Array, Array]:
    """Factor and summand of the match, one number each for a channel."""
    type = m[x].type
    m.fits(type.dtype in (DType.F32, DType.F64) and type.rank >= 2)
    m.require(m.root.result.type == m[inner].result.type == type, "a constant broadcasts")
    return per_channel(m, m[factor], m[x], 1), per_channel(m, m[summand], m[x], 1)


def _normalization(m: Match, build: Builder, scale: Array, offset: Array) -> Value:
    dtype = m[x].type.dtype.numpy
    rows = [narrowed(m, row, dtype) for row in (scale, offset, 0 * scale, 0 * scale + 1)]
    constants = [build.const(Blob.of(row)) for row in rows]
    return build.op("batch_normalization", [m[x], *constants], {"epsilon": 0.0}).result


@rule(pat.add(scaled, summand))
def affine_to_batch_norm(m: Match, build: Builder) -> Value:
    """A factor and a summand per channel are a batch normalisation of standard numbers."""
    return _normalization(m, build, *_constants(m, scaled))


@rule(pat.mul(shifted, factor))
def shifted_affine_to_batch_norm(m: Match, build: Builder) -> Value:
    """A summand and a factor per channel are a batch normalisation of standard numbers."""
    scale, offset = _constants(m, shifted)
    with np.errstate(all="ignore"):
        product = scale * offset
    return _normalization(m, build, scale, product)


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
    flattens it a mean: each reads its tensor once in a runtime that does not fuse. Kernels made
    from a graph fuse what this pass joins, so it runs before a model is written only.
    """

    name: ClassVar[str] = "join-nodes"
    numbers: ClassVar[Contract] = REASSOCIATES
    rules: ClassVar[tuple[Rule, ...]] = (
        affine_to_batch_norm, shifted_affine_to_batch_norm, pooled_view_to_mean,
        whole_average_to_global_pool,
    )  # fmt: skip
