"""Rules of `reduce-strength` about reductions of reductions, and of single elements."""

from __future__ import annotations

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.graph import Value
from leptonc.passes.cleanup.reduction_rules import combined_axes
from leptonc.passes.pattern import Match, Var, pat
from leptonc.passes.rewrite import rule
from leptonc.passes.views import require_known_extents, reshape_to

x = Var("x")

CHAINS = (
    "reduce_sum", "reduce_mean", "reduce_max", "reduce_min", "reduce_prod", "reduce_l1",
    "reduce_l2", "reduce_log_sum_exp",
)  # fmt: skip

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
    require_known_extents(m, m[x])
    return reshape_to(build, m[x], m.root.result.type.shape)


RULES = (reduction_of_reduction, sum_of_one)
