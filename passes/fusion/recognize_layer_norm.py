"""recognize-layer-norm: normalisation spelled out becomes one operation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from leptonc.ir.build import Builder
from leptonc.ir.graph import Op, Value
from leptonc.passes.base import RewritePass
from leptonc.passes.contract import REASSOCIATES, Contract, for_finite
from leptonc.passes.fusion.norm_forms import (
    Factors,
    Spread,
    factors_of,
    is_mean,
    is_same,
    spread_of,
    uncast,
)  # fmt: skip
from leptonc.passes.fusion.norm_making import axes_of, make_norm
from leptonc.passes.fusion.norm_rules import RULES
from leptonc.passes.pattern import Match, NoMatchError, Var, pat
from leptonc.passes.rewrite import Rule, rule

x, scale, offset = Var("x"), Var("scale"), Var("offset")


@dataclass(frozen=True)
class _Found:
    """`source`, less its mean where it is `centred`, over a root of a spread, times the rest."""

    source: Value
    centred: bool
    spread: Spread
    rest: Sequence[tuple[Value, float]]
    factors: Factors
    subtraction: Op | None


@rule(pat.any_of("mul", "div", "cast")(...))
def norm_spelled_out(m: Match, build: Builder) -> Value:
    """What is divided by its root mean square is normalised, and so are deviations by theirs.

    Any factors may stand between: products count however they are associated.
    """
    m.fits(m.root.result.type.dtype.is_float and not _is_narrowed(m.root.result))
    factors = factors_of(m.root)
    found = _found_in(factors) if factors is not None else None
    if factors is None or found is None:
        raise NoMatchError
    source = _narrowed(m, found)
    m.require(found.spread.epsilon >= 0, "epsilon is negative")
    m.require(found.spread.factor > 0, "the mean square is not added")
    m.require(all(abs(power) == 1 for _, power in found.rest), "powers of it are multiplied")
    form = axes_of(m, source, found.spread.axes, centred=found.centred)
    _require_free(m, found)
    m.fits(_spans(m.root.result, source, found))
    m.also += [op for op in (*factors.ops, *found.spread.ops) if op is not m.root]
    number = factors.number / found.spread.factor**0.5
    epsilon = found.spread.epsilon / found.spread.factor
    result = make_norm(build, source, form, epsilon, number)
    if result.type.dtype is not m.root.result.type.dtype:
        result = build.cast(result, to=m.root.result.type.dtype)
    for value, power in found.rest:
        result = build.mul(result, value) if power > 0 else build.div(result, value)
    return result


def _found_in(factors: Factors) -> _Found | None:
    for index, (value, power) in enumerate(factors.powers):
        spread = spread_of(value) if power == -0.5 else None
        if spread is None:
            continue
        others = [pair for place, pair in enumerate(factors.powers) if place != index]
        for place, (other, times) in enumerate(others):
            rest = [pair for at, pair in enumerate(others) if at != place]
            made = _joined(other, spread, rest, factors) if times == 1 else None
            if made is not None:
                return made
    return None


def _joined(
    value: Value, spread: Spread, rest: Sequence[tuple[Value, float]], factors: Factors
) -> _Found | None:
    """The normalisation whose deviations are `value`; None where the spread is of others."""
    op = uncast(value).producer
    apart = op.operands if op is not None and op.name == "sub" else ()
    if spread.mean is not None:
        same = len(apart) == 2 and is_same(apart[0], spread.squared) and apart[1] is spread.mean
        return _Found(spread.squared, True, spread, rest, factors, op) if same else None
    if not is_same(value, spread.squared):
        return None
    if len(apart) == 2 and is_mean(apart[1], apart[0], spread.axes):
        return _Found(apart[0], True, spread, rest, factors, op)
    return _Found(value, False, spread, rest, factors, None)


def _is_narrowed(value: Value) -> bool:
    """True where only a cast to fewer bits reads `value`: then that is what is recognised."""
    user = value.only_user
    if user is None or user.name != "cast" or not user.result.type.dtype.is_float:
        return False
    return user.result.type.dtype.bits < value.type.dtype.bits


def _narrowed(m: Match, found: _Found) -> Value:
    """What is normalised, before it is widened only to be narrowed again."""
    before = uncast(found.source)
    return before if before.type.dtype is m.root.result.type.dtype else found.source


def _require_free(m: Match, found: _Found) -> None:
    """Go on only where nothing else reads what the normalisation computes by itself."""
    chain = {*found.factors.ops, *found.spread.ops}
    for op in chain - {m.root}:
        alone = all(use.op in chain for result in op.results for use in result.uses)
        m.require(alone, f"something else reads the {op.name}")


def _spans(root: Value, source: Value, found: _Found) -> bool:
    """True where the root has the extents of the normalised tensor, and the rest joins them."""
    fits = root.type.shape == source.type.shape
    return fits and all(value.type.dtype is root.type.dtype for value, _ in found.rest)


product = pat.mul(x, scale)


@rule(pat.add(product, pat.sub(offset, pat.mul(Var("mean"), scale))))
def mean_apart(m: Match, build: Builder) -> Value:
    """X s + (b - mean s) is (x - mean) s + b."""
    return build.add(_about_mean(m, build), m[offset])


@rule(pat.sub(product, pat.mul(Var("mean"), scale)))
def mean_apart_without_offset(m: Match, build: Builder) -> Value:
    """X s - mean s is (x - mean) s."""
    return _about_mean(m, build)


@rule(pat.sub(product, pat.sub(pat.mul(Var("mean"), scale), offset)))
def mean_apart_reversed(m: Match, build: Builder) -> Value:
    """X s - (mean s - b) is (x - mean) s + b."""
    return build.add(_about_mean(m, build), m[offset])


def _about_mean(m: Match, build: Builder) -> Value:
    (mean,) = (value for hole, value in m.values.items() if hole.label == "mean")
    left, right = m[x], m[scale]
    m.fits(left.type == m.root.result.type and left.type.dtype.is_float)
    m.fits(_is_some_mean(mean, left))
    return build.mul(build.sub(left, mean), right)


def _is_some_mean(mean: Value, of: Value) -> bool:
    op = mean.producer
    return op is not None and op.name == "reduce_mean" and op.operands[0] is of


@dataclass(frozen=True)
class RecognizeLayerNorm(RewritePass):
    """Recognises layer, instance, group and root mean square normalisation in what is spelled out.

    It does not matter how products are associated, how squares, roots and reciprocals are written,
    and whether a variance is the mean square of deviations or a difference of means. Over axes
    that are not the last, the tensor is transposed before and after. Finite numbers stay finite
    where their squares would overflow or a difference of means would be negative.
    """

    name: ClassVar[str] = "recognize-layer-norm"
    numbers: ClassVar[Contract] = for_finite(REASSOCIATES)
    rules: ClassVar[tuple[Rule, ...]] = (
        mean_apart, mean_apart_without_offset, mean_apart_reversed, norm_spelled_out, *RULES,
    )  # fmt: skip
