"""Multi-head attention of onnxruntime, with its masks and its past, taken apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from leptonc.ir.dims import Dim
from leptonc.ir.graph import Value
from leptonc.onnx_contrib_heads import (
    causal,
    heads_of,
    hidden,
    merged,
    scaled_scores,
    summed,
    weighted,
    with_past,
)
from leptonc.onnx_contrib_parts import (
    Results,
    Rule,
    counted,
    integers,
    part,
    refuse,
    refuse_operand,
    reshaped,
    split_at,
)
from leptonc.onnx_contrib_quantized import integer_product, scaled
from leptonc.onnx_scope import Call


@dataclass(frozen=True)
class _Attention:
    """The attributes that all kinds of attention have."""

    heads: int
    scale: float
    filter_value: float
    is_causal: bool

    @staticmethod
    def of(call: Call) -> _Attention:
        """Those of a node; what concerns rotation and shared memory is refused where asked for."""
        if call.take("do_rotary", "int", 0):
            raise refuse(call, "rotation inside")
        if call.take("past_present_share_buffer", "int", 0):
            raise refuse(call, "a past that grows in place")
        call.take("rotary_embedding_dim", "int")
        return _Attention(
            call.take("num_heads", "int", 1),
            call.take("scale", "float", 0.0),
            call.take("mask_filter_value", "float", -10000.0),
            bool(call.take("unidirectional", "int", 0)),
        )

    def apply(
        self, call: Call, q: Value, k: Value, v: Value, mask: Value | None, bias: Value | None
    ) -> tuple[Value, Value]:
        """[B,S,N*H] for heads of queries, keys and values, and the scores."""
        build, addends = call.build, list[Value]()
        queries, keys = q.type.shape[2], k.type.shape[2]
        if mask is not None:
            addends.append(self._mask(call, mask, queries, keys))
        if self.is_causal:
            addends.append(causal(build, queries, keys))
        if bias is not None:
            addends.append(bias)
        scores = scaled_scores(build, q, k, self.scale)
        addend = summed(build, addends)
        scores = scores if addend is None else build.add(scores, addend)
        return merged(build, weighted(build, scores, v)), scores

    def _mask(self, call: Call, mask: Value, queries: Dim, keys: Dim) -> Value:
        """A mask as what is added to the scores: [B,1,1 or S,T]."""
        build, batch = call.build, call.required(0).type.shape[0]
        if mask.type.rank == 1:
            allowed = _between(call, mask, batch, keys)
        elif mask.type.rank == 2:
            allowed = reshaped(build, mask, *mask.type.shape[:1], 1, 1, keys)
        elif mask.type.rank == 3:
            allowed = reshaped(build, mask, *mask.type.shape[:1], 1, queries, keys)
        else:
            raise refuse(call, f"a mask of {mask.type.rank} dimensions")
        return hidden(build, allowed, self.filter_value)


def _between(call: Call, mask: Value, batch: Dim, keys: Dim) -> Value:
    """Which keys stand before the end of each sequence, and not before its start."""
    build, count = call.build, mask.type.shape[0]
    places = counted(build, keys)
    if count == batch:
        return build.less(places, reshaped(build, mask, batch, 1, 1, 1))
    if count != batch * 2:
        raise refuse(call, f"a mask of {count} numbers for {batch} sequences")
    ends, starts = (
        reshaped(build, half, batch, 1, 1, 1) for half in split_at(build, mask, [batch, batch], 0)
    )
    return build.and_(build.less(places, ends), build.greater_or_equal(places, starts))


def _attention(call: Call) -> Results:
    """Attention of a sequence to itself, the projections of its input included."""
    build, form = call.build, _Attention.of(call)
    refuse_operand(call, 6, "a past that grows in place")
    product = build.matmul(call.required(0), call.required(1))
    bias = call.operand(2)
    projected = product if bias is None else build.add(product, bias)
    return _self_attention(
        call, form, projected, call.operand(3), call.operand(4), call.operand(5)
    )  # fmt: skip


def _quantized_attention(call: Call) -> Results:
    """The same on bytes; what comes out is real."""
    form = _Attention.of(call)
    product = integer_product(
        call, call.required(0), call.required(1), call.operand(6), call.operand(7)
    )
    real = scaled(call, product, call.required(3), call.required(4))
    projected = call.build.add(real, call.required(2))
    return _self_attention(call, form, projected, call.operand(5), call.operand(8), None)


def _self_attention(
    call: Call, form: _Attention, projected: Value, mask: Value | None, past: Value | None,
    bias: Value | None,
) -> Results:  # fmt: skip
    build = call.build
    width = projected.type.shape[-1]
    if not isinstance(width, int):
        raise refuse(call, "weights of unknown extents")
    sizes = call.take("qkv_hidden_sizes", "ints") or (width // 3,) * 3
    q, k, v = (heads_of(build, x, form.heads) for x in split_at(build, projected, sizes, 2))
    if past is not None:
        before = [build.gather(past, build.const(np.array(n))) for n in (0, 1)]
        k, v = with_past(build, before[0], k), with_past(build, before[1], v)
    result, _ = form.apply(call, q, k, v, mask, bias)
    if not call.wants(1):
        return [result]
    return [
        result,
        build.concat(*(build.unsqueeze(x, integers(build, [0])) for x in (k, v)), axis=0),
    ]


def _multi_head_attention(call: Call) -> Results:
    """Attention of one sequence to another; keys and values may be heads already, or packed."""
    build, form = call.build, _Attention.of(call)
    refuse_operand(call, 8, "a past that grows in place")
    refuse_operand(call, 9, "beams")
    q, k, v = _projected(call, form)
    k, v = with_past(build, call.operand(6), k), with_past(build, call.operand(7), v)
    result, scores = form.apply(call, q, k, v, call.operand(4), call.operand(5))
    return [result, k, v, scores]


def _projected(call: Call, form: _Attention) -> tuple[Value, Value, Value]:
    """Heads of queries, keys and values, their biases added."""
    build, heads = call.build, form.heads
    query, key, value, bias = (call.operand(index) for index in range(4))
    assert query is not None
    if query.type.rank == 5:
        q, k, v = _unpacked(call, query, 3)
    elif key is None:
        raise refuse(call, "queries without keys")
    else:
        q = heads_of(build, query, heads)
        if key.type.rank == 5:
            k, v = _unpacked(call, key, 2)
        elif value is None:
            raise refuse(call, "keys without values")
        else:
            k, v = (x if x.type.rank == 4 else heads_of(build, x, heads) for x in (key, value))
    if bias is None:
        return q, k, v
    widths = [x.type.shape[1] * x.type.shape[3] for x in (q, k, v)]
    added: list[Value] = []
    for x, row in zip((q, k, v), split_at(build, bias, widths, 0), strict=True):
        added.append(build.add(x, reshaped(build, row, heads, 1, x.type.shape[3])))
    return added[0], added[1], added[2]


def _unpacked(call: Call, packed: Value, count: int) -> list[Value]:
    """[B,S,N,count,H] as several [B,N,S,H]."""
    build = call.build
    batch, length, heads, _, width = packed.type.shape
    parts = [
        reshaped(build, part(build, packed, n, n + 1, 3), batch, length, heads, width)
        for n in range(count)
    ]
    return [build.transpose(x, perm=(0, 2, 1, 3)) for x in parts]


ATTENTION: Mapping[str, Rule] = MappingProxyType({
    "Attention": _attention,
    "QAttention": _quantized_attention,
    "MultiHeadAttention": _multi_head_attention,
})  # fmt: skip
"""Operators by name, and what takes them apart."""
