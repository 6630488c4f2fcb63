"""Rules of `simplify` about what is taken where a mask is true."""

from __future__ import annotations

from leptonc.ir.build import Builder
from leptonc.ir.graph import Op, Value
from leptonc.ir.types import DType
from leptonc.passes.cleanup.slice_rules import axis_of
from leptonc.passes.pattern import Match, Var, pat
from leptonc.passes.rewrite import rule
from leptonc.passes.views import reshape_to

x, mask, shape = Var("x"), Var("mask"), Var("shape")
found = pat.non_zero(mask).shared()
turned = pat.transpose(found).shared()
viewed = pat.reshape(found, shape).shared()


def _taken(build: Builder, root: Op, data: Value, condition: Value, axis: int | None) -> Value:
    attrs = {} if axis is None else {"axis": axis}
    new = build.op("compress", [data, condition], attrs).result
    new.type = root.result.type  # as many as the mask has true elements, by the name that has
    return new


def _by_coordinates(m: Match, build: Builder) -> Value:
    data, condition, places = m[x].type, m[mask], m.root.operands[1].type
    rank = condition.type.rank
    m.fits(condition.type.dtype is DType.BOOL and rank > 0 and places.rank == 2)
    m.fits(places.shape == (m[found].result.type.shape[1], rank))
    m.fits(m.root.int("batch_dims") == 0)
    same = data.shape[:rank] == condition.type.shape
    m.require(same, "the mask is not known to have the extents of what it chooses from")
    if rank == 1:
        return _taken(build, m.root, m[x], condition, 0)
    m.require(data.rank == rank, "whole slices are taken by a mask of several dimensions")
    return _taken(build, m.root, m[x], reshape_to(build, condition, (-1,)), None)


@rule(pat.gather_nd(x, turned))
def take_true_coordinates(m: Match, build: Builder) -> Value:
    """What lies at the places where a mask is true is what the mask lets through."""
    m.fits(m[turned].attrs["perm"] in (None, (1, 0)))
    return _by_coordinates(m, build)


@rule(pat.gather_nd(x, viewed))
def take_true_rows(m: Match, build: Builder) -> Value:
    """What lies at the places where a row of truth is true is what it lets through."""
    m.fits(m[mask].type.rank == 1)
    return _by_coordinates(m, build)


@rule(pat.gather(x, viewed))
def take_true_slices(m: Match, build: Builder) -> Value:
    """The slices at the places where a row of truth is true are those that it lets through."""
    condition, places, axis = m[mask], m.root.operands[1].type, axis_of(m.root)
    m.fits(condition.type.dtype is DType.BOOL and condition.type.rank == 1)
    m.fits(places.shape == m[found].result.type.shape[1:])
    same = m[x].type.shape[axis] == condition.type.shape[0]
    m.require(same, "the mask is not known to have the extent of what it chooses from")
    return _taken(build, m.root, m[x], condition, axis)


RULES = (take_true_coordinates, take_true_rows, take_true_slices)
