"""What activation functions are in terms of x and one function of x that is not arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from leptonc.ir.build import Builder
from leptonc.ir.graph import Attribute, Op, Value
from leptonc.ir.types import DType
from leptonc.passes.constants import uniform
from leptonc.passes.fusion.formulas import (
    Formula,
    Quotient,
    arguments_of,
    below,
    formula_of,
    tolerance_of,
)  # fmt: skip
from leptonc.passes.pattern import Match

_CUBIC = 0.044715
_TO_TANH = math.sqrt(2 / math.pi)
ONE, X, T, XT = (0, 0), (1, 0), (0, 1), (1, 1)
"""1, x, the other function t of x, and their product."""


@dataclass(frozen=True)
class Spelling:
    """A root as a formula of x and of what `leaf` makes of another formula of x."""

    x: Value
    leaf: Op
    outer: Formula
    inner: Formula

    @property
    def ops(self) -> list[Op]:
        """All operations of it, the root's last."""
        return [*self.inner.ops, self.leaf, *self.outer.ops]


LEAVES = frozenset({"erf", "tanh", "sigmoid", "exp", "abs", "clip"})


def spellings(m: Match, *leaves: str) -> list[Spelling]:
    """The ways to see the root as arithmetic on x and on one of `leaves` of arithmetic on x."""
    return [found for found in m.once(_spellings) if found.leaf.name in leaves]


def _spellings(op: Op) -> list[Spelling]:
    root = op.results[0]
    if not root.type.dtype.is_float:
        return []
    found: list[Spelling] = []
    for leaf in below(root, LEAVES):
        argument = leaf.operands[0]
        for x in arguments_of(argument) if argument.type == root.type else ():
            inner = formula_of(argument, [x])
            outer = formula_of(root, [x, leaf.result]) if inner is not None else None
            if outer is not None and inner is not None:
                found.append(Spelling(x, leaf, outer, inner))
    return found


def require_free(m: Match, found: Spelling) -> None:
    """Go on only where nothing else reads the function, so that it need not be computed twice."""
    inside = {m.root, *found.outer.ops}
    alone = found.leaf is m.root or all(use.op in inside for use in found.leaf.result.uses)
    m.require(alone, f"something else reads the {found.leaf.name}")


def require_kernels(m: Match) -> None:
    """Go on only for element types for which runtimes have more than arithmetic."""
    m.require(m.root.results[0].type.dtype is not DType.F64, "it is of double precision")


def _polynomial(parts: Mapping[tuple[int, int], float]) -> Quotient:
    return Quotient(parts, {ONE: 1.0})


def _line(parts: Mapping[int, float]) -> Quotient:
    return Quotient({(power,): x for power, x in parts.items()}, {(0,): 1.0})


@dataclass(frozen=True)
class Form:
    """One way to write an activation function: `outer` of x and of `leaf` of `inner` of x."""

    name: str
    leaf: str
    outer: Quotient
    inner: Quotient
    attrs: Mapping[str, Attribute] = field(default_factory=dict[str, Attribute])
    mirrored: bool = False
    """It is the function of -x."""

    def fits(self, found: Spelling) -> bool:
        """True where `found` is this form."""
        tolerance = tolerance_of(found.x.type.dtype)
        return (
            found.leaf.name == self.leaf
            and found.inner.quotient.is_close(self.inner, tolerance)
            and found.outer.quotient.is_close(self.outer, tolerance)
        )

    def make(self, build: Builder, x: Value) -> Value:
        """The function as one operation."""
        if self.mirrored:
            x = build.neg(x)
        return build.op(self.name, [x], self.attrs).result


_HALF_ONE_PLUS = _polynomial({X: 0.5, XT: 0.5})
_X_TIMES_T, _T = _polynomial({XT: 1.0}), _polynomial({T: 1.0})
_ONE_PLUS_T = {ONE: 1.0, T: 1.0}
_GELU_INNER = {1: _TO_TANH, 3: _TO_TANH * _CUBIC}
_SAME, _NEGATIVE, _HALF = _line({1: 1.0}), _line({1: -1.0}), _line({1: 0.5})
_TWICE, _MINUS_TWICE = _line({1: 2.0}), _line({1: -2.0})

