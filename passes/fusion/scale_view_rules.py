"""Rules of `fold-scale` that bring constants past reshapes and transposes, to a product's side."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from leptonc.ir.blob import Array, Blob
from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim, product
from leptonc.ir.graph import Op, Value
from leptonc.passes.cleanup.movement_rules import permutation
from leptonc.passes.constants import array_of
from leptonc.passes.fusion.weights import WEIGHTED, channel_axis, input_axis, pads_nothing, x
from leptonc.passes.pattern import Const, Match, Var, pat
from leptonc.passes.rewrite import rule

c = Const("c")
MOVES = ("transpose", "reshape")
AFFINE = ("mul", "div", "add", "sub")
movement = pat.any_of(*MOVES)(...)


@rule(pat.any_of(*AFFINE)(movement, c))
def constant_before_movement(m: Match, build: Builder) -> Value:
    """A constant is applied before its product's result is moved, where it joins the weight."""
    op = m[movement]
    m.fits(m.root.result.type.dtype.is_float)
    m.require(m.root.result.type == op.result.type, "the constant broadcasts the tensor")
    chain = _way_from_product(op)
    m.require(bool(chain), "no product with a constant weight is before it")
    source = chain[-1].operands[0]
    assert source.producer is not None
    axis = channel_axis(source.producer)
    found = _across(m, chain, source, axis)
    operand = build.const(Blob.of(np.ascontiguousarray(found)))
    applied = build.op(m.root.definition, [op.operands[0], operand], m.root.attrs).result
    operands = [applied, *op.operands[1:]]
    return build.op(op.definition, operands, op.attrs, names=op.operand_names).result


@rule(pat.neg(movement))
def sign_before_movement(m: Match, build: Builder) -> Value:
    """A sign is changed before its product's result is moved, where it joins the weight."""
    op = m[movement]
    m.fits(op.result.type.dtype.is_float)
    m.require(bool(_way_from_product(op)), "no product with a constant weight is before it")
    operands = [build.neg(op.operands[0]), *op.operands[1:]]
    return build.op(op.definition, operands, op.attrs, names=op.operand_names).result


def _way_from_product(op: Op) -> list[Op]:
    """The moves from `op` back to a product with a constant weight; nothing without one."""
    chain = [op]
    while True:
        value = chain[-1].operands[0]
        source = value.producer
        if source is None or value.use_count != 1:
            return []
        if source.name in WEIGHTED:
            known = all(operand.blob is not None for operand in source.operands[1:])
            return chain if known else []
        if source.name not in MOVES:
            return []
        chain.append(source)


def _across(m: Match, chain: Sequence[Op], source: Value, axis: int) -> Array:
    """The constant of the match before the first of `chain`; per channel of `source`, or no fit."""
    data = array_of(m[c])
    extent = source.type.shape[axis]
    m.fits(data is not None and isinstance(extent, int) and extent > 0)
    assert data is not None
    assert isinstance(extent, int)
    m.require(data.size <= extent, "the constant differs along other axes than the channels")
    first: Array | None = None
    for op in chain:
        moved = _before(op, data, extent)
        m.require(moved is not None, "the constant differs along axes that are mixed")
        assert moved is not None
        data = moved
        first = data if first is None else first
    fits = _per_axis(data, source.type.rank, axis, extent)
    m.require(fits, "the constant differs along other axes than the channels")
    assert first is not None
    return first


def _full(data: Array, rank: int) -> tuple[int, ...]:
    return (1,) * (rank - data.ndim) + data.shape


def _per_axis(data: Array, rank: int, axis: int, extent: int) -> bool:
    """True where `data` broadcasts to a tensor of `rank` and differs along one axis at most."""
    return data.ndim <= rank and all(
        have in (1, extent if index == axis else 1) for index, have in enumerate(_full(data, rank))
    )


