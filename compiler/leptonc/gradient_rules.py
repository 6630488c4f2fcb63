"""How operations are differentiated: for each row the gradients of its operands.

A rule is given the gradient of the result and builds those of the operands; what an operand was
repeated along is summed by whoever asks, so rules of broadcasting operations need not.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from leptonc.gradient_step import Rule, Step, in_type
from leptonc.gradient_structure import STRUCTURE
from leptonc.ir.graph import Value


def _scaled(factor: Callable[[Step], Value]) -> Rule:
    """The rule of an operation on elements that has one operand and this derivative."""
    return lambda step: [step.build.mul(step.gradient, factor(step))]


def _flat(step: Step) -> Sequence[Value | None]:
    """An operation that is constant between its jumps."""
    return [None] * len(step.op.operands)


def _add(step: Step) -> Sequence[Value | None]:
    return [step.gradient] * len(step.op.operands)


def _sub(step: Step) -> Sequence[Value | None]:
    return [step.gradient, step.build.neg(step.gradient)]


def _mul(step: Step) -> Sequence[Value | None]:
    build, (a, b) = step.build, step.op.operands
    return [build.mul(step.gradient, b), build.mul(step.gradient, a)]


def _div(step: Step) -> Sequence[Value | None]:
    build, (_, b) = step.build, step.op.operands
    part = build.div(step.gradient, b)
    return [part, build.neg(build.mul(part, step.y))]


def _mean(step: Step) -> Sequence[Value | None]:
    count = len(step.op.operands)
    return [step.build.div(step.gradient, step.number(count))] * count


def _abs(step: Step) -> Value:
    return step.build.sign(step.x)


def _sqrt(step: Step) -> Value:
    return step.build.div(step.number(0.5), step.y)


def _one_less_square(step: Step) -> Value:
    return step.build.sub(step.number(1), step.build.mul(step.y, step.y))


def _sigmoid(step: Step) -> Value:
    return step.build.mul(step.y, step.build.sub(step.number(1), step.y))


def _erf(step: Step) -> Value:
    build = step.build
    bell = build.exp(build.neg(build.mul(step.x, step.x)))
    return build.mul(step.number(2 / math.sqrt(math.pi)), bell)


def _cos(step: Step) -> Value:
    return step.build.neg(step.build.sin(step.x))


def _reciprocal(step: Step) -> Value:
    return step.build.neg(step.build.mul(step.y, step.y))


def _log(step: Step) -> Sequence[Value | None]:
    return [step.build.div(step.gradient, step.x)]


def _relu(step: Step) -> Sequence[Value | None]:
    build, zero = step.build, step.number(0)
    return [build.where(build.less_or_equal(step.x, zero), zero, step.gradient)]


def _clip(step: Step) -> Sequence[Value | None]:
    build, (x, *limits) = step.build, step.op.operands
    if any(slot in step.wanted for slot in range(1, len(limits) + 1)):
        raise step.error("by its limits", "bound with Min and Max, which are")
    gradient, zero = step.gradient, step.number(0)
    for name, outside in (("min", build.less), ("max", build.greater)):
        limit = step.op.operand(name)
        if limit is not None:
            scalar = build.reshape(limit, build.shape(limit, start=0, end=0))
            gradient = build.where(outside(x, scalar), zero, gradient)
    return [gradient, *([None] * len(limits))]


def _pow(step: Step) -> Sequence[Value | None]:
    """Zero where a factor of zero meets an infinite one, as the limits are."""
    build, (x, exponent) = step.build, step.op.operands
    gradients: list[Value | None] = [None, None]
    zero, power = step.number(0), in_type(build, exponent, x.type.dtype)
    if 0 in step.wanted:
        slope = build.mul(power, build.pow(x, build.sub(power, step.number(1))))
        slope = build.where(build.equal(power, zero), zero, slope)
        gradients[0] = build.mul(step.gradient, slope)
    if 1 in step.wanted:
        nothing = build.equal(x, zero)
        settled = build.and_(nothing, build.greater_or_equal(power, zero))
        slope = build.where(settled, zero, build.mul(step.y, build.log(x)))
        gradients[1] = in_type(build, build.mul(step.gradient, slope), exponent.type.dtype)
    return gradients


def _extreme(step: Step) -> Sequence[Value | None]:
    """Operands that are equal share the gradient."""
    build = step.build
    chosen = [
        build.cast(build.equal(operand, step.y), to=step.x.type.dtype)
        for operand in step.op.operands
    ]
    share = build.div(step.gradient, functools.reduce(build.add, chosen))
    return [build.mul(mask, share) for mask in chosen]


def _where(step: Step) -> Sequence[Value | None]:
    build, condition = step.build, step.op.operands[0]
    zero = step.number(0, step.y)
    return [
        None,
        build.where(condition, step.gradient, zero),
        build.where(condition, zero, step.gradient),
    ]


def _cast(step: Step) -> Sequence[Value | None]:
    return [in_type(step.build, step.gradient, step.x.type.dtype)]


RULES: Mapping[str, Rule] = MappingProxyType({
    "abs": _scaled(_abs),
    "add": _add,
    "cast": _cast,
    "ceil": _flat,
    "clip": _clip,
    "cos": _scaled(_cos),
    "div": _div,
    "erf": _scaled(_erf),
    "exp": _scaled(lambda step: step.y),
    "floor": _flat,
    "identity": _add,
    "log": _log,
    "max": _extreme,
    "mean": _mean,
    "min": _extreme,
    "mul": _mul,
    "neg": lambda step: [step.build.neg(step.gradient)],
    "pow": _pow,
    "reciprocal": _scaled(_reciprocal),
    "relu": _relu,
    "round": _flat,
    "sigmoid": _scaled(_sigmoid),
    "sign": _flat,
    "sin": _scaled(lambda step: step.build.cos(step.x)),
    "softplus": _scaled(lambda step: step.build.sigmoid(step.x)),
    "sqrt": _scaled(_sqrt),
    "sub": _sub,
    "sum": _add,
    "tanh": _scaled(_one_less_square),
    "where": _where,
    **STRUCTURE,
})  # fmt: skip
"""By the name of the row."""
