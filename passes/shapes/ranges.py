"""What is known of the elements of each tensor of a graph, learnt in program order."""

from __future__ import annotations

from leptonc.ir.dims import ExtentTooLargeError
from leptonc.ir.graph import Op, Value
from leptonc.ir.ops.contents import content_of
from leptonc.passes.shapes import branches, float_limits
from leptonc.passes.shapes.computed import computed, computed_floats, is_tracked
from leptonc.passes.shapes.float_limits import Limits
from leptonc.passes.shapes.interval import UNKNOWN_RANGE, Known, anything, union
from leptonc.passes.shapes.interval_rules import of_constant, of_content


class Ranges:
    """Limits of integers and of floats, by value."""

    def __init__(self) -> None:
        self.known: dict[Value, Known] = {}
        self.limits: dict[Value, Limits] = {}

    def facts(self, value: Value) -> Known:
        """What is known of integers or truths."""
        found = self.known.get(value)
        if found is None and is_tracked(value):
            content = content_of(value)
            return anything(value.type) if content is None else of_content(content, value.type)
        return Known(*UNKNOWN_RANGE) if found is None else found

    def floats(self, value: Value) -> Limits | None:
        """Limits of floats; None where one of them may be infinite or not a number."""
        found = self.limits.get(value)
        return float_limits.of_float_constant(value) if found is None else found

    def learn(self, op: Op) -> None:
        """Note what follows for the result of `op`."""
        if len(op.results) != 1:
            return
        (value,) = op.results
        try:
            if is_tracked(value):
                self.known[value] = self._known_of(op)
            elif value.type.dtype in float_limits.TRACKED:
                limits = self._limits_of(op)
                if limits is not None:
                    self.limits[value] = limits
        except ExtentTooLargeError:
            return

    def _known_of(self, op: Op) -> Known:
        value = op.results[0]
        if value.blob is not None:
            return of_constant(value.blob.array, value.type)
        if value.content is not None:
            return of_content(value.content, value.type)
        found = computed(op, self.facts, self.floats)
        if op.name == "where" and found.base is None:
            parts = [branches.branch(op, truth, self) for truth in (1, 0)]
            chosen = union(*(branch.facts(op.operands[branch.slot]) for branch in parts))
            low, high = max(found.low, chosen.low), min(found.high, chosen.high)
            return Known(low, high) if low <= high else found
        return found

    def _limits_of(self, op: Op) -> Limits | None:
        found = computed_floats(op, self.facts, self.floats)
        if op.name != "where" or found is not None:
            return found
        parts = [branches.branch(op, truth, self) for truth in (1, 0)]
        limits = [branch.floats(op.operands[branch.slot]) for branch in parts]
        if limits[0] is None or limits[1] is None:
            return None
        return min(limits[0][0], limits[1][0]), max(limits[0][1], limits[1][1])
