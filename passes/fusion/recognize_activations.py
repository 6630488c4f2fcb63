"""recognize-activations: activation functions spelled out become one operation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from leptonc.ir.build import Builder
from leptonc.ir.graph import Value
from leptonc.passes.base import RewritePass
from leptonc.passes.constants import uniform
from leptonc.passes.contract import Contract, for_finite, lossy
from leptonc.passes.fusion.activation_forms import (
    GELU,
    MISH,
    SIGMOID,
    SOFTSIGN,
    TANH,
    Form,
    Spelling,
    factor_of_swish,
    line_through_clip,
    require_free,
    require_kernels,
    spellings,
)  # fmt: skip
from leptonc.passes.fusion.formulas import line_of, tolerance_of
from leptonc.passes.fusion.piecewise_rules import RULES as PIECEWISE
from leptonc.passes.pattern import Const, Match, NoMatchError, Var, pat
from leptonc.passes.rewrite import Rule, rule

x, y = Var("x"), Var("y")
arithmetic = pat.any_of("mul", "div", "add", "sub")(...)
product = pat.any_of("mul", "div")(...)


def _recognised(m: Match, build: Builder, forms: Sequence[Form]) -> Value:
    seen = spellings(m, *(form.leaf for form in forms))
    for form in forms:
        for found in seen:
            if form.fits(found):
                _take(m, found)
                return form.make(build, found.x)
    raise NoMatchError


def _take(m: Match, found: Spelling) -> None:
    require_free(m, found)
    require_kernels(m)
    m.also += [op for op in found.ops if op is not m.root]


@rule(arithmetic)
def gelu_spelled_out(m: Match, build: Builder) -> Value:
    """X / 2 (1 + erf(x / sqrt(2))) is a GELU, and so are its forms with tanh and sigmoid."""
    seen = spellings(m, *(form.leaf for form in GELU))
    for form in GELU:
        for found in seen:
            tolerance = tolerance_of(found.x.type.dtype)
            keys = found.outer.quotient.above.keys() == form.outer.above.keys()
            if found.leaf.name != form.leaf or not keys:
                continue
            if not found.inner.quotient.is_close(form.inner, tolerance):
                continue
            m.require(form.fits(found), "it is not one half of that")
            _take(m, found)
            return form.make(build, found.x)
    raise NoMatchError


@rule(pat.any_of("mul", "div", "add", "sub", "reciprocal")(...))
def sigmoid_spelled_out(m: Match, build: Builder) -> Value:
    """1 / (1 + exp(-x)) is a sigmoid, which does not overflow; (1 + tanh(x / 2)) / 2 is one too."""
    return _recognised(m, build, SIGMOID)


@rule(arithmetic)
def tanh_spelled_out(m: Match, build: Builder) -> Value:
    """(exp(2 x) - 1) / (exp(2 x) + 1) is a hyperbolic tangent, which does not overflow."""
    return _recognised(m, build, TANH)


@rule(product)
def mish_by_exponential(m: Match, build: Builder) -> Value:
    """X (e^2 + 2 e) / (e^2 + 2 e + 2), where e is exp(x), is a mish, which does not overflow."""
    return _recognised(m, build, MISH)


@rule(pat.div(...))
def softsign_spelled_out(m: Match, build: Builder) -> Value:
    """X / (1 + |x|) is a softsign."""
    return _recognised(m, build, SOFTSIGN)


@rule(arithmetic)
def swish_spelled_out(m: Match, build: Builder) -> Value:
    """X sigmoid(a x) is a swish with the factor a, however the sigmoid is spelled."""
    for found in spellings(m, "sigmoid", "exp", "tanh"):
        factor = factor_of_swish(found)
        if factor is not None and factor != 0:
            _take(m, found)
            return build.swish(found.x, alpha=_rounded(factor, 1.0, found))
    raise NoMatchError


def _rounded(number: float, usual: float, found: Spelling) -> float:
    """`usual` where the number is that up to the digits that exporters print."""
    return usual if abs(number - usual) <= tolerance_of(found.x.type.dtype) * usual else number


@rule(pat.any_of("mul", "div", "clip")(...))
def hard_sigmoid_spelled_out(m: Match, build: Builder) -> Value:
    """Clip(x + 3, 0, 6) / 6 is a hard sigmoid; x times that is a hard swish."""
    # the x that most arithmetic leads back to
    for found in reversed(spellings(m, "clip")):
        line = line_through_clip(found)
        if line is None or len(found.ops) == 1:
            continue
        alpha, beta, gated = line
        alpha, beta = _rounded(alpha, 1 / 6, found), _rounded(beta, 0.5, found)
        if gated:
            m.require(alpha == 1 / 6 and beta == 0.5, "it is not one sixth of x plus one half")
            _take(m, found)
            return build.hard_swish(found.x)
        _take(m, found)
        return build.hard_sigmoid(found.x, alpha=alpha, beta=beta)
    raise NoMatchError


gate = pat.hard_sigmoid(y)


@rule(pat.mul(x, gate))
def hard_swish_by_gate(m: Match, build: Builder) -> Value:
    """X times its hard sigmoid is a hard swish."""
    alpha, beta = m[gate].float("alpha"), m[gate].float("beta")
    line = line_of(m[y], m[x])
    m.fits(line is not None and m[x].type == m.root.result.type)
    a, b, ops = line or (0.0, 0.0, [])
    tolerance = tolerance_of(m[x].type.dtype)
    usual = abs(alpha * a - 1 / 6) <= tolerance and abs(alpha * b + beta - 0.5) <= tolerance
    m.require(usual, "it is not one sixth of x plus one half")
    m.also += ops
    return build.hard_swish(m[x])


@rule(pat.mul(x, pat.tanh(pat.softplus(x))))
def mish_spelled_out(m: Match, build: Builder) -> Value:
    """X tanh(softplus(x)) is a mish."""
    require_kernels(m)
    return build.mish(m[x])


@rule(pat.mul(pat.elu(x), Const("gamma")))
def selu_spelled_out(m: Match, build: Builder) -> Value:
    """A multiple of an ELU is a SELU."""
    gamma = uniform(m.root.operands[1]) or uniform(m.root.operands[0])
    elu = next(op for op in (v.producer for v in m.root.operands) if op and op.name == "elu")
    m.fits(gamma is not None and m.root.result.type == m[x].type)
    m.require(gamma is not None and gamma > 0, "the factor is not positive")
    return build.selu(m[x], alpha=elu.float("alpha"), gamma=gamma or 0.0)


@rule(pat.bias_gelu(x, y))
def bias_gelu_apart(m: Match, build: Builder) -> Value:
    """A GELU of a sum is taken apart, so that the sum can join what is before it."""
    return build.gelu(build.add(m[x], m[y]))


@rule(pat.fast_gelu(x, y.optional()))
def fast_gelu_apart(m: Match, build: Builder) -> Value:
    """A fast GELU is a GELU by tanh of a sum."""
    bias = m.get(y)
    return build.gelu(m[x] if bias is None else build.add(m[x], bias), approximate="tanh")


@rule(pat.ms_gelu(x))
def ms_gelu_to_gelu(m: Match, build: Builder) -> Value:
    """A GELU of another domain is a GELU."""
    return build.gelu(m[x])


@rule(pat.quick_gelu(x))
def quick_gelu_to_swish(m: Match, build: Builder) -> Value:
    """A quick GELU is a swish with a factor."""
    return build.swish(m[x], alpha=m.root.float("alpha"))


@dataclass(frozen=True)
class RecognizeActivations(RewritePass):
    """Recognises activation functions in what exporters spell out.

    Sums, products and quotients count however they are associated. Constants count as those of
    the function when they agree to 4 digits, as exporters round them. Where a spelling gives NaN
    because an exponential overflows, the function does not; where a choice by a comparison gives
    0 for NaN, the function gives NaN.
    """

    name: ClassVar[str] = "recognize-activations"
    numbers: ClassVar[Contract] = for_finite(lossy(rtol=1e-3, atol=1e-3))
    rules: ClassVar[tuple[Rule, ...]] = (
        gelu_spelled_out, swish_spelled_out, sigmoid_spelled_out,
        tanh_spelled_out, softsign_spelled_out, hard_sigmoid_spelled_out, hard_swish_by_gate,
        mish_spelled_out, selu_spelled_out, *PIECEWISE, bias_gelu_apart, fast_gelu_apart,
        ms_gelu_to_gelu, quick_gelu_to_swish,
    )  # fmt: skip
