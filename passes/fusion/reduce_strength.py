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
from leptonc.passes.pattern import Const, Match, Var, pat
from leptonc.passes.rewrite import Rule, rule
from leptonc.passes.views import reshape_to

x = Var("x")
c, low, high = Const("c"), Const("low"), Const("high")


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
    return m[x]


def _limits(m: Match) -> tuple[float, float]:
    found = uniform(m[low]), uniform(m[high])
    m.require(None not in found, "the limits differ among the elements")
    lower, upper = (number if number is not None else 0.0 for number in found)
    m.require(lower <= upper, "the lower limit is above the upper one")
    _float(m)
    return lower, upper


def _clip(m: Match, build: Builder, lower: float, upper: float) -> Value:
    dtype = m[x].type.dtype.numpy
    limits = [build.const(Blob.of(np.array(number, dtype))) for number in (lower, upper)]
    return build.clip(m[x], min=limits[0], max=limits[1])


@rule(pat.min(pat.max(x, low), high))
def limits_to_clip(m: Match, build: Builder) -> Value:
    """The smaller of a limit and the larger of another and something is a clip."""
    return _clip(m, build, *_limits(m))


@rule(pat.max(pat.min(x, high), low))
def limits_to_clip_reversed(m: Match, build: Builder) -> Value:
    """The larger of a limit and the smaller of another and something is a clip."""
    return _clip(m, build, *_limits(m))


@rule(pat.min(pat.relu(x), high))
def limited_relu_to_clip(m: Match, build: Builder) -> Value:
    """A relu with an upper limit is a clip."""
    upper = uniform(m[high])
    m.fits(upper is not None and upper >= 0)
    _float(m)
    return _clip(m, build, 0.0, upper or 0.0)


@rule(pat.relu(pat.clip(x, min=low, max=high)))
def relu_of_clip(m: Match, build: Builder) -> Value:
    """A relu of a clip that lets nothing negative through is the clip."""
    lower, upper = _limits(m)
    m.require(upper >= 0, "the upper limit is negative")
    return _clip(m, build, max(lower, 0.0), upper)


@rule(pat.max(x, c))
def maximum_to_relu(m: Match, build: Builder) -> Value:
    """The larger of zero and something is a relu."""
    m.fits(uniform(m[c]) == 0)
    _float(m)
    return build.relu(m[x])


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
    """Replaces powers, divisions by constants, pairs of limits and means by cheaper operations.

    Against `simplify`, the last bit and the sign of a zero may change.
    """

    name: ClassVar[str] = "reduce-strength"
    numbers: ClassVar[Contract] = REASSOCIATES
    rules: ClassVar[tuple[Rule, ...]] = (
        power_to_products, one_over, divisor_to_factor, add_positive_zero, limits_to_clip,
        limits_to_clip_reversed, limited_relu_to_clip, relu_of_clip, maximum_to_relu,
        mean_to_global_pool,
    )  # fmt: skip
