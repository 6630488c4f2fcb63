"""recognize-activations: activation functions spelled out become one operation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from leptonc.ir.build import Builder
from leptonc.ir.graph import Op, Value
from leptonc.passes.base import RewritePass
from leptonc.passes.constants import uniform
from leptonc.passes.contract import Contract, lossy
from leptonc.passes.fusion.factors import factors_of, is_close, plus_constant
from leptonc.passes.pattern import Const, Match, NoMatchError, Var, pat
from leptonc.passes.rewrite import Rule, rule

x, y = Var("x"), Var("y")
product = pat.any_of("mul", "div")(...)


def _read_once(value: Value, name: str) -> Op | None:
    """The operation called `name` that gives `value`, where nothing else reads it."""
    op = value.producer
    return op if op is not None and op.name == name and len(value.uses) == 1 else None


@rule(product)
def gelu_spelled_out(m: Match, build: Builder) -> Value:
    """X / 2 (1 + erf(x / sqrt(2))) is a GELU, and so is its form with tanh."""
    whole = factors_of(m.root.result)
    m.fits(len(whole.values) == 2)
    for value, other in (whole.values, whole.values[::-1]):
        one_plus = plus_constant(other, 1.0)
        if one_plus is None:
            continue
        inside = _erf_of(one_plus[1], value) or _tanh_of(one_plus[1], value)
        if inside is not None:
            form, ops = inside
            m.require(is_close(whole.number, 0.5), "it is not one half of that")
            m.also += [*ops, one_plus[0], *whole.ops[1:]]
            return build.gelu(value, approximate=form)
    raise NoMatchError


def _erf_of(value: Value, x: Value) -> tuple[str, list[Op]] | None:
    op = _read_once(value, "erf")
    if op is None:
        return None
    inner = factors_of(op.operands[0])
    if inner.values != [x] or not is_close(inner.number, math.sqrt(0.5)):
        return None
    return "none", [*inner.ops, op]


def _tanh_of(value: Value, x: Value) -> tuple[str, list[Op]] | None:
    """Whether `value` is tanh(sqrt(2 / pi) (x + 0.044715 x^3)), as a sum or a product."""
    op = _read_once(value, "tanh")
    if op is None:
        return None
    inner = factors_of(op.operands[0])
    if not is_close(inner.number, math.sqrt(2 / math.pi)):
        return None
    if len(inner.values) == 1:
        cubic = _cubic(inner.values[0], x)
    else:
        cubic = _square_plus_one(inner.values, x)
    return ("tanh", [*cubic, *inner.ops, op]) if cubic is not None else None


def _cubic(value: Value, x: Value) -> list[Op] | None:
    """The operations of x + 0.044715 x^3."""
    add = _read_once(value, "add")
    if add is None:
        return None
    for linear, rest in (add.operands, add.operands[::-1]):
        found = factors_of(rest)
        if linear is x and found.values == [x] * 3 and is_close(found.number, 0.044715):
            return [*found.ops, add]
    return None


def _square_plus_one(values: list[Value], x: Value) -> list[Op] | None:
    """The operations of x times (1 + 0.044715 x^2)."""
    for linear, rest in (values, values[::-1]):
        one_plus = plus_constant(rest, 1.0) if linear is x else None
        if one_plus is not None:
            found = factors_of(one_plus[1])
            if found.values == [x, x] and is_close(found.number, 0.044715):
                return [*found.ops, one_plus[0]]
    return None


sigmoid = pat.sigmoid(x)


@rule(pat.mul(x, sigmoid))
def swish_spelled_out(m: Match, build: Builder) -> Value:
    """X sigmoid(x) is a swish."""
    return build.swish(m[x])


@rule(pat.mul(x, pat.sigmoid(y)))
def swish_with_factor(m: Match, build: Builder) -> Value:
    """X sigmoid(a x) is a swish with a factor."""
    inner = factors_of(m[y])
    m.fits(inner.values == [m[x]] and bool(inner.ops))
    m.also += inner.ops
    return build.swish(m[x], alpha=inner.number)


@rule(product)
def hard_swish_spelled_out(m: Match, build: Builder) -> Value:
    """X clip(x + 3, 0, 6) / 6 is a hard swish; without x it is a hard sigmoid."""
    whole = factors_of(m.root.result)
    m.fits(1 <= len(whole.values) <= 2)
    for index, value in enumerate(whole.values):
        clipped = _clip_to_six(value)
        if clipped is None:
            continue
        source, ops = clipped
        m.require(is_close(whole.number, 1 / 6), "it is not one sixth of that")
        m.also += [*ops, *whole.ops[1:]]
        if len(whole.values) == 1:
            return build.hard_sigmoid(source, alpha=1 / 6, beta=0.5)
        m.fits(whole.values[1 - index] is source)
        return build.hard_swish(source)
    raise NoMatchError


def _clip_to_six(value: Value) -> tuple[Value, list[Op]] | None:
    """The x of clip(x + 3, 0, 6)."""
    op = _read_once(value, "clip")
    low, high = (op.operand("min"), op.operand("max")) if op is not None else (None, None)
    if op is None or low is None or high is None or (uniform(low), uniform(high)) != (0, 6):
        return None
    plus_three = plus_constant(op.operands[0], 3.0)
    return (plus_three[1], [plus_three[0], op]) if plus_three is not None else None


gate = pat.hard_sigmoid(x, beta=0.5)


@rule(pat.mul(x, gate))
def hard_swish_by_gate(m: Match, build: Builder) -> Value:
    """X times its hard sigmoid is a hard swish."""
    m.fits(is_close(m[gate].float("alpha"), 1 / 6))
    return build.hard_swish(m[x])


@rule(pat.mul(x, pat.tanh(pat.softplus(x))))
def mish_spelled_out(m: Match, build: Builder) -> Value:
    """X tanh(softplus(x)) is a mish."""
    return build.mish(m[x])


one = Const("one")


@rule(pat.log(pat.add(pat.exp(x), one)))
def softplus_spelled_out(m: Match, build: Builder) -> Value:
    """The logarithm of one plus an exponential is a softplus, which does not overflow."""
    m.fits(uniform(m[one]) == 1 and m.root.result.type == m[x].type)
    return build.softplus(m[x])


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
    """Recognises GELU, swish, hard swish, mish and softplus in what exporters spell out.

    Constants count as those of the function when they agree to 4 digits, as exporters round them.
    """

    name: ClassVar[str] = "recognize-activations"
    numbers: ClassVar[Contract] = lossy(rtol=1e-3, atol=1e-3)
    rules: ClassVar[tuple[Rule, ...]] = (
        gelu_spelled_out, swish_spelled_out, swish_with_factor, hard_swish_spelled_out,
        hard_swish_by_gate, mish_spelled_out, softplus_spelled_out, bias_gelu_apart,
        fast_gelu_apart, ms_gelu_to_gelu, quick_gelu_to_swish,
    )  # fmt: skip
