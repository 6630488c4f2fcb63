"""Rotary embedding written as products of complex numbers: each part of a pair by itself."""

from __future__ import annotations

from dataclasses import dataclass

from leptonc.ir.build import Builder
from leptonc.ir.graph import Op, Value
from leptonc.passes.fusion.rotary_columns import TYPES, columns_of, places_of, turned_by
from leptonc.passes.pattern import Match, NoMatchError, Var, pat
from leptonc.passes.rewrite import rule
from leptonc.passes.views import reshape_to


@dataclass(frozen=True)
class _Pair:
    """`first` cos - `second` sin and `second` cos + `first` sin."""

    first: Value
    second: Value
    cos: Value
    sin: Value
    ops: tuple[Op, ...]


def _pair(real: Value, other: Value) -> _Pair | None:
    """What two values are the parts of; None where they are not the turned parts of a pair."""
    below, above = real.producer, other.producer
    if below is None or above is None or below.name != "sub" or above.name != "add":
        return None
    products = [value.producer for op in (below, above) for value in op.operands]
    muls = [op for op in products if op is not None and op.name == "mul"]
    if len(muls) != 4 or any(op.result.use_count != 1 for op in (*muls, below, above)):
        return None
    sums = [set(op.operands) for op in muls[2:]]
    for first, cos in (muls[0].operands, muls[0].operands[::-1]):
        for second, sin in (muls[1].operands, muls[1].operands[::-1]):
            parts = [{second, cos}, {first, sin}]
            whole = first.type == second.type == real.type == other.type
            if whole and sums in (parts, parts[::-1]):
                return _Pair(first, second, cos, sin, (*muls, below, above))
    return None


def _before_view(value: Value) -> Value:
    """What a view with one more axis of one element is a view of."""
    op = value.producer
    if op is None or op.name != "reshape" or value.use_count != 1:
        return value
    return op.operands[0] if value.type.shape == (*op.operands[0].type.shape, 1) else value


def _require_turned(m: Match, pair: _Pair | None) -> _Pair:
    m.fits(pair is not None)
    assert pair is not None
    dtype = pair.first.type.dtype
    m.require(dtype in TYPES, "the numbers are neither f32 nor f16")
    m.fits(pair.cos.type.dtype is pair.sin.type.dtype is dtype)
    return pair


@rule(pat.concat(...))
def pairs_apart(m: Match, build: Builder) -> Value:
    """The halves of columns, turned in pairs by angles and joined, are a rotary embedding."""
    op = m.root
    rank = op.result.type.rank
    m.fits(rank == 4 and op.int("axis") % rank == rank - 1 and len(op.operands) == 2)
    pair = _require_turned(m, _pair(*op.operands))
    low, high = columns_of(pair.first), columns_of(pair.second)
    if low is None or high is None:
        raise NoMatchError
    width = op.result.type.shape[-1]
    halves = (0, low.stop, low.stop, high.stop)
    fits = (low.start, low.stop, high.start, high.stop) == halves and low.step == high.step == 1
    same = low.of is high.of and low.of.type == op.result.type and high.stop == width
    m.require(fits and same, "they are not the halves of the columns")
    where = places_of(m, low.of.type.shape, (pair.cos.type.shape, pair.sin.type.shape))
    m.require(where.columns == low.stop, "angles are the same for several columns")
    m.also += pair.ops
    return turned_by(build, low.of, where, [pair.cos, pair.sin], interleaved=False)


@rule(pat.reshape(pat.concat(...), Var("extents")))
def pairs_beside(m: Match, build: Builder) -> Value:
    """Neighbouring columns, turned in pairs by angles, are a rotary embedding.

    They may be a tensor of pairs, as complex numbers are seen as real ones.
    """
    joined = m.root.operands[0].producer
    assert joined is not None
    shape = joined.result.type.shape
    m.fits(len(shape) == 5 and shape[-1] == 2 and len(joined.operands) == 2)
    m.fits(m.root.result.type.shape == (*shape[:3], shape[3] * 2))
    pair = _require_turned(m, _pair(*(_before_view(value) for value in joined.operands)))
    low, high = columns_of(pair.first), columns_of(pair.second)
    if low is None or high is None or low.of is not high.of:
        raise NoMatchError
    if pair.first.type.rank == 5:
        fits = (low.start, low.stop, high.start, high.stop) == (0, 1, 1, 2)
        fits = fits and low.of.type.shape == shape
    else:
        fits = (low.start, high.start) == (0, 1) and low.step == high.step == 2
        fits = fits and low.of.type == m.root.result.type
    m.require(fits, "they are not neighbouring columns")
    angles = [each.type.shape for each in (pair.cos, pair.sin)]
    if pair.first.type.rank == 5:
        m.require(all(each[-1:] == (1,) for each in angles), "angles differ within a pair")
        angles = [each[:-1] for each in angles]
    whole = m.root.result.type.shape
    where = places_of(m, whole, angles)
    m.require(where.columns == shape[3], "angles are the same for several columns")
    m.also += pair.ops
    source = low.of if low.of.type.shape == whole else reshape_to(build, low.of, whole)
    return turned_by(build, source, where, [pair.cos, pair.sin], interleaved=True)
