"""Rules of `join-nodes` about views that broadcasting and gathers make unnecessary."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from leptonc.ir.build import Builder, infer_types
from leptonc.ir.dims import Dim
from leptonc.ir.graph import Op, Value
from leptonc.ir.ops.gather import INDICES
from leptonc.ir.ops.slicing import Cut
from leptonc.ir.table import Inference
from leptonc.passes.cleanup.slice_rules import known_cuts
from leptonc.passes.pattern import Match, Var, pat
from leptonc.passes.rewrite import rule

BLOCK = 8
"""A gather copies blocks of this many elements as fast as a slice."""

_READERS = 64
"""How many readers of a column are looked at."""

BROADCASTING = (
    "add", "and", "div", "equal", "greater", "greater_or_equal", "less", "less_or_equal", "max",
    "min", "mod", "mul", "or", "pow", "sub", "where", "xor",
)  # fmt: skip
"""Operations whose operands of fewer axes lack the leading ones."""


def _without_ones(value: Value, reader: Op) -> Value:
    """What a view adds leading axes of one element to, or the value itself."""
    op = value.producer
    if op is None or op.name != "reshape" or op.region is not reader.region:
        return value
    source, shape = op.operands[0], value.type.shape
    added = len(shape) - source.type.rank
    plain = added > 0 and shape == (1,) * added + source.type.shape
    return source if plain else value


@rule(pat.any_of(*BROADCASTING)(...).fed_by("reshape"))
def leading_ones_by_broadcasting(m: Match, build: Builder) -> Value:
    """A view that adds leading axes of one element says what broadcasting does by itself."""
    root = m.root
    operands = list(root.operands)
    for slot, value in enumerate(operands):
        changed = [*operands[:slot], _without_ones(value, root), *operands[slot + 1 :]]
        call = Inference(root.definition, changed, root.operand_names, root.attrs)
        if changed[slot] is not value and infer_types(call)[0] == root.result.type:
            operands = changed
    m.require(operands != list(root.operands), "the view is what gives the result its axes")
    return build.op(root.definition, operands, root.attrs, names=root.operand_names).result


def _the_cut(op: Op) -> tuple[int, int] | None:
    """The axis and the place of a slice that takes one place of one axis."""
    cuts = known_cuts(op) or {}
    if len(cuts) != 1:
        return None
    ((axis, cut),) = cuts.items()
    return (axis, cut.start) if _is_one_place(cut) and isinstance(cut.start, int) else None


def _is_one_place(cut: Cut) -> bool:
    return isinstance(cut.start, int) and cut.start >= 0 and cut.extent == 1


def _is_fast(value: Value, behind: Sequence[Dim]) -> bool:
    """True where a gather of one place takes no longer than a slice: of blocks, or of few rows."""
    if value.producer is not None and value.producer.name == "non_max_suppression":
        return True
    return math.prod(dim for dim in behind if isinstance(dim, int)) >= BLOCK


def _taken(build: Builder, source: Value, axis: int, at: int) -> Value:
    return build.gather(source, build.const(np.array(at, np.int64)), axis=axis)


sliced = pat.slice(...)


@rule(pat.reshape(sliced, Var("extents")))
def slice_to_place(m: Match, build: Builder) -> Value:
    """A slice of one place whose axis is dropped is a gather of that place."""
    op = m[sliced]
    source, cut = op.operands[0], _the_cut(op)
    m.fits(cut is not None)
    axis, at = cut or (0, 0)
    shape = source.type.shape
    m.fits(m.root.result.type.shape == (*shape[:axis], *shape[axis + 1 :]))
    m.require(_is_fast(source, shape[axis + 1 :]), "single elements are sliced faster")
    return _taken(build, source, axis, at)


column = sliced.shared()


def _reads_places(op: Op, places: Value) -> bool:
    return op.name == "gather_nd" and op.operands[1] is places and not op.int("batch_dims")


@rule(pat.gather_nd(Var("x"), column))
def column_of_places(m: Match, build: Builder) -> Value:
    """What is gathered at a column of selected indices needs no axis for the column."""
    op = m[column]
    source, cut, places = op.operands[0], _the_cut(op), op.result
    m.fits(cut is not None and places.type.rank == 2 and _reads_places(m.root, places))
    axis, at = cut or (0, 0)
    m.fits(axis == 1 and source.type.dtype in INDICES)
    m.require(_is_fast(source, ()), "single elements are sliced faster")
    alike = places.use_count <= _READERS and all(_reads_places(op, places) for op in places.users)
    m.require(alike, "something else reads the column")
    return build.gather(m.root.operands[0], _taken(build, source, axis, at), axis=0)


RULES = (leading_ones_by_broadcasting, slice_to_place, column_of_places)