GELU = (
    Form("gelu", "erf", _HALF_ONE_PLUS, _line({1: math.sqrt(0.5)})),
    Form("gelu", "tanh", _HALF_ONE_PLUS, _line(_GELU_INNER), {"approximate": "tanh"}),
    Form(
        "gelu", "sigmoid", _X_TIMES_T, _line({n: 2 * c for n, c in _GELU_INNER.items()}),
        {"approximate": "tanh"},
    ),
)  # fmt: skip
SIGMOID = (
    Form("sigmoid", "exp", Quotient({ONE: 1.0}, _ONE_PLUS_T), _NEGATIVE),
    Form("sigmoid", "exp", Quotient({T: 1.0}, _ONE_PLUS_T), _SAME),
    Form("sigmoid", "tanh", _polynomial({ONE: 0.5, T: 0.5}), _HALF),
    Form("sigmoid", "exp", Quotient({ONE: 1.0}, _ONE_PLUS_T), _SAME, mirrored=True),
)
TANH = (
    Form("tanh", "exp", Quotient({(0, 2): 1.0, ONE: -1.0}, {(0, 2): 1.0, ONE: 1.0}), _SAME),
    Form("tanh", "exp", Quotient({ONE: 1.0, (0, 2): -1.0}, {(0, 2): 1.0, ONE: 1.0}), _NEGATIVE),
    Form("tanh", "exp", Quotient({T: 1.0, ONE: -1.0}, _ONE_PLUS_T), _TWICE),
    Form("tanh", "exp", Quotient({ONE: 1.0, T: -1.0}, _ONE_PLUS_T), _MINUS_TWICE),
    Form("tanh", "sigmoid", _polynomial({T: 2.0, ONE: -1.0}), _TWICE),
)
MISH = (
    Form("mish", "exp", Quotient({(1, 2): 1.0, XT: 2.0}, {(0, 2): 1.0, T: 2.0, ONE: 2.0}), _SAME),
    Form("mish", "exp", Quotient({X: 1.0, XT: 2.0}, {ONE: 1.0, T: 2.0, (0, 2): 2.0}), _NEGATIVE),
)
SOFTSIGN = (Form("softsign", "abs", Quotient({X: 1.0}, _ONE_PLUS_T), _SAME),)


def factor_of_swish(found: Spelling) -> float | None:
    """The a of x sigmoid(a x), however the sigmoid is spelled; None for other formulas."""
    tolerance = tolerance_of(found.x.type.dtype)
    inner, outer = found.inner.quotient, found.outer.quotient
    if set(inner.above) != {(1,)} or set(inner.below) != {(0,)}:
        return None
    factor = inner.above[1,] / inner.below[0,]
    for leaf, form, sign in _SWISH:
        if found.leaf.name == leaf and outer.is_close(form, tolerance):
            return factor * sign
    return None


_SWISH = (
    ("sigmoid", _X_TIMES_T, 1.0),
    ("exp", Quotient({X: 1.0}, _ONE_PLUS_T), -1.0),
    ("exp", Quotient({XT: 1.0}, _ONE_PLUS_T), 1.0),
    ("tanh", _HALF_ONE_PLUS, 2.0),
)


def line_through_clip(found: Spelling) -> tuple[float, float, bool] | None:
    """The a and b of min(max(a x + b, 0), 1), and whether x times that is meant.

    None for other formulas than a multiple of a clip from 0 that is at most 1 after it.
    """
    low, high = (found.leaf.operand(name) for name in ("min", "max"))
    limits = [uniform(limit) if limit is not None else None for limit in (low, high)]
    inner, outer = found.inner.quotient, found.outer.quotient
    if limits[0] != 0 or set(outer.below) != {ONE} or set(inner.below) != {(0,)}:
        return None
    if limits[1] is None or not limits[1] > 0:  # below the other limit, it is all that is left
        return None
    gated = set(outer.above) == {XT}
    if not (gated or set(outer.above) == {T}) or not {(1,)} <= set(inner.above) <= {(0,), (1,)}:
        return None
    scale = outer.above[XT if gated else T] / outer.below[ONE]
    if abs(scale * limits[1] - 1) > tolerance_of(found.x.type.dtype):
        return None
    scale /= inner.below[0,]
    return scale * inner.above[1,], scale * inner.above.get((0,), 0.0), gated
