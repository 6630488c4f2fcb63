"""Rules of `simplify` about gathers at known places."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.build import Builder
from leptonc.ir.dims import is_positive
from leptonc.ir.graph import Value
from leptonc.ir.ops.slicing import Cut
from leptonc.passes.cleanup.slice_rules import axis_of, can_cut, cut_by, known_cuts
from leptonc.passes.constants import array_of
from leptonc.passes.pattern import Const, Match, Var, pat
from leptonc.passes.rewrite import rule
from leptonc.passes.views import require_known_extents, reshape_to

x = Var("x")
places, inner_places = Const("places"), Const("inner places")


def _indices(m: Match, extent: object) -> Array:
    """The places counted from the front, where that can be told."""
    data = array_of(m[places])
    assert data is not None
    from_end = bool((data < 0).any())
    m.require(not from_end or isinstance(extent, int), "an index counts from an unknown end")
    return np.where(data < 0, data + (extent if isinstance(extent, int) else 0), data)


@rule(pat.gather(x, places))
def gather_the_only_one(m: Match, build: Builder) -> Value:
    """What is taken once along an axis of extent 1 is the tensor in another shape."""
    axis, data = axis_of(m.root), array_of(m[places])
    m.fits(m[x].type.shape[axis] == 1 and data is not None and data.size == 1)
    require_known_extents(m, m[x])
    return reshape_to(build, m[x], m.root.result.type.shape)


@rule(pat.gather(x, places))
def gather_in_steps(m: Match, build: Builder) -> Value:
    """What is taken at places that lie one step apart is a slice."""
    axis, shape = axis_of(m.root), m[x].type.shape
    data = array_of(m[places])
    m.fits(data is not None and data.ndim == 1 and data.size > 0)
    listed = [int(index) for index in _indices(m, shape[axis])]
    steps = {after - before for before, after in pairwise(listed)} or {1}
    m.fits(len(steps) == 1 and 0 not in steps)
    inside = is_positive(shape[axis] - max(listed))
    m.require(inside, "whether the places are there is known at run time only")
    return cut_by(build, m[x], {axis: Cut(listed[0], steps.pop(), len(listed))})


inner_gather = pat.gather(x, inner_places).shared()


@rule(pat.gather(inner_gather, places))
def gather_of_gather(m: Match, build: Builder) -> Value:
    """Two gathers are one where the second chooses among the places of the first."""
    inner, axis, first = m[inner_gather], axis_of(m[inner_gather]), array_of(m[inner_places])
    assert first is not None
    along = axis_of(m.root) - axis
    m.fits(0 <= along < first.ndim)
    second = array_of(m[places])
    assert second is not None
    chosen = np.take(first, second, along)
    return build.gather(inner.operands[0], build.const(chosen), axis=axis)


inner_slice = pat.slice(...).shared()


@rule(pat.gather(inner_slice, places))
def gather_of_slice(m: Match, build: Builder) -> Value:
    """A gather along the one axis that was sliced reads what was sliced."""
    cuts, axis = known_cuts(m[inner_slice]), axis_of(m.root)
    m.require(cuts is not None, "a bound is known at run time only")
    m.fits(cuts is not None and set(cuts) == {axis})
    assert cuts is not None
    cut, source = cuts[axis], m[inner_slice].operands[0]
    listed = _indices(m, cut.extent)
    m.fits(isinstance(cut.start, int))
    highest = int(listed.max(initial=0))
    m.require(is_positive(cut.extent - highest), "the places may not be there")
    moved = np.asarray(listed * cut.step + cut.start, np.int64)
    return build.gather(source, build.const(moved), axis=axis)


joined = pat.concat(...).shared()


@rule(pat.gather(joined, places))
def gather_of_concat(m: Match, build: Builder) -> Value:
    """A gather from one part of a concatenation leaves out the others."""
    axis = axis_of(m.root)
    m.fits(axis == axis_of(m[joined]))
    listed = _indices(m, m[joined].result.type.shape[axis])
    m.fits(listed.size > 0)
    low, high, position = int(listed.min()), int(listed.max()), 0
    for part in m[joined].operands:
        extent = part.type.shape[axis]
        m.require(isinstance(extent, int), "where a part begins is known at run time only")
        assert isinstance(extent, int)
        if position <= low and high < position + extent:
            moved = np.asarray(listed - position, np.int64)
            return build.gather(part, build.const(moved), axis=axis)
        position += extent
    m.require(False, "it takes elements of several parts")
    return m.root.result


@rule(pat.slice(pat.gather(x, places), Var("starts"), Var("ends"), axes=Var("axes").optional(),
                steps=Var("steps").optional()))  # fmt: skip
def slice_of_gather(m: Match, build: Builder) -> Value:
    """A slice of some of the gathered places gathers those alone."""
    op = m.root.operands[0].producer
    assert op is not None
    data, cuts = array_of(m[places]), known_cuts(m.root)
    m.require(cuts is not None, "a bound is known at run time only")
    axis = axis_of(op)
    m.fits(data is not None and data.ndim == 1 and axis in (cuts or {}))
    assert data is not None
    assert cuts is not None
    rest = {other: cut for other, cut in cuts.items() if other != axis}
    m.require(can_cut(op.result.type.shape, rest), "constants cannot say the slice")
    start, extent, step = cuts[axis].start, cuts[axis].extent, cuts[axis].step
    m.fits(isinstance(start, int) and isinstance(extent, int))
    assert isinstance(start, int)
    assert isinstance(extent, int)
    chosen = data[[start + step * at for at in range(extent)]]
    return cut_by(build, build.gather(m[x], build.const(chosen), axis=axis), rest)


chosen_one = pat.gather(x, places)


@rule(pat.reshape(chosen_one, Var("extents")))
def gathered_axis_kept(m: Match, build: Builder) -> Value:
    """One place of an axis, viewed with that axis again, is a slice."""
    axis, shape = axis_of(m[chosen_one]), m[x].type.shape
    data = array_of(m[places])
    m.fits(data is not None and data.ndim == 0)
    m.fits(m.root.result.type.shape == (*shape[:axis], 1, *shape[axis + 1 :]))
    at = int(_indices(m, shape[axis]))
    m.require(is_positive(shape[axis] - at), "whether the place is there is known at run time only")
    return cut_by(build, m[x], {axis: Cut(at, 1, 1)})


index = Var("index")
tuples = pat.reshape(index, Var("extents")).shared()


@rule(pat.gather_nd(x, tuples))
def gather_by_single_indices(m: Match, build: Builder) -> Value:
    """A gather by tuples of one index each is a gather along the first axis by the indices."""
    m.fits(not m.root.int("batch_dims"))
    m.fits(m[tuples].result.type.shape == (*m[index].type.shape, 1))
    return build.gather(m[x], m[index], axis=0)


RULES = (
    gather_by_single_indices, gathered_axis_kept, gather_the_only_one, gather_in_steps,
    gather_of_gather, gather_of_slice, gather_of_concat, slice_of_gather,
)  # fmt: skip
