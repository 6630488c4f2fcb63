# pyright: standard
"""Lowering of softmax and its kin: extremes, exponentials and sums as stages."""

from __future__ import annotations

from typing import Any

from tvm import te, tirx

from leptonc.backends.tvm.lower.arithmetic import not_a_number
from leptonc.backends.tvm.lower.parts import (
    Tensor,
    cast,
    compute,
    maximum,
    natural,
    reduced,
    tensor_as,
    without,
)
from leptonc.backends.tvm.lowering import LowerCall, Reason, Rule
from leptonc.backends.tvm.vector_math import exp, log


def softmax(call: LowerCall) -> Tensor:
    """Largest element, exponentials, their sum, quotient."""
    powers, total, axis = _exponentials(call)
    return compute(
        powers.shape,
        lambda *i: cast(powers(*i) / total(*without(i, [axis])), call.dtype()),
        name="softmax",
    )


def _exponentials(call: LowerCall) -> tuple[Tensor, Tensor, int]:
    x = tensor_as(call[0], natural(call[0].dtype))
    axis = call.known.int("axis") % len(x.shape)
    top = reduced(x.shape, [axis], maximum, x, "largest")
    powers = compute(x.shape, lambda *i: exp(x(*i) - top(*without(i, [axis]))), name="powers")
    return powers, reduced(x.shape, [axis], te.sum, powers, "total"), axis


def log_softmax(call: LowerCall) -> Tensor:
    """Shifted elements less the logarithm of the sum of their exponentials."""
    x = tensor_as(call[0], natural(call[0].dtype))
    axis = call.known.int("axis") % len(x.shape)
    top = reduced(x.shape, [axis], maximum, x, "largest")
    powers = compute(x.shape, lambda *i: exp(x(*i) - top(*without(i, [axis]))), name="powers")
    total = reduced(x.shape, [axis], te.sum, powers, "total")
    shift = compute(total.shape, lambda *i: log(total(*i)), name="shift")

    def element(*i: Any) -> Any:
        rest = without(i, [axis])
        return cast((x(*i) - top(*rest)) - shift(*rest), call.dtype())

    return compute(x.shape, element, name="log_softmax")


def hardmax(call: LowerCall) -> Tensor:
    """The place of the first largest element, then 1 there."""
    x = tensor_as(call[0], natural(call[0].dtype))
    axis = call.known.int("axis") % len(x.shape)
    top = reduced(x.shape, [axis], maximum, x, "largest")

    def place(*i: Any) -> Any:
        best = top(*without(i, [axis]))
        found = tirx.any(x(*i) == best, not_a_number(x(*i)))
        return tirx.Select(found, i[axis], tirx.max_value(str(i[axis].ty)))

    first = reduced(x.shape, [axis], te.min, place, "first")
    one, zero = tirx.const(1, call.dtype()), tirx.const(0, call.dtype())
    return compute(
        x.shape,
        lambda *i: tirx.Select(first(*without(i, [axis])) == i[axis], one, zero),
        name="hardmax",
    )


RULES: dict[str, Rule] = {
    "softmax": softmax,
    "log_softmax": log_softmax,
    "hardmax": hardmax,
}
REASONS: dict[str, Reason] = {}
