"""Rules of `simplify` about views beside transposes and concatenations."""

from __future__ import annotations

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim
from leptonc.ir.graph import Value
from leptonc.ir.ops.movement import pad_widths
from leptonc.passes.cleanup.movement_rules import permutation
from leptonc.passes.cleanup.slice_rules import axis_of, inference_of
from leptonc.passes.pattern import Match, Var, pat
from leptonc.passes.rewrite import rule
from leptonc.passes.views import require_known_extents, reshape_to

x = Var("x")
Shape = tuple[Dim, ...]


def _without_ones(shape: Shape) -> list[Dim]:
    return [dim for dim in shape if dim != 1]


def _order(source: Shape, moved: tuple[int, ...], target: Shape) -> tuple[int, ...]:
    """The transpose to `target` that moves long axes as `moved` does, and ones where they fit."""
    long = iter(axis for axis in moved if source[axis] != 1)
    ones = iter(axis for axis, dim in enumerate(source) if dim == 1)
    return tuple(next(ones if dim == 1 else long) for dim in target)


turned = pat.transpose(x)


@rule(pat.reshape(turned, Var("extents")))
def view_of_transpose(m: Match, build: Builder) -> Value:
    """A view of a transposed tensor that only moves extents of 1 is another transpose."""
    source, target = m[x].type.shape, m.root.result.type.shape
    m.fits(len(source) == len(target))
    m.fits(_without_ones(m[turned].result.type.shape) == _without_ones(target))
    return build.transpose(m[x], perm=_order(source, permutation(m[turned]), target))


viewed = pat.reshape(x, Var("extents"))


@rule(pat.transpose(viewed))
def transpose_of_view(m: Match, build: Builder) -> Value:
    """A transpose of a view that only moves extents of 1 is another transpose."""
    source, middle = m[x].type.shape, m[viewed].result.type.shape
    m.fits(len(source) == len(middle))
    m.fits(_without_ones(source) == _without_ones(middle))
    back = _order(source, tuple(range(len(source))), middle)
    return build.transpose(m[x], perm=tuple(back[axis] for axis in permutation(m.root)))


@rule(pat.concat(...))
def stack_to_concat(m: Match, build: Builder) -> Value:
    """Tensors that get an axis to be joined along are joined along the next axis, then viewed."""
    axis = axis_of(m.root)
    ops = [part.producer for part in m.root.operands]
    m.fits(len(ops) > 1 and all(op is not None and op.name == "reshape" for op in ops))
    sources = [op.operands[0] for op in ops if op is not None]
    first = sources[0].type
    shape = (*first.shape[:axis], 1, *first.shape[axis:])
    m.fits(axis < first.rank and all(value.type == first for value in sources))
    m.fits(all(part.type.shape == shape for part in m.root.operands))
    alone = all(part.only_user is m.root for part in m.root.operands)
    m.require(alone, "something else reads the views")
    require_known_extents(m, sources[0])
    joined = build.concat(*sources, axis=axis)
    return reshape_to(build, joined, m.root.result.type.shape)


def _joint(source: Shape, view: Shape, axis: int) -> int | None:
    """The axis of what is viewed along which it is joined as its view is along `axis`."""
    if _without_ones(source) != _without_ones(view):
        return None
    before = len(_without_ones(view[:axis]))
    long = _long(source)
    if view[axis] != 1:
        return long[before]
    start = long[before - 1] + 1 if before else 0
    end = long[before] if before < len(long) else len(source)
    return start if start < end else None


@rule(pat.concat(...))
def concat_of_views(m: Match, build: Builder) -> Value:
    """Views that only add or drop extents of 1 are joined before they are viewed."""
    axis = axis_of(m.root)
    ops = [part.producer for part in m.root.operands]
    m.fits(len(ops) > 1 and all(op is not None and op.name == "reshape" for op in ops))
    sources = [op.operands[0] for op in ops if op is not None]
    views = [part.type.shape for part in m.root.operands]
    rank = sources[0].type.rank
    places = {
        _joint(value.type.shape, view, axis) if value.type.rank == rank else None
        for value, view in zip(sources, views, strict=True)
    }
    m.fits(len(places) == 1 and None not in places)
    place = places.pop() or 0
    rests = {(*v.type.shape[:place], *v.type.shape[place + 1 :]) for v in sources}
    m.require(len(rests) == 1, "the views are of tensors of different shapes")
    alone = all(part.only_user is m.root for part in m.root.operands)
    m.require(alone, "something else reads the views")
    require_known_extents(m, sources[0])
    return reshape_to(build, build.concat(*sources, axis=place), m.root.result.type.shape)


shaped = pat.reshape(x, Var("extents")).shared()
padded = pat.pad(
    shaped, Var("pads"), constant_value=Var("value").optional(), axes=Var("axes").optional()
)


@rule(pat.reshape(padded, Var("outer extents")))
def pad_between_views(m: Match, build: Builder) -> Value:
    """A border between views that only add and drop extents of 1 is put around what they view."""
    op, view, source = m[padded], m[shaped].result.type.shape, m[x].type.shape
    widths = pad_widths(inference_of(op))
    m.fits(_without_ones(view) == _without_ones(source) and widths is not None)
    assert widths is not None
    every = [(axis, *pair) for axis, pair in enumerate(widths) if pair != (0, 0)]
    m.fits(all(view[axis] != 1 for axis, _, _ in every))
    place = dict(zip(_long(view), _long(source), strict=True))
    pads = np.zeros(2 * len(source), np.int64)
    shape = list(source)
    for axis, before, after in every:
        m.require(isinstance(before, int) and isinstance(after, int), "a width is not known")
        assert isinstance(before, int)
        assert isinstance(after, int)
        pads[place[axis]], pads[len(source) + place[axis]] = before, after
        shape[place[axis]] = shape[place[axis]] + before + after
    m.fits(tuple(shape) == m.root.result.type.shape)
    value = op.operand("constant_value")
    operands = [m[x], build.const(pads), *([value] if value is not None else [])]
    names = ("x", "pads", *(["constant_value"] if value is not None else []))
    return build.op("pad", operands, {"mode": op.attrs["mode"]}, names=names).result


def _long(shape: Shape) -> list[int]:
    return [axis for axis, dim in enumerate(shape) if dim != 1]


RULES = (view_of_transpose, transpose_of_view, concat_of_views, stack_to_concat, pad_between_views)
