"""Rules of `recognize-activations` about functions that differ for positive and negative x."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from leptonc.ir.build import Builder
from leptonc.ir.graph import Op, Value
from leptonc.passes.constants import uniform
from leptonc.passes.fusion.activation_forms import require_kernels
from leptonc.passes.fusion.formulas import arguments_of, formula_of, line_of
from leptonc.passes.fusion.formulas import below as nearest
from leptonc.passes.pattern import Const, Match, NoMatchError, Var, pat
from leptonc.passes.rewrite import rule

x, y = Var("x"), Var("y")
positive, negative = Var("positive"), Var("negative")
limit, number = Const("limit"), Const("number")

above = pat.any_of("greater", "greater_or_equal")(x, limit)
below = pat.any_of("less", "less_or_equal")(x, limit)


def _same(m: Match, *values: Value) -> None:
    """Go on only where `values` and the root are tensors of floats of one type."""
    type = m.root.results[0].type
    m.fits(type.dtype.is_float and all(value.type == type for value in values))


def _at_zero(m: Match) -> None:
    m.fits(uniform(m[limit]) == 0)


def _either_way(m: Match, build: Builder, up: Value, down: Value) -> Value:
    """What is `up` for positive x and `down` for others, as one operation."""
    _same(m, m[x])
    if uniform(up) == 0 and down is m[x]:
        return build.min(down, up)
    m.fits(up is m[x])
    if uniform(down) == 0:
        return build.relu(m[x])
    if (
        down.producer is not None
        and down.producer.name == "neg"
        and down.producer.operands[0] is up
    ):
        return build.abs(m[x])
    line = line_of(down, m[x])
    if line is not None and line[1] == 0:
        require_kernels(m)
        m.also += line[2]
        return build.leaky_relu(m[x], alpha=line[0])
    factor = _slope_of(down, m[x])
    if factor is not None:
        require_kernels(m)
        return build.prelu(m[x], factor)
    found = _alpha_of(down, m[x])
    m.fits(found is not None and found[1] == 1)
    require_kernels(m)
    return build.elu(m[x], alpha=found[0] if found is not None else 1.0)


def _slope_of(value: Value, x: Value) -> Value | None:
    """What x is multiplied by to give `value`, where that is a constant."""
    op = value.producer
    if op is None or op.name != "mul" or value.type != x.type:
        return None
    for left, right in (op.operands, op.operands[::-1]):
        if left is x and right.blob is not None:
            return right
    return None


def _alpha_of(value: Value, x: Value) -> tuple[float, float, Value] | None:
    """The a, b and z of `value` = a (exp(b z) - 1), where z is x or its negative part."""
    op = _exponential_under(value)
    if op is None:
        return None
    z = next((z for z in arguments_of(op.operands[0]) if z is x or _is_negative_part(z, x)), None)
    line, outer = line_of(op.operands[0], z or x), line_of(value, op.result)
    if z is None or line is None or outer is None or line[1] != 0:
        return None
    alpha, rest, _ = outer
    return (alpha, line[0], z) if abs(alpha + rest) <= 1e-4 * abs(alpha) else None


def _exponential_under(value: Value) -> Op | None:
    """The only exponential that arithmetic with numbers makes `value` of."""
    found = nearest(value, frozenset(["exp"]))
    return found[0] if len(found) == 1 else None


def _is_negative_part(value: Value, x: Value) -> bool:
    """True for what is x where it is negative and 0 elsewhere."""
    op = value.producer
    if op is None or op.operands[0] is not x:
        return op is not None and op.name == "min" and _has_zero(op) and x in op.operands
    if op.name == "clip":
        high = op.operand("max")
        return op.operand("min") is None and high is not None and uniform(high) == 0
    return op.name == "min" and _has_zero(op)


def _has_zero(op: Op) -> bool:
    return len(op.operands) == 2 and any(uniform(operand) == 0 for operand in op.operands)


@rule(pat.where(above, positive, negative))
def choice_above_zero(m: Match, build: Builder) -> Value:
    """X where it is positive, and else 0, a x, a (exp(x) - 1) or -x, is one function of x."""
    _at_zero(m)
    return _either_way(m, build, m[positive], m[negative])


@rule(pat.where(below, negative, positive))
def choice_below_zero(m: Match, build: Builder) -> Value:
    """0, a x, a (exp(x) - 1) or -x where x is negative, and else x, is one function of x."""
    _at_zero(m)
    return _either_way(m, build, m[positive], m[negative])


strictly = pat.greater(x, limit)


@rule(pat.where(strictly, x, number))
def threshold_spelled_out(m: Match, build: Builder) -> Value:
    """X where it is above a limit, and else 0, is a thresholded relu."""
    threshold = uniform(m[limit])
    m.fits(uniform(m[number]) == 0 and threshold not in (None, 0.0))
    _same(m, m[x])
    require_kernels(m)
    return build.thresholded_relu(m[x], alpha=threshold or 0.0)


@rule(pat.where(pat.less_or_equal(x, limit), number, x))
def threshold_the_other_way(m: Match, build: Builder) -> Value:
    """0 where x is at most a limit, and else x, is a thresholded relu."""
    threshold = uniform(m[limit])
    m.fits(uniform(m[number]) == 0 and threshold not in (None, 0.0))
    m.require(threshold == threshold, "nothing is above the limit, which is NaN")
    _same(m, m[x])
    require_kernels(m)
    return build.thresholded_relu(m[x], alpha=threshold or 0.0)


@rule(pat.where(above, x, pat.softplus(x)))
def softplus_with_threshold(m: Match, build: Builder) -> Value:
    """A softplus that is taken to be x where x is large is a softplus."""
    threshold = uniform(m[limit])
    _same(m, m[x])
    m.require(threshold is not None and threshold >= 15, "x is not large enough there")
    return build.softplus(m[x])


@rule(pat.max(x, y))
def maximum_with_multiple(m: Match, build: Builder) -> Value:
    """The larger of x and a x, where a is from 0 to 1, is a leaky relu; of x and -x, |x|."""
    _same(m, m[x], m[y])
    line = line_of(m[y], m[x])
    m.fits(line is not None and bool(line[2]) and line[1] == 0)
    alpha, _, ops = line or (0.0, 0.0, [])
    m.require(alpha == -1 or 0 < alpha <= 1, "the factor is not from 0 to 1")
    if alpha == -1:
        return build.abs(m[x])
    require_kernels(m)
    m.also += ops
    return build.leaky_relu(m[x], alpha=alpha)


rectified = pat.relu(x)


@rule(pat.any_of("add", "sub")(...))
def relu_plus_negative_part(m: Match, build: Builder) -> Value:
    """The positive part of x, and a multiple of its negative part, are a leaky relu."""
    root = m.root.results[0]
    _same(m, root)
    for relu in nearest(root, frozenset(["relu"])):
        source = relu.operands[0]
        for alpha, ops in _multiples(root, relu.result, source):
            require_kernels(m)
            m.also += ops
            return build.leaky_relu(source, alpha=alpha)
    raise NoMatchError


def _multiples(root: Value, relu: Value, source: Value) -> Iterator[tuple[float, list[Op]]]:
    """The a of `root` = `relu` + a min(x, 0), and the operations between."""
    for leaf in nearest(root, frozenset(["relu", "min", "clip", "abs"])):
        if leaf.result is relu or leaf.result.type != root.type:
            continue
        found = formula_of(root, [relu, leaf.result, source])
        if found is None or set(found.quotient.below) != {_ONE}:
            continue
        one = found.quotient.below[_ONE]
        parts = {key: number / one for key, number in found.quotient.above.items()}
        if parts.pop((1, 0, 0), 0.0) != 1.0:
            continue
        factor = parts.get((0, 1, 0), 0.0)
        if set(parts) == {(0, 1, 0)} and _is_negative_part(leaf.result, source):
            yield factor, [*found.ops[:-1], leaf]
        elif set(parts) == {(0, 1, 0)} and _is_negated_relu(leaf, source):
            yield -factor, [*found.ops[:-1], leaf]
        elif leaf.name == "abs" and leaf.operands[0] is source and _is_half_of_both(parts):
            yield -2 * factor, [*found.ops[:-1], leaf]


_ONE = (0, 0, 0)


def _is_negated_relu(leaf: Op, source: Value) -> bool:
    """True for relu(-x)."""
    inner = leaf.operands[0].producer
    return (
        leaf.name == "relu"
        and inner is not None
        and inner.name == "neg"
        and (inner.operands[0] is source)
    )


def _is_half_of_both(parts: Mapping[tuple[int, ...], float]) -> bool:
    """True for the a / 2 (x - |x|) that is a min(x, 0)."""
    return set(parts) == {(0, 1, 0), (0, 0, 1)} and parts[0, 1, 0] == -parts[0, 0, 1]


@rule(pat.add(rectified, y))
def relu_plus_exponential(m: Match, build: Builder) -> Value:
    """Relu(x) + a (exp(min(x, 0)) - 1) is an ELU."""
    _same(m, m[x], m[y])
    found = _alpha_of(m[y], m[x])
    m.fits(found is not None and found[1] == 1 and found[2] is not m[x])
    require_kernels(m)
    return build.elu(m[x], alpha=found[0] if found is not None else 1.0)


@rule(pat.add(rectified, pat.min(y, limit)))
def relu_plus_limited_exponential(m: Match, build: Builder) -> Value:
    """Relu(x) + min(a (exp(x / a) - 1), 0) is a CELU."""
    _same(m, m[x], m[y])
    _at_zero(m)
    alpha, factor, source = _alpha_of(m[y], m[x]) or (0.0, 0.0, m[y])
    m.fits(source is m[x] and abs(alpha * factor - 1) <= 1e-4)
    m.require(alpha > 0, "the factor is not positive")
    require_kernels(m)
    return build.celu(m[x], alpha=alpha)


RULES = (
    choice_above_zero, choice_below_zero, threshold_spelled_out, threshold_the_other_way,
    softplus_with_threshold, maximum_with_multiple,
    relu_plus_negative_part, relu_plus_exponential, relu_plus_limited_exponential,
)  # fmt: skip
