"""Rules of `reduce-strength` about reductions of reductions, and of single elements."""

from __future__ import annotations

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.dims import product
from leptonc.ir.graph import Value
from leptonc.ir.types import DType
from leptonc.passes.cleanup.reduction_rules import combined_axes
from leptonc.passes.constants import uniform
from leptonc.passes.fusion.zero_signs import require_sign_unseen
from leptonc.passes.pattern import Const, Match, Var, pat
from leptonc.passes.rewrite import rule
from leptonc.passes.views import require_known_extents, reshape_to

x, c = Var("x"), Const("c")

CHAINS = (
    "reduce_sum", "reduce_mean", "reduce_max", "reduce_min", "reduce_prod", "reduce_l1",
    "reduce_l2", "reduce_log_sum_exp",
)  # fmt: skip

EXACTLY_ENOUGH = {DType.F32: 1e-6, DType.F64: 1e-15}
"""How far one over a number may be from that in a constant of each type."""

inner = pat.any_of(*CHAINS)(x, Var("axes").optional())


@rule(pat.any_of(*CHAINS)(inner, Var("more axes").optional()))
def reduction_of_reduction(m: Match, build: Builder) -> Value:
    """A sum of sums, a mean of means and so on is one along the axes of both."""
    m.fits(m.root.name == m[inner].name)
    first, second = combined_axes(m[inner]), combined_axes(m.root)
    m.require(first is not None and second is not None, "the axes are known at run time only")
    m.require(m[x].type.dtype.is_float, "integers are rounded or wrap in between")
    keeps = m.root.int("keepdims")
    m.require(keeps == m[inner].int("keepdims"), "one of them keeps the axes")
    left = [axis for axis in range(m[x].type.rank) if keeps or axis not in (first or ())]
    axes = sorted({*(first or ()), *(left[axis] for axis in second or ())})
    m.fits(bool(axes))
    rows = build.const(np.array(axes, np.int64))
    return build.op(m.root.definition, [m[x], rows], {"keepdims": keeps}).result


@rule(pat.any_of("reduce_sum", "reduce_mean")(x, Var("axes").optional()))
def sum_of_one(m: Match, build: Builder) -> Value:
    """The sum or mean of one element is that element, but for the sign of a zero."""
    axes = combined_axes(m.root)
    m.fits(axes is not None and all(m[x].type.shape[axis] == 1 for axis in axes))
    require_sign_unseen(m)
    require_known_extents(m, m[x])
    return reshape_to(build, m[x], m.root.result.type.shape)


total = pat.reduce_sum(x, Var("axes").optional())


@rule(pat.mul(total, c))
def sum_to_mean(m: Match, build: Builder) -> Value:
    """A sum divided by the number of its summands is a mean."""
    op, axes, number = m[total], combined_axes(m[total]), uniform(m[c])
    m.fits(axes is not None and bool(axes) and number is not None and number != 0)
    dtype = m[x].type.dtype
    m.fits(dtype in EXACTLY_ENOUGH and m.root.result.type == op.result.type)
    count = product(m[x].type.shape[axis] for axis in axes or ())
    m.fits(isinstance(count, int) and count > 0)
    assert isinstance(count, int)
    close = abs((number or 0.0) * count - 1) < EXACTLY_ENOUGH[dtype]
    m.require(close, "the factor is another than one over the number of summands")
    return build.op("reduce_mean", op.operands, op.attrs, names=op.operand_names).result


RULES = (reduction_of_reduction, sum_of_one, sum_to_mean)