def _before(op: Op, data: Array, limit: int) -> Array | None:
    """The constant that does to the operand of a move what `data` does to its result."""
    if data.size == 1:
        return data.reshape(())
    whole = data.reshape(_full(data, op.result.type.rank))
    if op.name == "transpose":
        return np.transpose(whole, np.argsort(permutation(op)))
    return _reshaped(whole, op.result.type.shape, op.operands[0].type.shape, limit)


def _reshaped(data: Array, old: tuple[Dim, ...], new: tuple[Dim, ...], limit: int) -> Array | None:
    """What `data`, which broadcasts to `old`, is beside a reshape of that to `new`.

    None where the reshape mixes axes along which it differs with others of unknown extent, or
    where it would have more than `limit` elements.
    """
    if 0 in old or 0 in new:
        return None
    varying = [axis for axis, extent in enumerate(data.shape) if extent != 1]
    low, high = varying[0], varying[-1] + 1
    borders = [
        (i, j)
        for i in range(len(old) + 1)
        for j in range(len(new) + 1)
        if product(old[:i]) == product(new[:j])
    ]
    starts = [pair for pair in borders if pair[0] <= low]
    ends = [pair for pair in borders if pair[0] >= high]
    if not starts or not ends:
        return None
    start, end = max(starts), min(ends)
    block, target = old[start[0] : end[0]], new[start[1] : end[1]]
    known = [dim for dim in (*block, *target) if isinstance(dim, int)]
    if len(known) < len(block) + len(target) or math.prod(known[: len(block)]) > limit:
        return None
    part = np.broadcast_to(data.reshape(data.shape[start[0] : end[0]]), known[: len(block)])
    return part.reshape(*known[len(block) :], *(1,) * (len(new) - end[1]))


mixed = pat.any_of(*AFFINE)(x, c)


moved = pat.any_of(*MOVES)(mixed, Var("extents").optional())


@rule(moved)
def constant_behind_movement(m: Match, build: Builder) -> Value:
    """A constant before a move is applied behind it, where a product that reads it takes it."""
    inner, root, data = m[mixed], m.root, array_of(m[c])
    m.fits(inner.result.type.dtype.is_float and inner.result.type == m[x].type)
    reader = root.result.users[0] if root.result.use_count == 1 else None
    m.fits(reader is not None and reader.name in WEIGHTED and reader.operands[0] is root.result)
    assert reader is not None
    assert data is not None
    axis, rank = input_axis(reader), root.result.type.rank
    extent = root.result.type.shape[axis]
    known = all(operand.blob is not None for operand in reader.operands[1:])
    m.fits(known and isinstance(extent, int) and not _joins_product_before(m[x]))
    takes = inner.name in ("mul", "div") or pads_nothing(reader)
    m.require(takes, "nothing is added to what is padded")
    assert isinstance(extent, int)
    m.require(data.size <= extent, "the constant differs along other axes than the inputs")
    behind = _behind(root, data, extent)
    fits = behind is not None and _per_axis(behind, rank, axis, extent)
    m.require(fits, "the constant differs along other axes than the inputs")
    assert behind is not None
    view = build.op(root.definition, [m[x], *root.operands[1:]], root.attrs).result
    other = build.const(Blob.of(np.ascontiguousarray(behind)))
    return build.op(inner.definition, [view, other], inner.attrs).result


def _behind(op: Op, data: Array, limit: int) -> Array | None:
    """The constant that does to the result of a move what `data` does to its operand."""
    if data.size == 1:
        return data.reshape(())
    old, new = op.operands[0].type.shape, op.result.type.shape
    whole = data.reshape(_full(data, len(old)))
    if op.name == "transpose":
        return np.transpose(whole, permutation(op))
    return _reshaped(whole, old, new, limit)


def _joins_product_before(value: Value) -> bool:
    """True where a constant beside `value` is for the product that it comes from."""
    op = value.producer
    if op is None:
        return False
    return op.name in WEIGHTED or (op.name in MOVES and bool(_way_from_product(op)))
