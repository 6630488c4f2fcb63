"""Comparisons decided by what is known of integers, and elements gathered at known places."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from leptonc.ir.dims import Dim
from leptonc.ir.graph import Op, Value
from leptonc.passes.shapes.interval import (
    Facts,
    Known,
    affine,
    anything,
    carried,
    extremes,
    never_zero,
    span,
)
from leptonc.passes.shapes.interval_rules import decided, spread_forms


def _less(low: int, high: int) -> int | None:
    return 1 if high < 0 else 0 if low >= 0 else None


def _less_or_equal(low: int, high: int) -> int | None:
    return 1 if high <= 0 else 0 if low > 0 else None


def _equal(low: int, high: int) -> int | None:
    return 1 if low == high == 0 else 0 if low > 0 or high < 0 else None


def _greater(low: int, high: int) -> int | None:
    return _less(-high, -low)


def _greater_or_equal(low: int, high: int) -> int | None:
    return _less_or_equal(-high, -low)


COMPARISONS: Mapping[str, Callable[[int, int], int | None]] = MappingProxyType({
    "equal": _equal, "greater": _greater, "greater_or_equal": _greater_or_equal, "less": _less,
    "less_or_equal": _less_or_equal,
})  # fmt: skip
"""What the limits of a difference decide, by comparison."""


def compared(op: Op, facts: Facts) -> Known:
    """The truth of a comparison of integers, where it is the same everywhere."""
    decide, type = COMPARISONS[op.name], op.result.type
    forms = spread_forms(op, facts)
    if forms is not None:
        (base, steps), (other, more) = forms
        rest = [x - y for x, y in zip(steps, more, strict=True)]
        truth = decide(*extremes(base - other, rest, type.shape))
        if truth is not None:
            return decided(truth, type)
    a, b = (facts(value) for value in op.operands)
    return decided(decide(a.low - b.high, a.high - b.low), type)


@dataclass(frozen=True)
class Index:
    """Places along one axis, by the base and the steps over the places of the result."""

    base: Dim
    steps: tuple[int, ...]

    def is_inside(self, extent: Dim, shape: Sequence[Dim]) -> bool:
        """True where all of them are places of an axis of `extent`, counted from the start."""
        low, _ = extremes(self.base, self.steps, shape)
        top: Dim = self.base
        for step, dim in zip(self.steps, shape, strict=True):
            top = top + (dim - 1) * step if step > 0 else top
        return low >= 0 and span(extent - 1 - top, never_zero(shape))[0] >= 0


def indices_of(op: Op, facts: Facts) -> list[Index] | None:
    """The places that a `gather` or `gather_nd` reads along its leading axes, over its result.

    None where they are not known, or not known to exist.
    """
    x, row = op.operands
    found = _gather_index(op, row, facts) if op.name == "gather" else _tuples(op, row, facts)
    if found is None:
        return None
    first = op.int("axis") % x.type.rank if op.name == "gather" else 0
    shape = op.result.type.shape
    inside = all(
        index.is_inside(x.type.shape[first + place], shape) for place, index in enumerate(found)
    )
    return found if inside else None


def _gather_index(op: Op, row: Value, facts: Facts) -> list[Index] | None:
    known, rank = facts(row), op.operands[0].type.rank
    if known.base is None:
        return None
    axis = op.int("axis") % rank
    return [Index(known.base, (*(0,) * axis, *known.steps, *(0,) * (rank - axis - 1)))]


def _tuples(op: Op, row: Value, facts: Facts) -> list[Index] | None:
    """Index tuples are made by joining their elements along the last axis."""
    if op.attrs["batch_dims"]:
        return None
    depth, lead = row.type.shape[-1], row.type.shape[:-1]
    parts, source = _joined(row) if depth != 1 else ([row], lead)
    behind = (0,) * (op.result.type.rank - row.type.rank + 1)
    found: list[Index] = []
    for part in parts:
        known = facts(part)
        if known.base is None or part.type.shape[-1] != 1:
            return None
        steps = carried(known.steps[:-1], source, lead)
        if steps is None:
            return None
        found.append(Index(known.base, (*steps, *behind)))
    return found if len(found) == depth else None


def _joined(row: Value) -> tuple[Sequence[Value], tuple[Dim, ...]]:
    """What index tuples are joined of, and the shape that these have before their last axis."""
    op = row.producer
    if op is not None and op.name in ("reshape", "squeeze", "unsqueeze"):
        (source, *_), last = op.operands, row.type.shape[-1]
        if source.type.rank and source.type.shape[-1] == last:
            row, op = source, source.producer
    if op is None or op.name != "concat" or op.int("axis") % row.type.rank != row.type.rank - 1:
        return (), ()
    return op.operands, row.type.shape[:-1]


def gathered(op: Op, facts: Facts) -> Known:
    """The elements at known places of a tensor whose elements are known by their places."""
    x, type = op.operands[0], op.result.type
    known, found = facts(x), indices_of(op, facts)
    if known.base is None or found is None:
        return Known(known.low, known.high)
    first = op.int("axis") % x.type.rank if op.name == "gather" else 0
    behind = x.type.rank - first - len(found)
    base: Dim = known.base
    steps = [*known.steps[:first], *(0,) * (type.rank - first - behind)]
    steps += known.steps[x.type.rank - behind :]
    for index, step in zip(found, known.steps[first:], strict=False):
        base = base + index.base * step
        steps = [old + new * step for old, new in zip(steps, index.steps, strict=True)]
    result = affine(base, steps, type)
    return result if result.base is not None else Known(known.low, known.high)


def of_result(op: Op, facts: Facts, transfer: Mapping[str, Callable[[Op, Facts], Known]]) -> Known:
    """What is known of the first result of an operation."""
    rule = transfer.get(op.name)
    if rule is not None:
        return rule(op, facts)
    if op.name in COMPARISONS and not op.operands[0].type.dtype.is_float:
        return compared(op, facts)
    if op.name in ("gather", "gather_nd"):
        return gathered(op, facts)
    return anything(op.results[0].type)
