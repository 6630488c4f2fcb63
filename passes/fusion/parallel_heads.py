"""Heads of attention that are computed one by one and joined, as attention of all of them."""

from __future__ import annotations

from collections.abc import Sequence

from leptonc.ir.build import Builder
from leptonc.ir.graph import Op, Value
from leptonc.passes.cleanup.slice_rules import axis_of
from leptonc.passes.fusion.parallel_chains import Chains, chains_to
from leptonc.passes.pattern import Match, pat
from leptonc.passes.rewrite import rule
from leptonc.passes.views import reshape_to

Rows = Chains | Value
"""Rows of all heads, made by one chain, or those that all heads share."""


def _head_of(value: Value, reader: Op) -> Op | None:
    """The attention of one head that a value is, or is a view of, read by `reader` alone."""
    while value.use_count == 1 and value.producer is not None:
        op = value.producer
        if op.region is not reader.region:
            return None
        if op.name == "attention":
            return op if op.operands[0].type.rank == 4 and op.result.type.shape[1] == 1 else None
        if op.name != "reshape" or not _is_row_view(value, op.operands[0]):
            return None
        value = op.operands[0]
    return None


def _is_row_view(row: Value, head: Value) -> bool:
    """True for [B,S,D] and [B,1,S,D]."""
    shape = head.type.shape
    return len(shape) == 4 and shape[1] == 1 and row.type.shape == (shape[0], *shape[2:])


def _rows(heads: Sequence[Op], slot: int) -> Rows | str:
    """What the heads read as one of queries, keys and values."""
    views = [op.operands[slot] for op in heads]
    made = [view.producer for view in views]
    sources = [op.operands[0] for op in made if op is not None and op.name == "reshape"]
    if len(sources) < len(views) or not all(map(_is_row_view, sources, views)):
        return "queries, keys or values are not rows of one head"
    if any(view.type.shape != views[0].type.shape for view in views):
        return "the heads are of different widths"
    if len(set(sources)) == 1:
        return sources[0]
    if any(view.use_count > 1 for view in views):
        return "something else reads queries, keys or values"
    return chains_to(sources, [op for op in made if op is not None], 2)


@rule(pat.concat(...))
def joined_heads_to_one(m: Match, build: Builder) -> Value:
    """Attention of one head after the other, joined to rows, is attention of all heads at once.

    Queries, keys and values have to be parts of one tensor, or layers of one, or the same ones.
    """
    rank = m.root.result.type.rank
    found = [_head_of(value, m.root) for value in m.root.operands]
    heads = [op for op in found if op is not None]
    m.fits(len(found) > 1 and len(heads) == len(found) and axis_of(m.root) == rank - 1)
    first = heads[0]
    m.fits(all(op.attrs == first.attrs for op in heads))
    masks = {op.operand("mask") for op in heads}
    m.require(len(masks) == 1 and len(set(heads)) == len(heads), "the heads have their own masks")
    mask = masks.pop()
    per_head = mask is not None and mask.type.rank == 4 and mask.type.shape[1] != 1
    m.fits(not per_head and all(len(op.operands) == len(first.operands) for op in heads))
    rows = [_rows(heads, slot) for slot in range(3)]
    m.require(all(isinstance(each, Chains | Value) for each in rows), _why(rows))
    shared = [isinstance(each, Value) for each in rows]
    m.require(shared[1] == shared[2] and not shared[0], "the heads share queries, or only values")
    m.also.extend(op for each in rows if isinstance(each, Chains)
                  for step in reversed(each.steps) for op in step.ops)  # fmt: skip
    m.also.extend(heads)
    operands = [
        each.made(build) if isinstance(each, Chains) else each
        for each in rows if not isinstance(each, str)
    ]  # fmt: skip
    counts = {"q_num_heads": len(heads), "kv_num_heads": 1 if shared[1] else len(heads)}
    operands += [mask] if mask is not None else []
    result = build.op("attention", operands, {**first.attrs, **counts}).result
    return reshape_to(build, result, m.root.result.type.shape) if rank == 4 else result


def _why(rows: Sequence[Rows | str]) -> str:
    return next((each for each in rows if isinstance(each, str)), "")
