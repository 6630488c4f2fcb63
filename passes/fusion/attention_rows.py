"""Attention of rows: heads that are made of rows for it, and joined to rows after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim, product
from leptonc.ir.graph import Attribute, Value
from leptonc.passes.cleanup.movement_rules import permutation
from leptonc.passes.constants import integers
from leptonc.passes.fusion.attention_heads import operand_of
from leptonc.passes.pattern import Const, Match, Var, pat
from leptonc.passes.rewrite import rule
from leptonc.passes.views import reshape_to

q, k, v, mask = Var("q"), Var("k"), Var("v"), Var("mask")
x, shape, inner_shape = Var("x"), Var("shape"), Var("inner_shape")
attended = pat.attention(q, k, v, mask=mask.optional(), q_num_heads=0)
turned = pat.transpose(attended, perm=(0, 2, 1, 3))

lengths_first = pat.transpose(attended, perm=(2, 0, 1, 3))

TURN = (0, 2, 1, 3)
FROM_LENGTHS = (1, 2, 0, 3)
"""How [length, batch, heads, width] becomes heads."""


@dataclass(frozen=True)
class _Packed:
    """Heads that are a range of the columns of `rows`, [..., columns]."""

    rows: Value
    columns: int
    start: int
    stop: int
    lengths_first: bool = False
    """Whether the rows are [length, batch, columns]."""


def _packed(value: Value) -> _Packed | None:
    """Where `value` is one index of an axis that a reshape split off the columns of rows."""
    chosen = _chosen(value)
    turn = chosen[0].producer if chosen is not None else None
    if chosen is None or turn is None or turn.attrs["perm"] != (2, 0, 3, 1, 4):
        return None
    split = turn.operands[0].producer
    count, _, heads, _, wide = turn.result.type.shape
    if not (isinstance(heads, int) and isinstance(wide, int) and isinstance(count, int)):
        return None
    if split is None or split.name != "reshape" or not -count <= chosen[1] < count:
        return None
    rows, columns, index = split.operands[0], heads * wide, chosen[1] % count
    if rows.type.shape[-1:] != (count * columns,):
        return None
    return _Packed(rows, count * columns, index * columns, (index + 1) * columns)


def _chosen(value: Value) -> tuple[Value, int] | None:
    """The transpose that `value` is one index of, along its first axis."""
    op, source = value.producer, value
    if op is not None and op.name == "reshape":
        source = op.operands[0]
        if source.type.shape != (1, *value.type.shape):
            return None
        op = source.producer
    if op is None or op.name not in ("slice", "gather", "split"):
        return None
    turn = op.operands[0].producer
    if turn is None or turn.name != "transpose" or turn.result.type.rank != 5:
        return None
    if op.name == "split":
        parts = [result.type.shape[0] for result in op.results]
        whole = op.int("axis") % 5 == 0 and all(part == 1 for part in parts)
        return (turn.result, op.results.index(source)) if whole else None
    index = integers(op.operands[1])
    first = op.int("axis") == 0 if op.name == "gather" else integers(op.operand("axes")) == (0,)
    if not first or index is None or len(index) != 1:
        return None
    if op.name == "gather" and op.result.type.rank != 4:
        return None
    return turn.result, index[0]


def _row_of(value: Value) -> _Packed | None:
    """Rows that `value` turns into heads, as they are or packed with others."""
    found = operand_of(value)
    if found.perm in (TURN, FROM_LENGTHS) and found.factor == 1:
        wide = product(found.source.type.shape[2:])
        if not isinstance(wide, int):
            return None
        return _Packed(found.source, wide, 0, wide, found.perm == FROM_LENGTHS)
    return _packed(value)


def _rows(build: Builder, found: list[_Packed], batch: Dim, lengths: list[Dim]) -> Sequence[Value]:
    """The rows of queries, keys and values; those that are packed together are split at once."""
    first = found[0]
    ends = [item.stop for item in found]
    together = (
        all(item.rows is first.rows for item in found)
        and [item.start for item in found] == [0, *ends[:-1]]
        and ends[-1] == first.columns
        and len({item.stop - item.start for item in found}) == 1
        and ends[0] != first.columns
    )
    if together:
        whole = reshape_to(build, first.rows, (batch, lengths[0], first.columns))
        return build.op("split", [whole], {"axis": 2, "num_outputs": len(found)}).results
    rows: list[Value] = []
    for item, length in zip(found, lengths, strict=True):
        lead = (length, batch) if item.lengths_first else (batch, length)
        row = reshape_to(build, item.rows, (*lead, item.columns))
        if item.lengths_first:
            row = build.transpose(row, perm=(1, 0, 2))
        if item.stop - item.start != item.columns:
            row = _columns(build, row, item.start, item.stop)
        rows.append(row)
    return rows


def _columns(build: Builder, row: Value, start: int, stop: int) -> Value:
    bounds = [build.const(np.array([number], np.int64)) for number in (start, stop, 2)]
    return build.slice(row, bounds[0], bounds[1], axes=bounds[2])


def _joined(m: Match, build: Builder, order: tuple[int, ...] = (0, 1, 2)) -> Value:
    """The attention of rows that the root is, with its axes in `order`, up to a reshape."""
    batch, heads, length, _ = m[attended].result.type.shape
    kv_heads, keys = m[k].type.shape[1], m[k].type.shape[2]
    known = isinstance(heads, int) and isinstance(kv_heads, int)
    m.require(known and 0 not in (heads, kv_heads), "the heads are not known, or there are none")
    assert isinstance(heads, int)
    assert isinstance(kv_heads, int)
    sources = [_row_of(m[each]) for each in (q, k, v)]
    found = [each for each in sources if each is not None]
    m.require(len(found) == 3, "queries, keys or values are not made of rows")
    rows = _rows(build, found, batch, [length, keys, keys])
    given = m.get(mask)
    operands = rows if given is None else [*rows, given]
    counts: dict[str, Attribute] = {"q_num_heads": heads, "kv_num_heads": kv_heads}
    attrs = {**m[attended].attrs, **counts}
    result = build.op("attention", operands, attrs).result
    if order != (0, 1, 2):
        result = build.transpose(result, perm=order)
    want = m.root.result.type.shape
    return result if result.type.shape == want else reshape_to(build, result, want)


@rule(pat.reshape(turned, shape))
def heads_in_rows(m: Match, build: Builder) -> Value:
    """Attention whose heads are made of rows, and joined to rows again, is attention of rows."""
    _, _, heads, width = m[turned].result.type.shape
    m.require(
        m.root.result.type.shape[-1:] == (heads * width,), "the heads are not joined to one row"
    )
    return _joined(m, build)


@rule(pat.reshape(pat.transpose(pat.reshape(x, inner_shape), perm=(0, 2, 1)), shape))
def swap_before_regrouping(m: Match, build: Builder) -> Value:
    """Matrices that are transposed in one batch are transposed in the batches they come from."""
    wanted = m.root.result.type.shape
    inner = m.root.operands[0].type.shape
    m.fits(len(wanted) == 4 and wanted[-2:] == inner[-2:])
    apart = reshape_to(build, m[x], (*wanted[:2], wanted[3], wanted[2]))
    return build.transpose(apart, perm=(0, 1, 3, 2))


@rule(pat.reshape(lengths_first, shape))
def heads_in_rows_of_lengths(m: Match, build: Builder) -> Value:
    """Attention whose heads are made of rows for each place, and joined again, is one of rows."""
    length, batch, heads, width = m[lengths_first].result.type.shape
    wanted = m.root.result.type.shape
    m.require(wanted[-1:] == (heads * width,), "the heads are not joined to one row")
    m.fits(product(wanted[:-1]) == length * batch)
    return _joined(m, build, (1, 0, 2))


split_first = pat.reshape(x, inner_shape).shared()


@rule(pat.reshape(pat.transpose(split_first), shape))
def heads_before_swap(m: Match, build: Builder) -> Value:
    """Heads that are merged with the batch, moved before the length and split are split before."""
    turn = m.root.operands[0].producer
    assert turn is not None
    order = permutation(turn)
    wanted, source = m.root.result.type.shape, m[x].type.shape
    m.fits(order in ((1, 0, 2), (1, 2, 0)) and len(wanted) == 4 and len(source) == 3)
    length, merged, width = m[split_first].result.type.shape
    ends = (length, width) if order == (1, 0, 2) else (width, length)
    m.fits(wanted[2:] == ends and source[:2] == (length, wanted[0]))
    m.fits(merged == wanted[0] * wanted[1] and source[2] == wanted[1] * width)
    apart = reshape_to(build, m[x], (length, *wanted[:2], width))
    return build.transpose(apart, perm=(1, 2, *((0, 3) if order == (1, 0, 2) else (3, 0))))


parts = pat.reshape(x, inner_shape).shared()
packed = pat.transpose(parts).shared()
apart = pat.reshape(packed, shape).shared()


@rule(pat.gather(apart, Const("place")))
def part_of_packed(m: Match, build: Builder) -> Value:
    """One of some projections that were made by one product is a range of its columns."""
    source, split = m[x].type.shape, m[parts].result.type.shape
    m.fits(len(source) == 3 and split[-2:-1] == m[apart].result.type.shape[:1])
    count, wide = split[-2:]
    m.fits(permutation(m[packed]) == (3, 1, 2, 0, 4) and split == (1, *source[:2], count, wide))
    index = integers(m.root.operands[1])
    m.fits(m.root.int("axis") == 0 and m[apart].result.type.shape == (count, *source[:2], wide))
    m.fits(m.root.operands[1].type.rank == 0 and isinstance(count, int) and isinstance(wide, int))
    assert index is not None
    assert isinstance(count, int)
    assert isinstance(wide, int)
    at = index[0] % count if -count <= index[0] < count else -1
    m.require(at >= 0, "the place is not there")
    return _columns(build, m[x], at * wide, (at + 1) * wide)
