"""Chains of operations that stand side by side and do the same to different data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from leptonc.ir.blob import Array, Blob
from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim
from leptonc.ir.graph import Op, Value
from leptonc.ir.ops.slicing import Cut
from leptonc.ir.table import Trait
from leptonc.passes.cleanup.equality import spelled
from leptonc.passes.cleanup.slice_rules import axis_of, can_cut, cut_by, known_cuts
from leptonc.passes.constants import array_of
from leptonc.passes.fusion.weights import LARGE, channel_axis

LONGEST = 64
"""Chains of more operations than this are not followed."""
WEIGHTED = ("conv", "conv_transpose", "linear")
POOLS = ("average_pool", "max_pool", "global_average_pool")


@dataclass(frozen=True)
class Step:
    """One operation of each chain, and the operand of it that goes along the chain."""

    ops: tuple[Op, ...]
    slot: int = 0
    on_one: bool = False
    """Whether all of them read one tensor."""


@dataclass(frozen=True)
class Chains:
    """What begins with parts of `source` (or all of it) and is joined along `axis` in the end."""

    source: Value
    cut: Cut | None
    steps: tuple[Step, ...]
    axis: int

    def made(self, build: Builder) -> Value:
        """What the chains give, joined, by one chain."""
        value = self.source
        if self.cut is not None:
            value = cut_by(build, value, {self.axis: self.cut})
        for step in reversed(self.steps):
            value = _joined(step, value, self.axis, build)
        return value


def chains_to(ends: Sequence[Value], by: Sequence[Op], axis: int) -> Chains | str:
    """The chains that end in `ends`, each read by one operation; or why they are not one."""
    steps: list[Step] = []
    values, readers = tuple(ends), tuple(by)
    while len(steps) < LONGEST:
        found = _cut_along(values, axis)
        if found is not None:
            return Chains(*found, tuple(steps), axis)
        ops = _alike(values, readers)
        if ops is None:
            break
        step = _weighted(ops, axis) if ops[0].name in WEIGHTED else _beside(ops, axis)
        if isinstance(step, str):
            return step
        steps.append(step)
        if step.on_one:
            return Chains(ops[0].operands[0], None, tuple(steps), axis)
        values, readers = tuple(op.operands[step.slot] for op in ops), ops
    return "they do not begin with parts of one tensor"


def _alike(values: Sequence[Value], readers: Sequence[Op]) -> tuple[Op, ...] | None:
    """The operations that make `values`, each read once, where they are of one kind."""
    ops: list[Op] = []
    for value, reader in zip(values, readers, strict=True):
        op = value.producer
        if op is None or op.region is not reader.region or value is not op.results[0]:
            return None
        if sum(result.use_count for result in op.results) != 1:
            return None
        ops.append(op)
    first = ops[0]
    same = all(
        op.definition is first.definition and _attributes(op) == _attributes(first) for op in ops
    )
    return tuple(ops) if same and len(set(ops)) == len(ops) else None


def _attributes(op: Op) -> dict[str, object]:
    """What distinguishes kinds of one operation: zeros by their sign too, groups not at all."""
    return {name: spelled(item) for name, item in op.attrs.items() if name != "group"}


def _cut_along(values: Sequence[Value], axis: int) -> tuple[Value, Cut | None] | None:
    """The tensor of which `values` are parts that follow each other, and how much of it."""
    starts: dict[Value, int] = {}
    parts = [_part(value, axis, starts) for value in values]
    source, start, _ = parts[0] or (None, 0, 0)
    end = start
    for part in parts:
        if source is None or part is None or part[0] is not source or part[1] != end:
            return None
        end += part[2]
    if source is None:
        return None
    if (start, end) == (0, source.type.shape[axis]):
        return source, None
    cut = Cut(start, 1, end - start)
    return (source, cut) if can_cut(source.type.shape, {axis: cut}) else None


def _part(value: Value, axis: int, starts: dict[Value, int]) -> tuple[Value, int, int] | None:
    """What a value is a part of, where it begins and how long it is; `starts` are those known."""
    op = value.producer
    extent = value.type.shape[axis] if axis < value.type.rank else None
    if op is None or not isinstance(extent, int):
        return None
    if op.name == "slice":
        cuts = known_cuts(op)
        if cuts is None or set(cuts) != {axis} or cuts[axis].step != 1:
            return None
        start = cuts[axis].start
        return (op.operands[0], start, extent) if isinstance(start, int) else None
    if op.name != "split" or axis_of(op) != axis:
        return None
    if value not in starts:
        starts.update(_starts(op, axis))
    return (op.operands[0], starts[value], extent) if value in starts else None


def _starts(split: Op, axis: int) -> dict[Value, int]:
    """Where the parts of a split begin, as far as that is known."""
    starts: dict[Value, int] = {}
    start = 0
    for part in split.results:
        starts[part] = start
        length = part.type.shape[axis]
        if not isinstance(length, int):
            break
        start += length
    return starts


def _weighted(ops: tuple[Op, ...], axis: int) -> Step | str:
    """Products with constant weights, in groups or of one tensor."""
    first = ops[0]
    on_one = len(ops) > 1 and all(op.operands[0] is first.operands[0] for op in ops)
    constants = [value for op in ops for value in op.operands[1:]]
    if channel_axis(first) != axis or any(value.blob is None for value in constants):
        return "the products are not joined along their outputs, or their weights are not known"
    if any(value.use_count > 1 and _size(value) > LARGE for value in constants):
        return "a weight is large and something else reads it too"
    if on_one:
        along = _outputs_axis(first)
        rests = {_without(op.operands[1].type.extents, along) for op in ops}
        one = all(_groups(op) == 1 for op in ops) and len(rests) == 1
        return (
            Step(ops, 0, on_one=True)
            if one
            else "the products have groups, or windows of their own"
        )
    if first.name == "linear":
        return "matrices of different columns are no groups"
    kinds = {(op.operands[1].type.extents[1:], _rows(op)) for op in ops}
    return Step(ops) if len(kinds) == 1 else "the groups are of different sizes"


def _rows(op: Op) -> int:
    """How many entries one group has on the first axis of the weight."""
    return op.operands[1].type.extents[0] // max(_groups(op), 1)


def _groups(op: Op) -> int:
    return 1 if op.name == "linear" else op.int("group")


def _outputs_axis(op: Op) -> int:
    """The axis of the weight along which an ungrouped product has its outputs."""
    if op.name == "linear":
        return 0 if op.attrs["transposed"] else 1
    return 0 if op.name == "conv" else 1


def _size(value: Value) -> int:
    return value.blob.size if value.blob is not None else 0


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], *shape[axis + 1 :])


def _beside(ops: tuple[Op, ...], axis: int) -> Step | str:
    """Elementwise operations, and pools of images whose channels are joined."""
    first = ops[0]
    if first.name in POOLS and axis == 1:
        return Step(ops)
    if not first.definition.has(Trait.ELEMENTWISE):
        return f"{first.name} is not computed side by side"
    if any(op.operand_names != first.operand_names for op in ops):
        return "they have different operands"
    columns = list(zip(*(op.operands for op in ops), strict=True))
    moving = [
        slot for slot, column in enumerate(columns)
        if len(set(column)) > 1 and any(value.blob is None for value in column)
    ]  # fmt: skip
    if len(moving) != 1:
        return "not one operand alone is different"
    (slot,) = moving
    shapes = [(op.operands[slot].type.shape, op.results[0].type.shape) for op in ops]
    if any(given != made for given, made in shapes):
        return "an operand broadcasts what is joined"
    for column in columns[:slot] + columns[slot + 1 :]:
        if not _fits_beside(column, ops, axis):
            return "an operand differs along the axis that is joined"
    return Step(ops, slot)


def _fits_beside(column: Sequence[Value], ops: Sequence[Op], axis: int) -> bool:
    """True where one operand of each operation can be one operand of the operation on all."""
    if len(set(column)) == 1:
        return _extent(column[0], ops[0], axis) == 1
    arrays = [array_of(value) for value in column]
    rank = ops[0].result.type.rank
    wide = [(1,) * (rank - value.type.rank) + value.type.shape for value in column]
    rests = {(*shape[:axis], *shape[axis + 1 :]) for shape in wide}
    known = all(array is not None and array.dtype != object for array in arrays)
    return known and len(rests) == 1 and sum(map(_size, column)) <= LARGE


def _extent(value: Value, op: Op, axis: int) -> Dim:
    """What of an operand broadcasts to `axis` of the result."""
    place = axis - (op.result.type.rank - value.type.rank)
    return value.type.shape[place] if place >= 0 else 1


def _joined(step: Step, value: Value, axis: int, build: Builder) -> Value:
    """One operation on `value` in place of those of a step."""
    first = step.ops[0]
    operands = list(first.operands)
    operands[step.slot] = value
    names, attrs = list(first.operand_names), dict(first.attrs)
    if first.name in WEIGHTED:
        return _joined_product(step, value, build)
    if first.name not in POOLS:
        for slot, column in enumerate(zip(*(op.operands for op in step.ops), strict=True)):
            if slot != step.slot and len(set(column)) > 1:
                operands[slot] = build.const(_stacked(column, step.ops, axis))
    return build.op(first.definition, operands, attrs, names=names).results[0]


def _stacked(column: Sequence[Value], ops: Sequence[Op], axis: int) -> Array:
    """Constants for each part, along the axis on which the parts are joined."""
    rank = ops[0].result.type.rank
    parts: list[Array] = []
    for value, op in zip(column, ops, strict=True):
        data, extent = array_of(value), op.result.type.shape[axis]
        assert data is not None
        assert isinstance(extent, int)
        wide = data.reshape((1,) * (rank - data.ndim) + data.shape)
        shape = (*wide.shape[:axis], extent, *wide.shape[axis + 1 :])
        parts.append(np.broadcast_to(wide, shape))
    return np.concatenate(parts, axis)


def _joined_product(step: Step, value: Value, build: Builder) -> Value:
    first = step.ops[0]
    along = _outputs_axis(first) if step.on_one else 0
    arrays = [array_of(op.operands[1]) for op in step.ops]
    weight = np.concatenate([data for data in arrays if data is not None], along)
    operands, names = [value, build.const(Blob.of(weight))], list(first.operand_names[:2])
    if any(op.operand("bias") is not None for op in step.ops):
        operands.append(build.const(Blob.of(np.concatenate([_bias(op) for op in step.ops]))))
        names.append("bias")
    attrs = dict(first.attrs)
    if not step.on_one:
        attrs["group"] = sum(map(_groups, step.ops))
    return build.op(first.definition, operands, attrs, names=names).result


def _bias(op: Op) -> Array:
    given = op.operand("bias")
    data = None if given is None else array_of(given)
    extent = op.result.type.shape[channel_axis(op)]
    assert isinstance(extent, int)
    return np.zeros(extent, op.result.type.dtype.numpy) if data is None else data
