"""What is known of elements that only move: views, broadcasts, cuts and joins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from leptonc.ir.dims import Dim
from leptonc.ir.graph import Op
from leptonc.ir.ops.contents import content_of
from leptonc.passes.constants import integers
from leptonc.passes.shapes.interval import (
    Facts,
    Known,
    affine,
    carried,
    never_zero,
    same,
    spread,
    union,
)


def _viewed(op: Op, facts: Facts) -> Known:
    """Axes of extent 1 come and go; the elements stay as they are."""
    known, old, new = facts(op.operands[0]), op.operands[0].type.shape, op.result.type.shape
    if known.base is None or not any(known.steps):
        steps = (0,) * len(new)
        return Known(known.low, known.high, known.base, steps if known.base is not None else ())
    steps = carried(known.steps, old, new)
    if steps is None:
        return Known(known.low, known.high)
    return Known(known.low, known.high, known.base, steps)


def _transpose(op: Op, facts: Facts) -> Known:
    known = facts(op.operands[0])
    if known.base is None:
        return known
    perm = op.ints("perm") or tuple(reversed(range(len(known.steps))))
    steps = tuple(known.steps[axis] for axis in perm)
    return Known(known.low, known.high, known.base, steps)


def _expand(op: Op, facts: Facts) -> Known:
    known, type = facts(op.operands[0]), op.result.type
    steps = spread(known, op.operands[0].type.shape, type.shape)
    if steps is None:
        return Known(known.low, known.high)
    return Known(known.low, known.high, known.base, steps)


def _slice(op: Op, facts: Facts) -> Known:
    known, data = facts(op.operands[0]), op.operands[0].type.shape
    if known.base is None:
        return known
    starts = op.operand("starts")
    row = content_of(starts) if starts is not None else None
    steps = integers(op.operand("steps")) if op.operand("steps") is not None else ()
    axes = integers(op.operand("axes")) if op.operand("axes") is not None else None
    if row is None or steps is None or (axes is None and op.operand("axes") is not None):
        return Known(known.low, known.high)
    base, scaled = known.base, list(known.steps)
    for place, start in enumerate(row.reshape(-1)):
        axis = place if axes is None else axes[place] % len(data)
        step = steps[place] if steps else 1
        if not scaled[axis]:
            continue
        if not isinstance(start, int) or start < 0 or step < 1:
            return Known(known.low, known.high)
        base, scaled[axis] = base + start * scaled[axis], scaled[axis] * step
    return _narrowed(affine(base, scaled, op.result.type), known)


def _narrowed(found: Known, known: Known) -> Known:
    """A form, or the limits that hold for every part of a tensor."""
    return found if found.base is not None else Known(known.low, known.high)


def _concat(op: Op, facts: Facts) -> Known:
    parts = [facts(value) for value in op.operands]
    axis = op.int("axis") % op.result.type.rank
    whole = union(*parts)
    if any(part.base is None for part in parts):
        return Known(whole.low, whole.high)
    long = [k for k, value in enumerate(op.operands) if value.type.shape[axis] != 1]
    if not long:
        return Known(whole.low, whole.high)
    first, step = parts[0], parts[long[0]].steps[axis]
    assert first.base is not None
    steps = [*first.steps]
    steps[axis] = step
    place: Dim = 0
    for value, part in zip(op.operands, parts, strict=True):
        own, shape = [*part.steps], value.type.shape
        own[axis] = step if shape[axis] == 1 else own[axis]
        assert part.base is not None
        at = first.base + place * step
        if own != steps or not same(part.base, at, never_zero(shape)):
            return Known(whole.low, whole.high)
        place = place + shape[axis]
    return _narrowed(affine(first.base, steps, op.result.type), whole)


def _same_limits(op: Op, facts: Facts) -> Known:
    known = facts(op.operands[0])
    return Known(known.low, known.high)


MOVED: Mapping[str, Callable[[Op, Facts], Known]] = MappingProxyType({
    "concat": _concat, "expand": _expand, "flatten": _viewed, "gather_elements": _same_limits,
    "reshape": _viewed, "slice": _slice, "squeeze": _viewed, "tile": _same_limits,
    "transpose": _transpose, "unsqueeze": _viewed,
})  # fmt: skip
"""By operation."""
