"""Sequences of steps: where steps are taken from, and where they are put together again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim
from leptonc.ir.graph import Op, Value
from leptonc.passes.constants import integers
from leptonc.passes.recurrent.steps import VIEWS, behind_views
from leptonc.passes.views import reshape_to


@dataclass(frozen=True)
class Step:
    """One step of a sequence: a place along an axis of `whole`, or the value `alone`."""

    alone: Value
    whole: Value | None = None
    axis: int = 0
    place: int = 0


def step_of(value: Value) -> Step:
    """Where the input of one step comes from."""
    source = behind_views(value)
    op = source.producer
    if op is None or not op.operands:
        return Step(value)
    whole = op.operands[0]
    rank = whole.type.rank
    found: tuple[int, int] | None = None
    if op.name == "gather":
        places = integers(op.operands[1])
        axis = op.int("axis") % rank
        if places is not None and len(places) == 1:
            found = (axis, places[0])
    elif op.name == "slice":
        found = _one_of_slice(op)
    elif op.name == "split":
        axis = op.int("axis") % rank
        if all(part.type.shape[axis] == 1 for part in op.results):
            found = (axis, op.results.index(source))
    if found is None:
        return Step(value)
    axis, place = found
    extent = whole.type.shape[axis]
    if not isinstance(extent, int) or not -extent <= place < extent:
        return Step(value)
    rest = [dim for at, dim in enumerate(whole.type.shape) if at != axis and dim != 1]
    if rest != [dim for dim in value.type.shape if dim != 1]:
        return Step(value)
    return Step(value, whole, axis, place % extent)


def _one_of_slice(op: Op) -> tuple[int, int] | None:
    source, axes, steps = op.operands[0], op.operand("axes"), op.operand("steps")
    starts = integers(op.operand("starts"))
    along = integers(axes) if axes is not None else (0,)
    if steps is not None and integers(steps) != (1,):
        return None
    if starts is None or along is None or len(starts) != 1 or len(along) != 1:
        return None
    axis = along[0] % source.type.rank
    return (axis, starts[0]) if op.result.type.shape[axis] == 1 else None


def common_whole(inputs: Sequence[Value]) -> Step | None:
    """The first of steps that follow each other along an axis of one tensor; None for others."""
    steps = [step_of(value) for value in inputs]
    first = steps[0]
    in_order = all(
        step.whole is first.whole
        and (step.axis, step.place) == (first.axis, first.place + index)
        and value.type.shape[0] == 1
        for index, (step, value) in enumerate(zip(steps, inputs, strict=True))
    )
    return first if first.whole is not None and in_order else None


def joined(build: Builder, inputs: Sequence[Value]) -> Value:
    """The inputs of steps one behind the other, as one tensor of which they are parts if so."""
    first, count = common_whole(inputs), len(inputs)
    if first is None or first.whole is None:
        return build.op("concat", list(inputs), {"axis": 0}).result
    whole = first.whole
    if count != whole.type.shape[first.axis]:
        ends = (first.place, first.place + count, first.axis)
        limits = [build.const(np.array([number])) for number in ends]
        whole = build.slice(whole, *limits)
    return steps_first(build, whole, first.axis, (count, *inputs[0].type.shape[1:]))


def steps_first(build: Builder, whole: Value, axis: int, shape: tuple[Dim, ...]) -> Value:
    """A tensor with its steps along the first axis, in `shape`."""
    if axis:
        rest = [each for each in range(whole.type.rank) if each != axis]
        whole = build.transpose(whole, perm=(axis, *rest))
    return whole if whole.type.shape == shape else reshape_to(build, whole, shape)


def stacked_from(build: Builder, y: Value, chain: Sequence[Op]) -> list[Op]:
    """Read what puts the outputs of all steps together from `y`; the operations that did."""
    found: list[Op] = []
    if any(op.operands[0].type.shape[0] != 1 for op in chain):
        return found
    for concat in _concats_behind(chain[0]):
        given = [behind_views(value) for value in concat.operands]
        same = len(given) == len(chain) and all(
            value in op.results[:2] for value, op in zip(given, chain, strict=True)
        )
        shape = concat.operands[0].type.shape
        if not same or any(value.type.shape != shape for value in concat.operands):
            continue
        axis = concat.int("axis") % len(shape)
        after = Builder(build.region, before=concat, location=build.location)
        wanted = concat.result.type.shape
        if axis:
            rest = (*shape[:axis], *shape[axis + 1 :]) if shape[axis] == 1 else shape
            order = [*range(1, axis + 1), 0, *range(axis + 1, len(rest) + 1)]
            value = reshape_to(after, y, (len(chain), *rest))
            value = after.transpose(value, perm=tuple(order))
            value = value if value.type.shape == wanted else reshape_to(after, value, wanted)
        else:
            value = reshape_to(after, y, wanted)
        found.append(concat)
        value.name = value.name or concat.result.name
        concat.result.replace_uses_with(value)
    return found


def _concats_behind(op: Op) -> list[Op]:
    found: dict[Op, None] = {}
    waiting = list(op.results[:2])
    while waiting:
        for reader in waiting.pop().users:
            if reader.name in VIEWS:
                waiting += reader.results
            elif reader.name == "concat" and reader.region is op.region:
                found[reader] = None
    return list(found)
