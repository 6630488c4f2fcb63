"""Rules of `simplify` about slices of what was cut, joined or padded before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim, maximum
from leptonc.ir.graph import Op, Value
from leptonc.ir.ops.movement import pad_widths
from leptonc.ir.ops.slicing import Cut, cuts_of, split_sizes
from leptonc.ir.table import Inference
from leptonc.passes.pattern import Match, Var, pat
from leptonc.passes.rewrite import rule

x = Var("x")
FURTHEST = (1 << 63) - 1


def inference_of(op: Op) -> Inference:
    """What the functions of the operation table take."""
    return Inference(op.definition, op.operands, op.operand_names, op.attrs)


def axis_of(op: Op) -> int:
    """The attribute `axis` counted from the front."""
    axis = op.int("axis")
    return axis + op.operands[0].type.rank if axis < 0 else axis


def known_cuts(op: Op) -> dict[int, Cut] | None:
    """What a slice takes along the axes that it shortens or reverses; None where unknown."""
    steps = op.operand("steps")
    if steps is not None and steps.blob is None:
        return None
    axes = op.operand("axes")
    if axes is not None and axes.blob is None:
        return None
    cuts = cuts_of(inference_of(op))
    if cuts is None or not all(map(_is_spelled, cuts.values())):
        return None
    shape = op.operands[0].type.shape
    return {
        axis: cut for axis, cut in cuts.items()
        if cut.step != 1 or cut.start != 0 or cut.extent != shape[axis]
    }  # fmt: skip


def _is_spelled(cut: Cut) -> bool:
    return isinstance(cut.start, int) and (isinstance(cut.extent, int) or cut.step == 1)


def can_cut(shape: Sequence[Dim], cuts: Mapping[int, Cut]) -> bool:
    """True where constants can say these cuts of a tensor of `shape`."""
    return all(_end(shape[axis], cut) is not None for axis, cut in cuts.items())


def _end(extent: Dim, cut: Cut) -> int | None:
    if not isinstance(cut.start, int):
        return None
    if isinstance(cut.extent, int):
        end = cut.start + cut.extent * cut.step
        return end if end >= 0 else -FURTHEST
    whole = extent if cut.start == 0 else maximum(extent - cut.start, 0)
    return FURTHEST if cut.step == 1 and cut.extent == whole else None


def cut_by(build: Builder, value: Value, cuts: Mapping[int, Cut]) -> Value:
    """`value` with all `cuts` made, for which `can_cut` has to hold."""
    if not cuts:
        return value
    axes = sorted(cuts)
    ends = [_end(value.type.shape[axis], cuts[axis]) or 0 for axis in axes]
    rows = [[cuts[axis].start for axis in axes], ends, axes]
    steps = [cuts[axis].step for axis in axes]
    operands = [build.const(np.array(row, np.int64)) for row in rows]
    if set(steps) == {1}:
        return build.slice(value, operands[0], operands[1], axes=operands[2])
    return build.slice(value, *operands, build.const(np.array(steps, np.int64)))


inner_slice = pat.slice(...).shared()
sliced = pat.slice(inner_slice, Var("starts"), Var("ends"), axes=Var("axes").optional(),
                   steps=Var("steps").optional())  # fmt: skip


@rule(sliced)
def slice_of_slice(m: Match, build: Builder) -> Value:
    """Two slices are one."""
    first, second = known_cuts(m[inner_slice]), known_cuts(m.root)
    m.require(first is not None and second is not None, "a bound is known at run time only")
    cuts = dict(first or {})
    for axis, cut in (second or {}).items():
        cuts[axis] = _composed(cuts[axis], cut) if axis in cuts else cut
    source = m[inner_slice].operands[0]
    m.require(can_cut(source.type.shape, cuts), "constants cannot say where both end")
    return cut_by(build, source, cuts)


def _composed(first: Cut, second: Cut) -> Cut:
    if second.extent == 0:
        return Cut(0, 1, 0)
    return Cut(first.start + second.start * first.step, first.step * second.step, second.extent)


@rule(pat.slice(...))
def step_of_one(m: Match, build: Builder) -> Value:
    """A slice of one element takes no steps."""
    cuts = known_cuts(m.root)
    m.fits(any(cut.step != 1 and cut.extent == 1 for cut in (cuts or {}).values()))
    plain = {
        axis: Cut(cut.start, 1, 1) if cut.extent == 1 else cut for axis, cut in (cuts or {}).items()
    }
    source = m.root.operands[0]
    m.require(can_cut(source.type.shape, plain), "constants cannot say the slice")
    return cut_by(build, source, plain)


joined = pat.concat(...).shared()
cut_join = pat.slice(joined, Var("starts"), Var("ends"), axes=Var("axes").optional(),
                     steps=Var("steps").optional())  # fmt: skip


@rule(cut_join)
def slice_of_concat(m: Match, build: Builder) -> Value:
    """A slice of some parts of a concatenation leaves out the others."""
    axis, parts = axis_of(m[joined]), m[joined].operands
    cuts = known_cuts(m.root)
    m.fits(cuts is not None and axis in cuts)
    assert cuts is not None
    cut = cuts[axis]
    places = _places(cut)
    m.fits(places is not None)
    low, high = places or (0, 0)
    position: Dim = 0
    kept: list[Value] = []
    skipped = 0
    for part in parts:
        m.require(isinstance(position, int), "where a part begins is known at run time only")
        assert isinstance(position, int)
        end = position + part.type.shape[axis]
        if isinstance(end, int) and end <= low:
            skipped = end
        elif position <= high:
            kept.append(part)
        else:
            break
        position = end
    m.fits(len(kept) < len(parts))
    alone = m[joined].result.use_count == 1
    m.require(len(kept) == 1 or alone, "something else reads the concatenation")
    moved = {**cuts, axis: Cut(cut.start - skipped, cut.step, cut.extent)}
    whole: Dim = 0
    for part in kept:
        whole = whole + part.type.shape[axis]
    if moved[axis] == Cut(0, 1, whole):
        del moved[axis]
    shape = kept[0].type.shape
    spelled = {other: cut for other, cut in moved.items() if other != axis}
    m.require(can_cut(shape, spelled), "constants cannot say the slice")
    source = kept[0] if len(kept) == 1 else build.concat(*kept, axis=axis)
    return cut_by(build, source, moved)


padded = pat.pad(...).shared()
cut_pad = pat.slice(padded, Var("starts"), Var("ends"), axes=Var("axes").optional(),
                    steps=Var("steps").optional())  # fmt: skip


@rule(cut_pad)
def slice_of_pad(m: Match, build: Builder) -> Value:
    """A slice that takes nothing of a border along any axis is a slice of what was padded."""
    cuts, widths = known_cuts(m.root), pad_widths(inference_of(m[padded]))
    m.require(cuts is not None and widths is not None, "a bound is known at run time only")
    source = m[padded].operands[0]
    moved: dict[int, Cut] = {}
    for axis, (before, after) in enumerate(widths or ()):
        if before == 0 and after == 0:
            if axis in (cuts or {}):
                moved[axis] = (cuts or {})[axis]
            continue
        cut, extent = (cuts or {}).get(axis), source.type.shape[axis]
        inside = cut is not None and _is_inside(cut, before, extent)
        m.require(inside, "part of the border is taken")
        assert cut is not None
        moved[axis] = Cut(cut.start - before, cut.step, cut.extent)
    m.require(can_cut(source.type.shape, moved), "constants cannot say the slice")
    return cut_by(build, source, moved)


def _is_inside(cut: Cut, before: Dim, extent: Dim) -> bool:
    """True where a cut takes elements from `before` on only, and no more than `extent`."""
    places = _places(cut)
    if places is None or not (isinstance(before, int) and isinstance(extent, int)):
        return False
    return 0 <= before <= places[0] and places[1] < before + extent


def _places(cut: Cut) -> tuple[int, int] | None:
    """The first and the last place that a cut takes, in their order in the tensor."""
    start, extent = cut.start, cut.extent
    if not (isinstance(start, int) and isinstance(extent, int)) or extent <= 0:
        return None
    last = start + (extent - 1) * cut.step
    return min(start, last), max(start, last)


@dataclass
class _Run:
    """An operand of a concatenation, or the slice that takes the place of several."""

    value: Value | None
    source: Value
    cut: Cut | None

    def goes_on_with(self, other: _Run) -> bool:
        if self.cut is None or other.cut is None or self.source is not other.source:
            return False
        return other.cut.start == self.cut.start + self.cut.extent

    def taken(self, build: Builder, axis: int) -> Value:
        if self.value is not None or self.cut is None:
            return self.value or self.source
        if self.cut.start == 0 and self.cut.extent == self.source.type.shape[axis]:
            return self.source
        return cut_by(build, self.source, {axis: self.cut})


@rule(pat.concat(...))
def concat_of_slices(m: Match, build: Builder) -> Value:
    """Slices of one tensor that follow each other, put together again, are one slice."""
    axis = axis_of(m.root)
    m.fits(any(_is_slice(part) for part in m.root.operands))
    runs: list[_Run] = []
    gone = 0
    for part in m.root.operands:
        new = _Run(part, *_along(part, axis))
        if runs and runs[-1].goes_on_with(new):
            old = runs.pop().cut
            assert old is not None
            assert new.cut is not None
            gone += part.use_count == 1
            new = _Run(None, new.source, Cut(old.start, 1, old.extent + new.cut.extent))
        runs.append(new)
    m.fits(len(runs) < len(m.root.operands))
    m.require(gone > 0 or len(runs) == 1, "something else reads the slices")
    merged = [run for run in runs if run.value is None and run.cut is not None]
    spelled = all(can_cut(run.source.type.shape, {axis: run.cut}) for run in merged if run.cut)
    m.require(spelled, "constants cannot say the slice")
    values = [run.taken(build, axis) for run in runs]
    return values[0] if len(values) == 1 else build.concat(*values, axis=axis)


def _is_slice(value: Value) -> bool:
    return value.producer is not None and value.producer.name == "slice"


def _along(value: Value, axis: int) -> tuple[Value, Cut | None]:
    """The tensor and what of it along `axis` a slice takes, where it is one along that alone."""
    if not _is_slice(value):
        return value, None
    assert value.producer is not None
    cuts = known_cuts(value.producer)
    if cuts is None or set(cuts) != {axis} or cuts[axis].step != 1:
        return value, None
    return value.producer.operands[0], cuts[axis]


@rule(pat.split(pat.concat(...).shared(), Var("sizes").optional()))
def split_of_concat(m: Match, build: Builder) -> list[Value]:
    """A concatenation that is split between its parts gives them back."""
    join = m.root.operands[0].producer
    assert join is not None
    axis = axis_of(join)
    m.require(axis == axis_of(m.root), "split and concat have different axes")
    groups: list[list[Value]] = []
    parts = list(join.operands)
    for size in split_sizes(inference_of(m.root)):
        group: list[Value] = []
        taken: Dim = 0
        while taken != size:
            m.require(bool(parts), "it is split elsewhere")
            group.append(parts.pop(0))
            taken = taken + group[-1].type.shape[axis]
        m.require(bool(group), "a part has no elements")
        groups.append(group)
    m.require(not parts, "it is split elsewhere")
    alone = m.root.operands[0].use_count == 1
    m.require(alone or all(len(group) == 1 for group in groups), "something else reads it")
    joins = sum(len(group) > 1 for group in groups)
    m.require(joins <= 1, "several concatenations would be needed")
    return [group[0] if len(group) == 1 else build.concat(*group, axis=axis) for group in groups]


RULES = (
    slice_of_slice, step_of_one, slice_of_concat, slice_of_pad, concat_of_slices, split_of_concat,
)  # fmt: skip
