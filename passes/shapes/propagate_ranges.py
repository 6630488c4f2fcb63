"""propagate-ranges: what is known of integers by their limits and places is not computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim
from leptonc.ir.graph import Graph, Op, Value
from leptonc.ir.location import Location
from leptonc.ir.ops.run_time import EXTENTS
from leptonc.ir.table import CONST, DIMS, GROUP, RETURN, Trait
from leptonc.passes.base import Pass
from leptonc.passes.context import PassContext
from leptonc.passes.contract import EXACT, Contract
from leptonc.passes.refine import erase_dead_from, replace_value
from leptonc.passes.shapes.computed import is_tracked
from leptonc.passes.shapes.decisions import Index, indices_of
from leptonc.passes.shapes.expands import expand_to
from leptonc.passes.shapes.interval import Known, limits_of
from leptonc.passes.shapes.ranges import Ranges
from leptonc.passes.views import reshape_to

SMALL = 4096
"""Results up to this many bytes become constants."""

_CHOICES = frozenset({"abs", "cast", "clip", "max", "min", "mod", "relu", "where", "and", "or"})
"""Operations whose result may be one of their operands everywhere."""


@dataclass(frozen=True)
class PropagateRanges(Pass):
    """Decides what follows from the limits of integers and from their places.

    Of each tensor of integers or truths it is known what its elements lie between, and, where they
    are counted up along axes, each of them: of constants, extents, `range`, and what arithmetic,
    comparisons, views, cuts and gathers make of them, by way of floats too, and of a `where` by
    its condition. So comparisons are decided, a `max`, `clip`,
    `mod`, `abs` or `where` that changes nothing goes away, a gather at the places 0, 1, 2... is a
    view of its operand, numbers that are the same everywhere are one constant, and a check that
    cannot fail is left out. Numbers that may have wrapped around are taken to be anything.
    """

    name: ClassVar[str] = "propagate-ranges"
    numbers: ClassVar[Contract] = EXACT

    def run(self, graph: Graph, context: PassContext) -> None:
        """Go through the graph in program order until nothing changes."""
        before = -1
        while before != len(context.applied):
            before = len(context.applied)
            Propagation(graph, context).run()


class Propagation(Ranges):
    """One walk through a graph."""

    def __init__(self, graph: Graph, context: PassContext) -> None:
        super().__init__()
        self.graph, self.context = graph, context
        self.counted: dict[tuple[Dim, int, Dim], Value] = {}
        """Rows that count up, by their first element, step and extent."""

    def run(self) -> None:
        """Rewrite each operation by what is known of its operands, then learn of its result."""
        for op in self.graph.walk():
            if op.region is None or not op.results or op.definition in (RETURN, GROUP):
                continue
            self._use_uniform_operands(op)
            self.learn(op)
            if op.definition not in (CONST, DIMS):
                self._rewrite(op)

    def learn(self, op: Op) -> None:
        """Note what follows for the result of `op`."""
        super().learn(op)
        value = op.results[0]
        found = self.known.get(value)
        if found is None or found.base is None or value.type.rank != 1 or not any(found.steps):
            return
        key = (found.base, found.steps[0], value.type.shape[0])
        if isinstance(op.region, Graph) and key not in self.counted:
            self.counted[key] = value

    def _rewrite(self, op: Op) -> None:
        if op.definition is EXTENTS:
            self._drop_check(op)
        elif not op.definition.has(Trait.EFFECT) and len(op.results) == 1:
            for rule in self._rules(op):
                build = Builder(op.region, before=op, location=_location(op), graph=self.graph)  # pyright: ignore[reportArgumentType] - it stands in a region
                new = rule(self, op, build)
                if new is not None:
                    self._replace(op, new, build)
                    return

    def _rules(self, op: Op) -> Iterator[Callable[[Propagation, Op, Builder], Value | None]]:
        if op.result in self.known and self.known[op.result].uniform is not None:
            yield _as_constant
        if op.name in _CHOICES:
            yield _as_operand
        if op.name in ("gather", "gather_nd"):
            yield _as_counted
            yield _as_view

    def _replace(self, op: Op, new: Value, build: Builder) -> None:
        if not self.context.grant(PropagateRanges.name, op.location):
            erase_dead_from(reversed(build.made))
            return
        for made in build.made:
            self.learn(made)
        replace_value(op.result, new)
        erase_dead_from([op])

    def _drop_check(self, op: Op) -> None:
        """A check of numbers that are known to be right holds."""
        names, found = op.attrs["names"], self.facts(op.operands[0]).uniform
        if op.result.is_used or found is None or not isinstance(names, tuple):
            return
        if not all(name == found for name in names):
            self.context.miss(PropagateRanges.name, op.location, f"{found} is not {names}")
            return
        if self.context.grant(PropagateRanges.name, op.location):
            (row,) = op.operands
            assert op.region is not None
            op.region.erase(op)
            erase_dead_from([row.producer] if row.producer is not None else [])

    def _use_uniform_operands(self, op: Op) -> None:
        """Read one number in place of a tensor that has it everywhere."""
        if not op.definition.has(Trait.ELEMENTWISE) or len(op.operands) < 2:
            return
        for slot, value in enumerate(op.operands):
            number = self.facts(value).uniform if is_tracked(value) else None
            if number is None or value.blob is not None or value.content is not None:
                continue
            if not is_spare(op, slot):
                reason = "the shape of what is the same everywhere is that of nothing else"
                self.context.miss(PropagateRanges.name, op.location, reason)
                continue
            if self.context.grant(PropagateRanges.name, op.location):
                build = Builder(op.region, before=op, location=_location(op), graph=self.graph)  # pyright: ignore[reportArgumentType] - it stands in a region
                op.set_operand(slot, _number(build, number, value, (1,) * value.type.rank))
                self.learn(build.made[0])
                erase_dead_from([value.producer] if value.producer is not None else [])


def _location(op: Op) -> Location:
    return Location.fused([op.location], by=PropagateRanges.name)


def _number(build: Builder, number: int, like: Value, shape: Sequence[int]) -> Value:
    return build.const(np.full(shape, number, like.type.dtype.numpy))


def is_spare(op: Op, slot: int) -> bool:
    """True where the other operands of an elementwise operation give its result all extents."""
    shape, own = op.results[0].type.shape, op.operands[slot].type.shape
    others = [value.type.shape for at, value in enumerate(op.operands) if at != slot]
    return all(
        (dim == 1 or any(len(other) >= back and other[-back] == dim for other in others))
        and (back > len(own) or own[-back] in (1, dim))
        for back, dim in zip(range(len(shape), 0, -1), shape, strict=True)
    )


def _as_constant(walk: Propagation, op: Op, build: Builder) -> Value | None:
    """The number that all elements are."""
    value = op.result
    number = walk.known[value].uniform
    if number is None or not value.type.is_static:
        return None
    if math.prod(value.type.extents) * value.type.dtype.bits > 8 * SMALL:
        walk.context.miss(PropagateRanges.name, op.location, "the constant would be large")
        return None
    return _number(build, number, value, value.type.extents)


def _as_operand(walk: Propagation, op: Op, build: Builder) -> Value | None:
    """The operand that the result is, expanded where the others give it extents."""
    value = _chosen(walk, op)
    if value is None:
        return None
    return value if value.type == op.result.type else expand_to(build, value, op.result.type.shape)


def _chosen(walk: Propagation, op: Op) -> Value | None:
    known = [walk.facts(value) for value in op.operands]
    if op.name == "where":
        truth = known[0].uniform
        return None if truth is None else op.operands[1 if truth else 2]
    if not is_tracked(op.result):
        return None
    if op.name == "cast":
        return _cast_twice(walk, op)
    first = known[0]
    if op.name in ("abs", "relu"):
        return op.operands[0] if first.low >= 0 else None
    if op.name == "mod":
        return op.operands[0] if first.low >= 0 and first.high < known[1].low else None
    if op.name == "clip":
        return op.operands[0] if _is_within(walk, op, first) else None
    for slot, value in enumerate(op.operands):
        others = [*known[:slot], *known[slot + 1 :]]
        if others and all(_wins(op.name, known[slot], other) for other in others):
            return value
    return None


def _cast_twice(walk: Propagation, op: Op) -> Value | None:
    """What a cast is of, where another cast brings it back and nothing is lost between them."""
    inner = op.operands[0].producer
    if inner is None or inner.name != "cast" or not is_tracked(op.operands[0]):
        return None
    (source,) = inner.operands
    low, high = limits_of(op.operands[0].type.dtype)
    known = walk.facts(source)
    fits = source.type == op.result.type and low <= known.low and known.high <= high
    return source if fits else None


def _wins(name: str, one: Known, other: Known) -> bool:
    """True where the operation gives `one`, whatever the elements are."""
    if name in ("min", "and"):
        return one.high <= other.low
    return one.low >= other.high


def _is_within(walk: Propagation, op: Op, known: Known) -> bool:
    least, most = op.operand("min"), op.operand("max")
    return (least is None or walk.facts(least).high <= known.low) and (
        most is None or walk.facts(most).low >= known.high
    )


def _as_view(walk: Propagation, op: Op, build: Builder) -> Value | None:
    """The operand of a gather that reads the places 0, 1, 2... of its leading axes."""
    found = indices_of(op, walk.facts)
    first = op.int("axis") % op.operands[0].type.rank if op.name == "gather" else 0
    if found is None or first:
        return None
    x, shape = op.operands[0], op.result.type.shape
    behind = x.type.shape[len(found) :]
    places = [_axis_of(index) for index in found]
    axes = [place for place in places if place is not None]
    if len(axes) < len(places) or axes != sorted(set(axes)):
        return None
    if any(shape[axis] != x.type.shape[at] for at, axis in enumerate(axes)):
        return None
    lead: list[Dim] = [
        dim if axis in axes else 1 for axis, dim in enumerate(shape[: len(shape) - len(behind)])
    ]
    viewed = (*lead, *behind)
    made = x if viewed == x.type.shape else reshape_to(build, x, viewed)
    return made if viewed == shape else expand_to(build, made, shape)


def _axis_of(index: Index) -> int | None:
    """The axis along which places are counted from 0 on; None where they are not."""
    steps = [axis for axis, step in enumerate(index.steps) if step]
    return steps[0] if index.base == 0 and len(steps) == 1 and index.steps[steps[0]] == 1 else None


def _as_counted(walk: Propagation, op: Op, build: Builder) -> Value | None:
    """A row that counts up the same, where a gather gives one."""
    known, shape = walk.facts(op.result), op.result.type.shape
    axes = [axis for axis, step in enumerate(known.steps) if step]
    if known.base is None or len(axes) != 1:
        return None
    row = walk.counted.get((known.base, known.steps[axes[0]], shape[axes[0]]))
    if row is None or row.type.dtype is not op.result.type.dtype:
        return None
    viewed = tuple(dim if axis in axes else 1 for axis, dim in enumerate(shape))
    made = row if viewed == row.type.shape else reshape_to(build, row, viewed)
    return made if viewed == shape else expand_to(build, made, shape)
