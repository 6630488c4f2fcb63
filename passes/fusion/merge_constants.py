"""merge-constants: constants that are added or multiplied one after the other become one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.build import Builder
from leptonc.ir.graph import Value
from leptonc.passes.base import RewritePass
from leptonc.passes.cleanup.constant_rules import products, shortest, sums
from leptonc.passes.constants import array_of
from leptonc.passes.contract import REASSOCIATES, Contract
from leptonc.passes.pattern import Const, Match, Var, pat
from leptonc.passes.rewrite import Rule, rule

FURTHEST = 2.0**40
"""Factors beyond this may overflow where their product does not."""
FURTHEST_HALF = 2.0**6
"""The same for 16-bit floats."""

x, y = Var("x"), Var("y")
c, d = Const("c"), Const("d")


def _no_cancelling(m: Match, first: Array, second: Array, merged: Array) -> None:
    """A sum that is much smaller than its parts rounds away less than they did."""
    m.fits(merged.dtype.kind not in "iub")
    a, b, total = (np.abs(each.astype(np.float64)) for each in (first, second, merged))
    m.require(bool(np.isfinite(total).all()), "the sum of the constants is not finite")
    m.require(bool((2 * total >= np.maximum(a, b)).all()), "the constants cancel")


def _no_overflow(m: Match, first: Array, second: Array, merged: Array) -> None:
    m.fits(merged.dtype.kind not in "iub")
    furthest = FURTHEST if merged.dtype.itemsize > 2 else FURTHEST_HALF
    every = [np.abs(each.astype(np.float64)) for each in (first, second, merged)]
    inside = all(bool(((each >= 1 / furthest) & (each <= furthest)).all()) for each in every)
    m.require(inside, "a factor is 0, or so large or small that the order matters")


@rule(pat.add(pat.add(x, c), pat.add(y, d)))
def constants_of_summands(m: Match, build: Builder) -> Value:
    """Constants that are added to both summands are added to the sum."""
    first, second = array_of(m[c]), array_of(m[d])
    m.fits(m[x].type.dtype.is_float)
    assert first is not None
    assert second is not None
    type = m.root.result.type
    m.require(m[x].type == type and m[y].type == type, "an operand is broadcast")
    m.require(first.size == 1 or second.size == 1 or first.shape == second.shape, "they broadcast")
    with np.errstate(all="ignore"):
        total = np.asarray(first + second, first.dtype)
    _no_cancelling(m, first, second, total)
    return build.add(build.add(m[x], m[y]), build.const(shortest(total)))


@dataclass(frozen=True)
class MergeConstants(RewritePass):
    """Makes one constant of those that are added, or multiplied, one after the other.

    Runs after activations and normalisations are recognised by their constants. Those whose sum
    cancels stay, since rounding by a large constant may be what they are for.
    """

    name: ClassVar[str] = "merge-constants"
    numbers: ClassVar[Contract] = REASSOCIATES
    rules: ClassVar[tuple[Rule, ...]] = (
        sums(_no_cancelling),
        products(_no_overflow),
        constants_of_summands,
    )
