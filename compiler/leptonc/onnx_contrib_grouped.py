"""Attention whose heads share keys and values, and rotation by position."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim, floordiv, maximum
from leptonc.ir.graph import Value
from leptonc.ir.types import DType
from leptonc.onnx_contrib_heads import (
    LOWEST,
    heads_of,
    merged,
    rotated,
    scaled_scores,
)
from leptonc.onnx_contrib_parts import (
    Results,
    Rule,
    cast,
    counted,
    extent,
    number,
    refuse,
    refuse_operand,
    reshaped,
    split_at,
)
from leptonc.onnx_scope import Call

REFUSED = (
    (12, "a quantised past"), (13, "a quantised past"), (14, "normalised queries"),
    (15, "normalised keys"), (16, "lengths of queries"),
)  # fmt: skip


@dataclass(frozen=True)
class _Lengths:
    """Where the new elements stand: [B,1,1,1] or [B,1] numbers of 32 bits."""

    past: Value
    total: Value
    present: Dim

    @staticmethod
    def of(call: Call) -> _Lengths:
        """From how many elements each sequence has, and all of them have at most."""
        build = call.build
        batch, queries = call.required(0).type.shape[:2]
        longest = reshaped(build, call.required(6), 1)
        total = build.add(
            reshaped(build, call.required(5), batch, 1), build.const(np.array(1, np.int32))
        )
        now = extent(build, queries, DType.I32)
        zero = build.const(np.array(0, np.int32))
        past = build.where(build.equal(longest, now), zero, build.sub(total, now))
        known = longest.content
        if known is None:
            name = build.region.graph.fresh_dim()  # pyright: ignore[reportOptionalMemberAccess]
            longest = build.op("extents", [cast(build, longest, DType.I64)], {"names": (name,)})
            known = longest.results[0].content
        assert known is not None
        before = call.operand(3)
        present = known[0] if before is None else maximum(before.type.shape[2], known[0])
        return _Lengths(past, total, present)

    def places(self, build: Builder, queries: Dim) -> Value:
        """[B,S]: the position of each query in its sequence."""
        return build.add(counted(build, queries), self.past)


def _group_query_attention(call: Call) -> Results:
    """Attention with fewer heads of keys and values than of queries, and a past."""
    build = call.build
    for index, what in REFUSED:
        refuse_operand(call, index, what)
    for name in ("k_quant_type", "v_quant_type"):
        if call.take(name, "str", "NONE") != "NONE":
            raise refuse(call, "a quantised past")
    if call.wants(3) or call.take("qk_output", "int", 0):
        raise refuse(call, "its scores as a result")
    if call.take("sliding_window_cache", "int", 0) or not call.take("causal", "int", 1):
        raise refuse(call, "a window of the past, or without order")
    lengths = _Lengths.of(call)
    q, k, v = _projected(call, lengths)
    queries = q.type.shape[2]
    k = _joined(call, call.operand(3), k, lengths)
    v = _joined(call, call.operand(4), v, lengths)
    groups = floordiv(q.type.shape[1], k.type.shape[1])
    batch, heads, _, width = q.type.shape
    grouped = reshaped(build, q, batch, k.type.shape[1], groups, queries, width)
    keys, values = (reshaped(build, x, *x.type.shape[:2], 1, *x.type.shape[2:]) for x in (k, v))
    scores = cast(
        build, scaled_scores(build, grouped, keys, call.take("scale", "float", 0.0)), DType.F32
    )
    weights = _weights(call, scores, lengths, queries)
    result = build.matmul(cast(build, weights, values.type.dtype), values)
    return [merged(build, reshaped(build, result, batch, heads, queries, width)), k, v]


def _projected(call: Call, lengths: _Lengths) -> tuple[Value, Value, Value]:
    """Heads of queries, keys and values, the first two rotated where asked for."""
    build = call.build
    heads, shared = call.take("num_heads", "int", 1), call.take("kv_num_heads", "int", 1)
    query, key, value = (call.operand(index) for index in range(3))
    assert query is not None
    if key is None or value is None:
        width = floordiv(query.type.shape[2], heads + 2 * shared)
        sizes = [heads * width, shared * width, shared * width]
        query, key, value = split_at(build, query, sizes, 2)
    q = heads_of(build, query, heads)
    k, v = (heads_of(build, x, shared) for x in (key, value))
    interleaved = bool(call.take("rotary_interleaved", "int", 0))
    if not call.take("do_rotary", "int", 0):
        return q, k, v
    places = call.operand(9)
    if places is None:
        places = lengths.places(build, q.type.shape[2])
    cos, sin = (_looked_up(build, call.required(index), places) for index in (7, 8))
    turned = [rotated(build, x, cos, sin, interleaved=interleaved) for x in (q, k)]
    return turned[0], turned[1], v


def _looked_up(build: Builder, cache: Value, places: Value) -> Value:
    """[B,1,S,pairs]: the rows of a cache."""
    rows = build.gather(cache, places, axis=0)
    batch, length, pairs = rows.type.shape
    return reshaped(build, rows, batch, 1, length, pairs)


def _joined(call: Call, past: Value | None, new: Value, lengths: _Lengths) -> Value:
    """[B,N,present,H]: what was before, the new elements behind it, and zeros."""
    build = call.build
    batch, heads, queries, width = new.type.shape
    zero = number(build, 0, new)
    shape = build.dims(value=(batch, heads, lengths.present, width), shape=(4,))
    if past is None:
        old = build.expand(reshaped(build, zero, 1, 1, 1, 1), shape)
    else:
        more = lengths.present - past.type.shape[2]
        pads = build.dims(value=(0, 0, 0, 0, 0, 0, more, 0), shape=(8,))
        old = build.pad(past, pads)
    at = counted(build, lengths.present)
    begin = reshaped(build, lengths.past, batch, 1, 1, 1) if past is not None else None
    column = reshaped(build, at, lengths.present, 1)
    inner = column if begin is None else build.sub(column, begin)
    last = extent(build, queries - 1, DType.I32)
    bounded = build.max(build.min(inner, last), build.const(np.array(0, np.int32)))
    rows = build.gather_elements(new, build.expand(bounded, shape), axis=2)
    total = reshaped(build, lengths.total, batch, 1, 1, 1)
    is_new = build.greater_or_equal(inner, build.const(np.array(0, np.int32)))
    both = build.where(is_new, rows, old)
    return build.where(build.less(column, total), both, zero)


def _weights(call: Call, scores: Value, lengths: _Lengths, queries: Dim) -> Value:
    """[B,N,G,S,T]: the share of each key, of those up to the query and within the window."""
    build = call.build
    window, cap = call.take("local_window_size", "int", -1), call.take("softcap", "float", 0.0)
    bias = call.operand(10)
    if cap:
        limit = number(build, cap, scores)
        scores = build.mul(build.tanh(build.div(scores, limit)), limit)
    batch, shared, groups, _, keys = scores.type.shape
    if bias is not None:
        outer = bias.type.shape[0]
        heads = (1, 1) if bias.type.shape[1] == 1 else (shared, groups)
        bias = cast(build, reshaped(build, bias, outer, *heads, queries, keys), DType.F32)
        scores = build.add(scores, bias)
    places = reshaped(build, lengths.places(build, queries), batch, 1, 1, queries, 1)
    at = counted(build, lengths.present)
    allowed = build.less_or_equal(at, places)
    if window > 0:
        first = build.sub(places, build.const(np.array(window, np.int32)))
        allowed = build.and_(allowed, build.greater(at, first))
    scores = build.where(allowed, scores, number(build, LOWEST, scores))
    return _softmax(call, scores)


def _softmax(call: Call, scores: Value) -> Value:
    """Softmax, where asked for with one more key that has no value."""
    build, sink = call.build, call.operand(11)
    smooth = call.take("smooth_softmax", "int", 0) > 0
    if sink is None and not smooth:
        return build.softmax(scores, axis=-1)
    batch, shared, groups, queries, keys = scores.type.shape
    extra = number(build, 0, scores)
    if sink is not None:
        extra = reshaped(build, cast(build, sink, DType.F32), shared, groups, 1, 1)
    else:
        extra = reshaped(build, extra, 1, 1, 1, 1)
    shape = build.dims(value=(batch, shared, groups, queries, 1), shape=(5,))
    with_sink = build.concat(scores, build.expand(extra, shape), axis=4)
    weights = build.softmax(with_sink, axis=-1)
    return split_at(build, weights, [keys], 4)[0]


def _rotary_embedding(call: Call) -> Results:
    """Rotation by position of [B,S,N*H] or [B,N,S,H]."""
    build, x, places = call.build, call.required(0), call.required(1)
    heads, interleaved = call.take("num_heads", "int", 0), call.take("interleaved", "int", 0)
    dimension = call.take("rotary_embedding_dim", "int", 0)
    if call.take("is_packed_batching", "int", 0):
        raise refuse(call, "sequences packed into one")
    call.take("scale", "float")
    caches = [call.required(2), call.required(3)]
    if x.type.rank == 3 and not heads:
        if dimension:
            raise refuse(call, "part of each head, but no number of heads")
        width = caches[0].type.shape[1] * 2
        heads = _whole(call, floordiv(x.type.shape[2], width))
    flat = x.type.rank == 3
    source = heads_of(build, x, heads) if flat else x
    length = source.type.shape[2]
    if places.type.rank == 1:
        places = build.add(counted(build, length, DType.I64), places)
        places = reshaped(build, places, 1, length)
    cos, sin = (_looked_up(build, cache, places) for cache in caches)
    result = rotated(build, source, cos, sin, interleaved=bool(interleaved))
    return [merged(build, result) if flat else result]


def _whole(call: Call, dim: Dim) -> int:
    if not isinstance(dim, int):
        raise refuse(call, f"{dim} heads")
    return dim


GROUPED: Mapping[str, Rule] = MappingProxyType({
    "GroupQueryAttention": _group_query_attention,
    "RotaryEmbedding": _rotary_embedding,
})  # fmt: skip
"""Operators by name, and what takes them apart."""
