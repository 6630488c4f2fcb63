"""What is known of the elements that a `where` takes, from the condition by which it takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from leptonc.ir.graph import Op, Value
from leptonc.ir.table import Trait
from leptonc.ir.types import DType
from leptonc.passes.shapes.computed import computed, computed_floats
from leptonc.passes.shapes.float_limits import TRACKED, Limits
from leptonc.passes.shapes.interval import Known

MOST = 24
"""So many operations before a `where` are looked at again under its condition."""

_OPPOSITE = {
    "less": "greater_or_equal", "less_or_equal": "greater", "greater": "less_or_equal",
    "greater_or_equal": "less",
}  # fmt: skip
"""The comparison of integers that holds where another does not."""


class KnownValues(Protocol):
    """What is known of values whatever a condition is."""

    def facts(self, value: Value) -> Known:
        """What is known of integers or truths."""
        ...

    def floats(self, value: Value) -> Limits | None:
        """Limits of floats."""
        ...


class Branch:
    """What is known of elements at the places where a condition has one truth.

    It holds at these places only, so only of operations that compute each element from those at
    the same place: `seen` are those that were looked at.
    """

    def __init__(self, slot: int, assumed: Mapping[Value, Known], around: KnownValues) -> None:
        self.slot, self.around = slot, around
        self.assumed = dict(assumed)
        self.seen: dict[Value, Op] = {}
        self._known = dict(assumed)
        self._limits: dict[Value, Limits | None] = {}

    def facts(self, value: Value) -> Known:
        """What is known of integers or truths at these places."""
        return self._known.get(value) or self.around.facts(value)

    def floats(self, value: Value) -> Limits | None:
        """Limits of floats at these places."""
        return self._limits[value] if value in self._limits else self.around.floats(value)

    def look(self, start: Value) -> None:
        """Follow what is assumed to `start`, through elementwise operations."""
        if not self.assumed:
            return
        region = start.producer.region if start.producer is not None else None
        for op in _before(start, self.assumed):
            if op.region is not region:
                continue
            value = op.results[0]
            self.seen[value] = op
            if value.type.dtype in TRACKED:
                self._limits[value] = computed_floats(
                    op, self.facts, self.floats
                ) or self.around.floats(value)
            elif is_integer(value):
                self._known[value] = _both(
                    computed(op, self.facts, self.floats), self.around.facts(value)
                )


def branch(where: Op, truth: int, around: KnownValues) -> Branch:
    """What is known of the operand that `where` takes where its condition is `truth`."""
    slot = 1 if truth else 2
    found = Branch(slot, _assumed(where.operands[0], truth, around), around)
    found.look(where.operands[slot])
    return found


def _before(start: Value, ends: Mapping[Value, Known]) -> list[Op]:
    """Elementwise operations that lead to `start`, in the order of computing; few of them."""
    found: list[Op] = []
    met: set[Value] = set()
    waiting = [(start, False)]
    while waiting:
        value, is_next = waiting.pop()
        op = value.producer
        if op is None or (not is_next and value in met):
            continue
        if is_next:
            found.append(op)
        elif value not in ends and len(met) < MOST and _follows(op):
            met.add(value)
            waiting.append((value, True))
            waiting += [(operand, False) for operand in op.operands]
    return found


def _follows(op: Op) -> bool:
    elementwise = op.definition.has(Trait.ELEMENTWISE) and not op.definition.has(Trait.EFFECT)
    return elementwise and len(op.results) == 1 and bool(op.operands)


def _both(a: Known, b: Known) -> Known:
    low, high = max(a.low, b.low), min(a.high, b.high)
    return Known(low, high) if low <= high else b


def _assumed(condition: Value, truth: int, around: KnownValues) -> dict[Value, Known]:
    """What follows for operands of comparisons that make a condition what it is."""
    found: dict[Value, Known] = {}
    stack, steps = [(condition, truth)], 0
    while stack and steps < MOST:
        value, wanted = stack.pop()
        steps += 1
        op = value.producer
        if op is None:
            continue
        if op.name == "not":
            stack.append((op.operands[0], 1 - wanted))
        elif op.name == ("and" if wanted else "or"):
            stack += [(part, wanted) for part in op.operands]
        elif _compares_integers(op):
            for part, known in _compared(op, wanted, around):
                found[part] = _both(found[part], known) if part in found else known
    return found


def _compares_integers(op: Op) -> bool:
    if op.name not in _OPPOSITE and op.name != "equal":
        return False
    return is_integer(op.operands[0])


def is_integer(value: Value) -> bool:
    """True for integers of which limits are known."""
    dtype = value.type.dtype
    return dtype.is_integer and dtype is not DType.BOOL and not dtype.is_narrow


def _compared(op: Op, truth: int, around: KnownValues) -> list[tuple[Value, Known]]:
    """Limits of both operands of a comparison that holds, or does not."""
    (x, y), name = op.operands, op.name
    a, b = around.facts(x), around.facts(y)
    if name == "equal":
        both = Known(max(a.low, b.low), min(a.high, b.high))
        pairs = [(x, both), (y, both)] if truth else []
    else:
        name = name if truth else _OPPOSITE[name]
        if name.startswith("greater"):
            (x, a), (y, b) = (y, b), (x, a)
        gap = 0 if name.endswith("equal") else 1
        pairs = [
            (x, Known(a.low, min(a.high, b.high - gap))),
            (y, Known(max(b.low, a.low + gap), b.high)),
        ]
    # a condition that never holds says nothing
    return [(value, known) for value, known in pairs if known.low <= known.high]
