"""Which operations are computed in 32 bits: those where that saves more than it converts."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from leptonc.ir.graph import Op, Value
from leptonc.ir.table import CONST, DIMS
from leptonc.passes.precision.narrow_kinds import Unit, elements


def is_free(value: Value) -> bool:
    """True for numbers that are known: they are of any width."""
    op = value.producer
    return op is not None and op.definition in (CONST, DIMS)


class Choice:
    """The units that are left; each value is converted at most once, in either direction."""

    def __init__(self, units: Iterable[Unit]) -> None:
        self.units = {unit.op: unit for unit in units}
        self.left = set(self.units)
        self.readers: dict[Value, int] = {}
        """How many slots read a value in 32 bits."""
        for unit in self.units.values():
            for slot in unit.slots:
                value = unit.op.operands[slot]
                self.readers[value] = self.readers.get(value, 0) + 1

    def gives(self, value: Value) -> bool:
        """True where a value is computed in 32 bits."""
        op = value.producer
        return op is not None and op in self.left and self.units[op].gives

    def is_widened(self, value: Value) -> bool:
        """True where a value that is computed in 32 bits is read as it was, too."""
        return self.gives(value) and self.readers.get(value, 0) < value.use_count

    def cost(self, value: Value) -> int:
        """How many elements are converted for a value."""
        narrow = self.readers.get(value, 0)
        if self.gives(value):
            return elements(value) if narrow < value.use_count else 0
        return elements(value) if narrow and not is_free(value) else 0

    def settle(self) -> None:
        """Leave out, one by one, operations without which no more is lost than saved.

        What is worth leaving out stays so when others are left out, so the order does not matter.
        """
        waiting = deque(self.units)
        queued = set(self.units)
        while waiting:
            op = waiting.popleft()
            queued.discard(op)
            unit = self.units[op]
            if not self._is_useless(unit):
                continue
            for other in self._leave_out(unit):
                if other in self.left and other not in queued:
                    queued.add(other)
                    waiting.append(other)

    def _is_useless(self, unit: Unit) -> bool:
        values = _values(unit)
        before = sum(self.cost(value) for value in values)
        self._take(unit)
        after = sum(self.cost(value) for value in values)
        self._put_back(unit)
        return before - after >= unit.work

    def _take(self, unit: Unit) -> None:
        self.left.discard(unit.op)
        for slot in unit.slots:
            self.readers[unit.op.operands[slot]] -= 1

    def _put_back(self, unit: Unit) -> None:
        self.left.add(unit.op)
        for slot in unit.slots:
            self.readers[unit.op.operands[slot]] += 1

    def _leave_out(self, unit: Unit) -> list[Op]:
        """Take a unit out; give back those for which that changes something."""
        values = _values(unit)
        widened = {value for value in values if self.is_widened(value)}
        self._take(unit)
        others: list[Op] = list(unit.op.results[0].users) if unit.gives else []
        for value in values:
            producer = value.producer
            if producer is None or value is unit.op.results[0]:
                continue
            others.append(producer)
            newly = self.gives(value) and value not in widened
            if newly or (not self.gives(value) and self.readers[value] == 1):
                others += value.users
        return others

    def parts(self) -> list[list[Unit]]:
        """The units that are left in parts that share no value, each in the order given."""
        units = {op: unit for op, unit in self.units.items() if op in self.left}
        group: dict[Op, Op] = {op: op for op in units}

        def root(op: Op) -> Op:
            while group[op] is not op:
                group[op] = group[group[op]]
                op = group[op]
            return op

        first: dict[Value, Op] = {}
        for op, unit in units.items():
            for value in _values(unit):
                if not is_free(value):
                    group[root(op)] = root(first.setdefault(value, op))
        found: dict[Op, list[Unit]] = {}
        for op, unit in units.items():
            found.setdefault(root(op), []).append(unit)
        return list(found.values())

    def saved(self, part: Sequence[Unit]) -> tuple[int, int]:
        """How many elements a part computes, and how many are converted for it."""
        values = dict.fromkeys(value for unit in part for value in _values(unit))
        return sum(unit.work for unit in part), sum(self.cost(value) for value in values)


def _values(unit: Unit) -> list[Value]:
    """The values that a unit has in 32 bits, each once."""
    found = dict.fromkeys(unit.op.operands[slot] for slot in unit.slots)
    if unit.gives:
        found[unit.op.results[0]] = None
    return list(found)
