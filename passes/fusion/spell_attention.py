"""spell-attention: attention as products and a softmax, for targets with kernels for those."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.blob import Blob
from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim, floordiv
from leptonc.ir.graph import Op, Value
from leptonc.ir.table import DIMS
from leptonc.ir.types import DType
from leptonc.passes.base import RewritePass
from leptonc.passes.contract import REASSOCIATES, Contract, for_finite
from leptonc.passes.fusion.attention_masks import may_hide_all
from leptonc.passes.pattern import Match, Var, pat
from leptonc.passes.rewrite import Rule, rule
from leptonc.passes.views import expand_to, reshape_to

q, k, v, mask = Var("q"), Var("k"), Var("v"), Var("mask")
x, cos, sin = Var("x"), Var("cos"), Var("sin")


def _number(build: Builder, value: float, dtype: DType) -> Value:
    return build.const(Blob.of(np.array(value).astype(dtype.numpy)))


def _heads(build: Builder, value: Value, heads: int) -> Value:
    """[batch, length, heads times width] as heads."""
    if value.type.rank == 4:
        return value
    batch, length, width = value.type.shape
    split = reshape_to(build, value, (batch, length, heads, floordiv(width, heads)))
    return build.transpose(split, perm=(0, 2, 1, 3))


def _repeated(build: Builder, value: Value, heads: Dim) -> Value:
    """Each head of keys as often as queries have heads that read it."""
    batch, count, length, width = value.type.shape
    if count == heads:
        return value
    copies = floordiv(heads, count)
    apart = reshape_to(build, value, (batch, count, 1, length, width))
    wide = expand_to(build, apart, (batch, count, copies, length, width))
    return reshape_to(build, wide, (batch, heads, length, width))


def _added(build: Builder, given: Value | None, op: Op, scores: Value) -> Value:
    """Scores with the mask, and without what comes after each query."""
    dtype = scores.type.dtype
    maker = given.producer if given is not None else None
    if maker is not None and maker.name == "expand":
        given = maker.operands[0]  # a sum broadcasts by itself
    if given is not None and given.type.dtype is DType.BOOL:
        none, all_ = _number(build, 0.0, dtype), _number(build, -np.inf, dtype)
        given = build.where(given, none, all_)
    if given is not None:
        scores = build.add(scores, given)
    if not op.int("is_causal"):
        return scores
    length = scores.type.shape[-1]
    if isinstance(length, int):
        data = np.triu(np.full((length, length), -np.inf), 1).astype(dtype.numpy)
        return build.add(scores, build.const(Blob.of(data)))
    places = build.range(
        build.const(Blob.of(np.array(0, np.int64))),
        build.op(DIMS, [], {"value": (length,), "shape": ()}).result,
        build.const(Blob.of(np.array(1, np.int64))),
    )
    late = build.greater(places, reshape_to(build, places, (length, 1)))
    return build.where(late, _number(build, -np.inf, dtype), scores)


def _guarded(build: Builder, weights: Value) -> Value:
    """Zeros where no key is seen."""
    return build.where(
        build.is_nan(weights), _number(build, 0.0, weights.type.dtype), weights
    )  # fmt: skip


@rule(pat.attention(q, k, v, mask=mask.optional()))
def attention_apart(m: Match, build: Builder) -> Value:
    """Attention is two products with a softmax between them."""
    op = m.root
    heads = (op.int("q_num_heads"), op.int("kv_num_heads"))
    query = _heads(build, m[q], heads[0])
    keys, values = (
        _repeated(build, _heads(build, m[each], heads[1]), query.type.shape[1]) for each in (k, v)
    )
    dtype = query.type.dtype
    scores = build.matmul(query, build.transpose(keys, perm=(0, 1, 3, 2)))
    cap, scale = op.float("softcap"), op.float("scale")
    if cap:
        scale /= cap
    if scale != 1:
        scores = build.mul(scores, _number(build, scale, dtype))
    if cap:
        scores = build.mul(build.tanh(scores), _number(build, cap, dtype))
    weights = build.softmax(_added(build, m.get(mask), op, scores), axis=-1)
    given = m.get(mask)
    unseen = given is not None and (given.type.dtype is DType.BOOL or may_hide_all(given))
    if op.int("guarded") and unseen:
        weights = _guarded(build, weights)
    result = build.matmul(weights, values)
    if m[q].type.rank == 4:
        return result
    rows = build.transpose(result, perm=(0, 2, 1, 3))
    return reshape_to(build, rows, op.result.type.shape)


@rule(pat.rotary_embedding(x, cos, sin))
def rotary_apart(m: Match, build: Builder) -> Value:
    """A rotary embedding is the columns times cosines, and their turned pairs times sines."""
    known = isinstance(m[cos].type.shape[2], int)
    m.require(known, "how many columns turn is known at run time only")
    op, source = m.root, m[x]
    in_rows = source.type.rank == 3
    if in_rows:
        batch, length, width = source.type.shape
        heads = op.int("num_heads")
        source = reshape_to(build, source, (batch, length, heads, floordiv(width, heads)))
    angles: list[Value] = []
    for each in (cos, sin):
        batch, length, pairs = _narrow(m[each]).type.shape
        shape = (batch, length, 1, pairs) if in_rows else (batch, 1, length, pairs)
        angles.append(reshape_to(build, _narrow(m[each]), shape))
    pairs = angles[0].type.shape[3]
    assert isinstance(pairs, int)
    interleaved = bool(op.int("interleaved"))
    first, second = (
        _columns(build, source, bounds)
        for bounds in (
            ((0, 2 * pairs, 2), (1, 2 * pairs, 2))
            if interleaved
            else ((0, pairs, 1), (pairs, 2 * pairs, 1))
        )
    )
    turned = [
        build.sub(build.mul(first, angles[0]), build.mul(second, angles[1])),
        build.add(build.mul(second, angles[0]), build.mul(first, angles[1])),
    ]
    if interleaved:
        shape = turned[0].type.shape
        turned = [reshape_to(build, part, (*shape, 1)) for part in turned]
        pair = build.concat(*turned, axis=4)
        turned = [reshape_to(build, pair, (*shape[:3], 2 * pairs))]
    if source.type.shape[3] != 2 * pairs:
        turned.append(_columns(build, source, (2 * pairs, np.iinfo(np.int64).max, 1)))
    result = build.concat(*turned, axis=3) if len(turned) > 1 else turned[0]
    return reshape_to(build, result, op.result.type.shape) if in_rows else result


def _narrow(angles: Value) -> Value:
    """Angles before they were repeated for each sequence."""
    maker = angles.producer
    if maker is None or maker.name != "expand":
        return angles
    before = maker.operands[0]
    alike = before.type.rank == 3 and before.type.shape[2] == angles.type.shape[2]
    return before if alike else angles


def _columns(build: Builder, value: Value, bounds: tuple[int, int, int]) -> Value:
    start, stop, step = (build.const(Blob.of(np.array([n], np.int64))) for n in bounds)
    axis = build.const(Blob.of(np.array([3], np.int64)))
    return build.slice(value, start, stop, axes=axis, steps=step)


@dataclass(frozen=True)
class SpellAttention(RewritePass):
    """Takes attention and rotary embedding apart, for targets with kernels for their parts."""

    name: ClassVar[str] = "spell-attention"
    numbers: ClassVar[Contract] = for_finite(REASSOCIATES)
    rules: ClassVar[tuple[Rule, ...]] = (attention_apart, rotary_apart)
