"""What follows for the elements of a result from what is known of those of the operands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.dims import Dim
from leptonc.ir.graph import Content, Op
from leptonc.ir.types import DType, TensorType
from leptonc.passes.constants import integers
from leptonc.passes.shapes.interval import (
    Facts,
    Known,
    affine,
    anything,
    limits_of,
    span,
    spread,
    union,
    within,
)
from leptonc.passes.shapes.interval_more import MORE
from leptonc.passes.shapes.interval_moves import MOVED

_SAFE = 1 << 40
"""Numbers up to this can be multiplied by places of constants without wrapping around."""

LARGEST_CONSTANT = 1 << 20
"""Constants with more elements than this are not looked at."""


def of_constant(array: Array, type: TensorType) -> Known:
    """What is known of a constant."""
    if array.size == 0 or array.size > LARGEST_CONSTANT or array.dtype.kind not in "iub":
        return anything(type)
    low, high = int(array.min()), int(array.max())
    if low == high:
        return Known(low, high, low, (0,) * array.ndim)
    if low < -_SAFE or high > _SAFE:
        return Known(low, high)
    base = int(array.reshape(-1)[0])
    steps: list[int] = []
    ramp: Array = np.full((1,) * array.ndim, base, np.int64)
    for axis, count in enumerate(array.shape):
        at = tuple(int(other == axis and count > 1) for other in range(array.ndim))
        steps.append(int(array[at]) - base)
        places: Array = np.arange(count, dtype=np.int64)
        ramp = ramp + np.expand_dims(places * steps[-1], _others(axis, array.ndim))
    if np.array_equal(ramp, array):
        return Known(low, high, base, tuple(steps))
    return Known(low, high)


def _others(axis: int, rank: int) -> tuple[int, ...]:
    return tuple(other for other in range(rank) if other != axis)


def of_content(content: Content, type: TensorType) -> Known:
    """What is known of elements that are extents."""
    dims: list[Dim] = list(content.reshape(-1))
    if not dims:
        return anything(type)
    spans = [span(dim) for dim in dims]
    found = within(min(low for low, _ in spans), max(high for _, high in spans), type)
    if found == anything(type):
        return found  # arithmetic on extents does not wrap around, that on elements does
    if all(isinstance(dim, int) for dim in dims) and found.high < 1 << 63:
        return of_constant(content.astype(np.int64), type)
    if all(dim == dims[0] for dim in dims):
        return affine(dims[0], (0,) * content.ndim, type)
    return found


def _range(op: Op, facts: Facts) -> Known:
    start, delta = facts(op.operands[0]), facts(op.operands[2])
    step = delta.uniform
    if start.base is None or step is None:
        return anything(op.result.type)
    return affine(start.base, (step,), op.result.type)


def _cast(op: Op, facts: Facts) -> Known:
    """Integers that fit stay as they are; what is not 0 is true."""
    known, type = facts(op.operands[0]), op.result.type
    if op.operands[0].type.dtype.is_float or type.dtype.is_float:
        return anything(type)
    if type.dtype is DType.BOOL:
        if known.low > 0 or known.high < 0:
            return Known(1, 1, 1, (0,) * type.rank)
        return known if known.low >= 0 and known.high <= 1 else anything(type)
    low, high = limits_of(type.dtype)
    return known if low <= known.low and known.high <= high else anything(type)


def spread_forms(op: Op, facts: Facts) -> list[tuple[Dim, tuple[int, ...]]] | None:
    """Base and steps of each operand at the places of the result; None where one has none."""
    found: list[tuple[Dim, tuple[int, ...]]] = []
    for value in op.operands:
        known = facts(value)
        steps = spread(known, value.type.shape, op.results[0].type.shape)
        if steps is None or known.base is None:
            return None
        found.append((known.base, steps))
    return found


def _add(op: Op, facts: Facts) -> Known:
    return _sum(op, facts, 1)


def _sub(op: Op, facts: Facts) -> Known:
    return _sum(op, facts, -1)


def _sum(op: Op, facts: Facts, sign: int) -> Known:
    type, forms = op.result.type, spread_forms(op, facts)
    a, b = (facts(value) for value in op.operands)
    if forms is not None:
        (base, steps), (other, more) = forms
        found = affine(
            base + other * sign,
            tuple(x + y * sign for x, y in zip(steps, more, strict=True)),
            type,
        )
        if found.base is not None:
            return found
    ends = (b.low, b.high) if sign == 1 else (-b.high, -b.low)
    return within(a.low + ends[0], a.high + ends[1], type)


def _mul(op: Op, facts: Facts) -> Known:
    type, forms = op.result.type, spread_forms(op, facts)
    a, b = (facts(value) for value in op.operands)
    for factor, at in ((a.uniform, 1), (b.uniform, 0)):
        if factor is not None and forms is not None:
            base, steps = forms[at]
            found = affine(base * factor, tuple(step * factor for step in steps), type)
            if found.base is not None:
                return found
    ends = [x * y for x in (a.low, a.high) for y in (b.low, b.high)]
    return within(min(ends), max(ends), type)


def _neg(op: Op, facts: Facts) -> Known:
    known, type = facts(op.operands[0]), op.result.type
    if known.base is not None:
        found = affine(known.base * -1, tuple(-step for step in known.steps), type)
        if found.base is not None:
            return found
    return within(-known.high, -known.low, type)


def _div(op: Op, facts: Facts) -> Known:
    """Division rounds towards zero."""
    type, (a, b) = op.result.type, (facts(value) for value in op.operands)
    if b.low < 1:
        return anything(type)
    ends = [abs(x) // y * (1 if x >= 0 else -1) for x in (a.low, a.high) for y in (b.low, b.high)]
    return within(min(ends), max(ends), type)


def _mod(op: Op, facts: Facts) -> Known:
    type, (a, b) = op.result.type, (facts(value) for value in op.operands)
    if b.low < 1 or (op.attrs["fmod"] and a.low < 0):
        return anything(type)
    if a.low >= 0 and a.high < b.low:
        steps = spread(a, op.operands[0].type.shape, type.shape)
        return a if steps is None else Known(a.low, a.high, a.base, steps)
    return within(0, b.high - 1, type)


def _abs(op: Op, facts: Facts) -> Known:
    known, type = facts(op.operands[0]), op.result.type
    if known.low >= 0:
        return known
    low = 0 if known.high >= 0 else -known.high
    return within(low, max(-known.low, known.high), type)


def _extreme(op: Op, facts: Facts) -> Known:
    """The smallest or the largest: one operand, where it is so everywhere."""
    pick = min if op.name == "min" else max
    parts = [facts(value) for value in op.operands]
    low, high = pick(part.low for part in parts), pick(part.high for part in parts)
    for place, (value, part) in enumerate(zip(op.operands, parts, strict=True)):
        others = [*parts[:place], *parts[place + 1 :]]
        wins = all(
            part.high <= other.low if op.name == "min" else part.low >= other.high
            for other in others
        )
        steps = spread(part, value.type.shape, op.result.type.shape)
        if wins and steps is not None:
            return Known(low, high, part.base, steps)
    return Known(low, high)


def _clip(op: Op, facts: Facts) -> Known:
    known = facts(op.operands[0])
    least, most = (
        None if value is None else facts(value) for value in (op.operand("min"), op.operand("max"))
    )
    low, high = known.low, known.high
    if (least is None or least.high <= low) and (most is None or most.low >= high):
        return known
    if least is not None:
        low, high = max(low, least.low), max(high, least.high)
    if most is not None:
        low, high = min(low, most.low), min(high, most.high)
    return Known(low, high)


def _where(op: Op, facts: Facts) -> Known:
    condition, shape = facts(op.operands[0]).uniform, op.result.type.shape
    parts: list[Known] = []
    for truth, value in zip((1, 0), op.operands[1:], strict=True):
        known = facts(value)
        steps = spread(known, value.type.shape, shape)
        if steps is not None:
            known = Known(known.low, known.high, known.base, steps)
        else:
            known = Known(known.low, known.high)
        if condition is None or condition == truth:
            parts.append(known)
    return union(*parts)


def _cum_sum(op: Op, facts: Facts) -> Known:
    known, axis = facts(op.operands[0]), integers(op.operands[1])
    number, type = known.uniform, op.result.type
    if axis is None:
        return anything(type)
    if number is None or (number and op.attrs["reverse"]):
        count = span(type.shape[axis[0] % type.rank])[1]
        return within(min(known.low * count, 0), max(known.high * count, 0), type)
    steps = [0] * type.rank
    steps[axis[0] % type.rank] = number
    return affine(0 if op.attrs["exclusive"] else number, steps, type)


def _truth(op: Op, facts: Facts) -> Known:
    """Not, and, or, xor of truths, where those that are known decide."""
    known = [facts(value).uniform for value in op.operands]
    found: int | None = None
    if op.name == "and":
        found = 0 if 0 in known else 1 if all(item == 1 for item in known) else None
    elif op.name == "or":
        found = 1 if 1 in known else 0 if all(item == 0 for item in known) else None
    elif None not in known:
        odd = sum(item or 0 for item in known) % 2
        found = 1 - odd if op.name == "not" else odd
    return decided(found, op.result.type)


def decided(truth: int | None, type: TensorType) -> Known:
    """A truth that is the same everywhere, or nothing."""
    return Known(0, 1) if truth is None else Known(truth, truth, truth, (0,) * type.rank)


def _place(op: Op, facts: Facts) -> Known:
    """The place of the largest or the smallest along an axis."""
    shape = op.operands[0].type.shape
    axis = op.int("axis") % len(shape)
    return within(0, max(span(shape[axis])[1] - 1, 0), op.result.type)


TRANSFER: Mapping[str, Callable[[Op, Facts], Known]] = MappingProxyType({
    **MORE, **MOVED, "abs": _abs, "add": _add, "and": _truth, "arg_max": _place, "arg_min": _place,
    "cast": _cast, "clip": _clip, "cum_sum": _cum_sum, "div": _div, "max": _extreme,
    "min": _extreme, "mod": _mod, "mul": _mul, "neg": _neg, "not": _truth, "or": _truth,
    "range": _range, "sub": _sub, "where": _where, "xor": _truth,
})  # fmt: skip
"""By operation; of other operations only the element type is known."""
