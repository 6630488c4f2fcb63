"""form-linear: matrix products with a constant matrix become linear layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.blob import Array, Blob
from leptonc.ir.build import Builder
from leptonc.ir.graph import Op, Value
from leptonc.passes.base import RewritePass
from leptonc.passes.contract import REASSOCIATES, Contract
from leptonc.passes.fusion.weights import multiplied, narrowed
from leptonc.passes.pattern import Const, Match, Var, pat
from leptonc.passes.rewrite import Rule, rule
from leptonc.passes.views import require_known_extents, reshape_to

x, matrix, addend = Var("x"), Var("matrix"), Var("addend")
weight = Const("weight")
turned = pat.transpose(weight).shared()


@rule(pat.matmul(x, weight))
def matmul_to_linear(m: Match, build: Builder) -> Value:
    """A product with a constant matrix is a linear layer."""
    m.require(m[weight].type.rank == 2, "the weight is not one matrix")
    m.require(m[x].type.rank >= 2, "a vector is multiplied")
    return build.linear(m[x], m[weight])


@rule(pat.matmul(x, turned))
def transposed_matmul_to_linear(m: Match, build: Builder) -> Value:
    """A product with a transposed constant matrix is a linear layer that reads it as it is."""
    m.require(m[weight].type.rank == 2, "the weight is not one matrix")
    m.require(m[x].type.rank >= 2, "a vector is multiplied")
    m.require(m[turned].ints("perm") in ((), (1, 0)), "the transpose keeps the axes")
    return build.linear(m[x], m[weight], transposed=True)


@rule(pat.linear(x, turned, transposed=False))
def transpose_into_linear(m: Match, build: Builder) -> Value:
    """A linear layer reads a constant weight that is transposed as it is."""
    m.require(m[turned].ints("perm") in ((), (1, 0)), "the transpose keeps the axes")
    return build.linear(m[x], m[weight], transposed=True)


@rule(pat.gemm(x, weight, addend.optional()))
def gemm_to_linear(m: Match, build: Builder) -> Value:
    """A general product with a constant matrix is a linear layer."""
    op = m.root
    whole = op.float("alpha") == 1 and op.float("beta") in (0, 1)
    m.require(whole or op.result.type.dtype.is_float, "integers are scaled, and rounded once")
    offset = _bias(m, op)
    data = _weight_times(m, build, op.float("alpha"))
    source = build.transpose(m[x], perm=(1, 0)) if op.int("transA") else m[x]
    transposed = bool(op.int("transB"))
    if offset is None:
        return build.linear(source, data, transposed=transposed)
    row = offset if isinstance(offset, Value) else build.const(Blob.of(offset))
    return build.linear(source, data, bias=row, transposed=transposed)


def _bias(m: Match, op: Op) -> Value | Array | None:
    """The bias as one row: as it is where it is one, computed where it is constant."""
    value = m.get(addend)
    factor = op.float("beta")
    if value is None or factor == 0:
        return None
    columns = m[weight].type.extents[0 if op.int("transB") else 1]
    if factor == 1 and value.type.shape == (columns,):
        return value
    data = m.blob(addend).array
    m.require(data.ndim < 2 or data.shape[0] == 1, "the bias is not one row")
    if factor == 1:
        return np.broadcast_to(data.reshape(-1), (columns,))
    row = np.broadcast_to(data.astype(np.float64).reshape(-1), (columns,))
    return narrowed(m, row * factor, data.dtype)


def _weight_times(m: Match, build: Builder, factor: float) -> Value:
    if factor == 1:
        return m[weight]
    return build.const(Blob.of(multiplied(m, m.blob(weight).array, np.array(factor))))


@rule(pat.fused_matmul(x, weight, transA=0, transBatchA=0, transBatchB=0))
def fused_matmul_to_linear(m: Match, build: Builder) -> Value:
    """A scaled product with a constant matrix is a linear layer."""
    m.require(m[weight].type.rank == 2 and m[x].type.rank >= 2, "the weight is not one matrix")
    data = _weight_times(m, build, m.root.float("alpha"))
    return build.linear(m[x], data, transposed=bool(m.root.int("transB")))


@rule(pat.gemm(x, matrix, addend.optional()))
def gemm_to_matmul(m: Match, build: Builder) -> Value:
    """A general product of two matrices that are not known is a product, scaled and added to."""
    op = m.root
    m.fits(m[matrix].blob is None and op.result.type.dtype.is_float)
    left = build.transpose(m[x], perm=(1, 0)) if op.int("transA") else m[x]
    right = build.transpose(m[matrix], perm=(1, 0)) if op.int("transB") else m[matrix]
    result = _scaled(build, build.matmul(left, right), op.float("alpha"))
    value = m.get(addend)
    if value is None or op.float("beta") == 0:
        return result
    return build.add(result, _scaled(build, value, op.float("beta")))


row_view = pat.reshape(x, Var("rows")).shared()
on_rows = pat.linear(row_view, weight, bias=addend.optional())


@rule(pat.reshape(on_rows, Var("extents")))
def linear_between_views(m: Match, build: Builder) -> Value:
    """A linear layer on rows that are merged before it and split again behind it is one on all."""
    kept = m[x].type.rank >= 2 and m[x].type.shape[-1] == m[row_view].result.type.shape[-1]
    m.require(kept, "the view before it changes the rows")
    require_known_extents(m, m[x])
    op = m[on_rows]
    operands = [m[x], *op.operands[1:]]
    whole = build.op(op.definition, operands, op.attrs, names=op.operand_names).result
    target = m.root.result.type
    return whole if whole.type == target else reshape_to(build, whole, target.shape)


def _scaled(build: Builder, value: Value, factor: float) -> Value:
    if factor == 1:
        return value
    return build.mul(value, build.const(Blob.of(np.array(factor, value.type.dtype.numpy))))


@dataclass(frozen=True)
class FormLinear(RewritePass):
    """Turns products with a constant matrix into `linear`, whose weight is packed at compile time.

    A bias joins it by `fold-scale`. Views around a layer that merge and split rows go away, so that
    what follows can join the layer. General products without constants become plain ones.
    """

    name: ClassVar[str] = "form-linear"
    numbers: ClassVar[Contract] = REASSOCIATES
    rules: ClassVar[tuple[Rule, ...]] = (
        matmul_to_linear, transposed_matmul_to_linear, transpose_into_linear, gemm_to_linear,
        fused_matmul_to_linear, gemm_to_matmul, linear_between_views,
    )  # fmt: skip
