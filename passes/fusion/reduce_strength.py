"""reduce-strength: costly operations become cheap ones that may round differently."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.blob import Blob
from leptonc.ir.build import Builder
from leptonc.ir.graph import Value
from leptonc.passes.base import RewritePass
from leptonc.passes.constants import array_of, integers, uniform
from leptonc.passes.contract import REASSOCIATES, Contract
from leptonc.passes.fusion import interval_rules, inverse_rules, reduction_chain_rules
from leptonc.passes.fusion.zero_signs import require_sign_unseen
from leptonc.passes.pattern import Const, Match, Var, pat
from leptonc.passes.rewrite import Rule, rule
from leptonc.passes.views import reshape_to

x = Var("x")
c = Const("c")


def _float(m: Match) -> None:
    m.fits(m[x].type.dtype.is_float)
    m.require(m.root.result.type == m[x].type, "the constant broadcasts the other operand")


@rule(pat.pow(x, c))
def power_to_products(m: Match, build: Builder) -> Value:
    """A square, a cube, a root or a reciprocal is computed as such."""
    exponent = uniform(m[c])
    m.fits(exponent in (2, 3, 0.5, -1, -0.5))
    _float(m)
    if exponent == 2:
        return build.mul(m[x], m[x])
    if exponent == 3:
        return build.mul(build.mul(m[x], m[x]), m[x])
    root = build.sqrt(m[x]) if exponent in (0.5, -0.5) else m[x]
    return root if exponent == 0.5 else build.reciprocal(root)


@rule(pat.div(c, x))
def one_over(m: Match, build: Builder) -> Value:
    """One divided by something is its reciprocal."""
    m.fits(uniform(m[c]) == 1)
    _float(m)
    return build.reciprocal(m[x])


@rule(pat.div(x, c))
def divisor_to_factor(m: Match, build: Builder) -> Value:
    """A division by a constant is a multiplication by its reciprocal."""
    _float(m)
    data = array_of(m[c])
    assert data is not None
    with np.errstate(all="ignore"):
        inverse = (1 / data.astype(np.float64)).astype(data.dtype)
    normal = np.abs(inverse.astype(np.float64)) > 1e-30
    m.require(bool((np.isfinite(inverse) & normal).all()), "a reciprocal would not be a number")
    return build.mul(m[x], build.const(Blob.of(inverse)))


@rule(pat.add(x, c))
def add_positive_zero(m: Match, build: Builder) -> Value:
    """What 0.0 is added to stays what it is, but for the sign of a zero."""
    m.fits(uniform(m[c]) == 0)
    _float(m)
    require_sign_unseen(m)
    return m[x]


@rule(pat.reduce_mean(x, Var("axes")))
def mean_to_global_pool(m: Match, build: Builder) -> Value:
    """The mean over the spatial axes of images is a global pool."""
    axes = integers(m.root.operand("axes"))
    m.fits(m[x].type.rank == 4 and m[x].type.dtype.is_float and axes is not None)
    m.fits(sorted(axis % 4 for axis in axes or ()) == [2, 3])
    pooled = build.global_average_pool(m[x])
    if m.root.int("keepdims"):
        return pooled
    return reshape_to(build, pooled, m.root.result.type.shape)


@dataclass(frozen=True)
class ReduceStrength(RewritePass):
    """Replaces powers, divisions by constants, means and chains of limits by cheaper operations.

    Reductions of reductions become one, and operations that undo each other none. Against
    `simplify`, the last bit and the sign of a zero may change.
    """

    name: ClassVar[str] = "reduce-strength"
    numbers: ClassVar[Contract] = REASSOCIATES
    rules: ClassVar[tuple[Rule, ...]] = (
        power_to_products, one_over, divisor_to_factor, add_positive_zero, *interval_rules.RULES,
        *inverse_rules.RULES, *reduction_chain_rules.RULES, mean_to_global_pool,
    )  # fmt: skip
