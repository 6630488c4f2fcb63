"""What is known of floats: limits between which all of them are, and none of them is NaN."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from leptonc.ir.blob import LOOKED_AT
from leptonc.ir.graph import Op, Value
from leptonc.ir.types import DType
from leptonc.passes.shapes.interval import Known

Limits = tuple[float, float]
"""Two finite numbers that all elements are between."""

TRACKED = frozenset({DType.F32, DType.F64})
"""Element types whose limits are known; the shorter ones overflow too soon."""

_LARGEST = 1e30
"""Limits above this are not known: what is computed with them may be infinite."""
_RELATIVE, _ABSOLUTE = 2.0**-10, 2.0**-20
"""How far a computed number may be off, far more than any kernel is."""

FloatFacts = Callable[[Value], Limits | None]
"""Tells the limits of a tensor of floats."""


def of_float_constant(value: Value) -> Limits | None:
    """Limits of a small constant of finite floats."""
    blob = value.blob
    if blob is None or value.type.dtype not in TRACKED or not 0 < blob.size <= LOOKED_AT:
        return None
    low, high = float(np.min(blob.array)), float(np.max(blob.array))
    return (low, high) if -_LARGEST < low <= high < _LARGEST else None


def rounded(low: float, high: float) -> Limits | None:
    """Limits of what is computed to be within other limits, up to rounding."""
    if not -_LARGEST < low <= high < _LARGEST:
        return None
    return (
        low - abs(low) * _RELATIVE - _ABSOLUTE,
        high + abs(high) * _RELATIVE + _ABSOLUTE,
    )


def from_integers(known: Known) -> Limits | None:
    """Limits of integers converted to floats."""
    return rounded(float(known.low), float(known.high))


def to_integers(limits: Limits) -> tuple[int, int]:
    """Limits of floats converted to integers: fractions drop out."""
    return math.trunc(limits[0]), math.trunc(limits[1])


def _moved(op: Op, parts: Sequence[Limits]) -> Limits | None:
    return parts[0]


def _joined(op: Op, parts: Sequence[Limits]) -> Limits | None:
    return min(low for low, _ in parts), max(high for _, high in parts)


def _add(op: Op, parts: Sequence[Limits]) -> Limits | None:
    (a, b), (c, d) = parts
    return rounded(a + c, b + d)


def _sub(op: Op, parts: Sequence[Limits]) -> Limits | None:
    (a, b), (c, d) = parts
    return rounded(a - d, b - c)


def _mul(op: Op, parts: Sequence[Limits]) -> Limits | None:
    ends = [x * y for x in parts[0] for y in parts[1]]
    return rounded(min(ends), max(ends))


def _div(op: Op, parts: Sequence[Limits]) -> Limits | None:
    if parts[1][0] <= 0 <= parts[1][1]:
        return None
    ends = [x / y for x in parts[0] for y in parts[1]]
    return rounded(min(ends), max(ends))


def _neg(op: Op, parts: Sequence[Limits]) -> Limits | None:
    return -parts[0][1], -parts[0][0]


def _abs(op: Op, parts: Sequence[Limits]) -> Limits | None:
    low, high = parts[0]
    return (low, high) if low >= 0 else (max(-high, 0.0), max(-low, high))


def _min(op: Op, parts: Sequence[Limits]) -> Limits | None:
    return min(low for low, _ in parts), min(high for _, high in parts)


def _max(op: Op, parts: Sequence[Limits]) -> Limits | None:
    return max(low for low, _ in parts), max(high for _, high in parts)


def _clip(op: Op, parts: Sequence[Limits]) -> Limits | None:
    found = parts[0]
    for name, limits in zip(op.operand_names[1:], parts[1:], strict=True):
        pick = max if name == "min" else min
        found = pick(found[0], limits[0]), pick(found[1], limits[1])
    return found


def _relu(op: Op, parts: Sequence[Limits]) -> Limits | None:
    return max(parts[0][0], 0.0), max(parts[0][1], 0.0)


def _sqrt(op: Op, parts: Sequence[Limits]) -> Limits | None:
    low, high = parts[0]
    return rounded(math.sqrt(low), math.sqrt(high)) if low >= 0 else None


def _log(op: Op, parts: Sequence[Limits]) -> Limits | None:
    low, high = parts[0]
    # numbers that a kernel may take for zero have no logarithm
    return rounded(math.log(low), math.log(high)) if low > _ABSOLUTE else None


def _exp(op: Op, parts: Sequence[Limits]) -> Limits | None:
    low, high = parts[0]
    return rounded(math.exp(max(low, -80.0)) if low > -80 else 0.0, math.exp(high)) if (
        high < 60
    ) else None  # fmt: skip


def _whole(op: Op, parts: Sequence[Limits]) -> Limits | None:
    low, high = parts[0]
    return float(math.floor(low)), float(math.ceil(high))


def _unit(op: Op, parts: Sequence[Limits]) -> Limits | None:
    """Functions of finite numbers that stay between -1 and 1."""
    return rounded(0.0 if op.name == "sigmoid" else -1.0, 1.0)


TRANSFER: Mapping[str, Callable[[Op, Sequence[Limits]], Limits | None]] = MappingProxyType({
    "abs": _abs, "add": _add, "ceil": _whole, "clip": _clip, "concat": _joined, "cos": _unit,
    "div": _div, "exp": _exp, "floor": _whole, "identity": _moved, "log": _log, "max": _max,
    "min": _min, "mul": _mul, "neg": _neg, "relu": _relu, "round": _whole, "sigmoid": _unit,
    "sign": _unit, "sin": _unit, "sqrt": _sqrt, "sub": _sub, "tanh": _unit, "where": _joined,
})  # fmt: skip
"""By operation, from the limits of all operands that are floats."""

VIEWS = frozenset({"expand", "flatten", "reshape", "slice", "squeeze", "transpose", "unsqueeze"})
"""Operations whose result has elements of their first operand only."""


def limits_of_result(op: Op, facts: FloatFacts) -> Limits | None:
    """Limits of the only result, which are floats, of operations on floats."""
    if op.name in VIEWS:
        return facts(op.operands[0])
    rule = TRANSFER.get(op.name)
    if rule is None:
        return None
    parts: list[Limits] = []
    for value in op.operands[1 if op.name == "where" else 0 :]:
        limits = facts(value)
        if limits is None:
            return None
        parts.append(limits)
    return rule(op, parts)
