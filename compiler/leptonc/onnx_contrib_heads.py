"""What all forms of attention share: heads, masks, rotation, and the weighted sum itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim, floordiv
from leptonc.ir.graph import Value
from leptonc.ir.types import DType
from leptonc.onnx_contrib_parts import (
    cast,
    counted,
    extent,
    number,
    reshaped,
    split_at,
    transposed,
)

LOWEST = float(np.finfo(np.float32).min)


def heads_of(build: Builder, value: Value, heads: int) -> Value:
    """[B,S,N*H] as [B,N,S,H]."""
    batch, length, width = value.type.shape
    parts = reshaped(build, value, batch, length, heads, floordiv(width, heads))
    return transposed(build, parts, 0, 2, 1, 3)


def merged(build: Builder, value: Value) -> Value:
    """[B,N,S,H] as [B,S,N*H]."""
    batch, heads, length, width = value.type.shape
    return reshaped(build, transposed(build, value, 0, 2, 1, 3), batch, length, heads * width)


def scaled_scores(build: Builder, q: Value, k: Value, scale: float) -> Value:
    """How well each query fits each key; `scale` of 0 stands for the usual one."""
    if not scale:
        width = q.type.shape[-1]
        assert isinstance(width, int)
        scale = float(1 / np.sqrt(np.float32(width)))
    axes = (*range(k.type.rank - 2), k.type.rank - 1, k.type.rank - 2)
    scores = build.matmul(q, transposed(build, k, *axes))
    return build.mul(scores, number(build, scale, scores))


def weighted(build: Builder, scores: Value, v: Value) -> Value:
    """The values in proportion to the exponentials of their scores."""
    return build.matmul(build.softmax(scores, axis=-1), v)


def causal(build: Builder, queries: Dim, keys: Dim) -> Value:
    """[S,T]: 0 where a key is not behind its query, both counted from the end; else the lowest."""
    at = counted(build, queries)
    first = extent(build, keys - queries, DType.I32)
    last = reshaped(build, build.add(at, first), queries, 1)
    late = build.greater(counted(build, keys), last)
    low, zero = (build.const(np.array(value, np.float32)) for value in (LOWEST, 0))
    return build.where(late, low, zero)


def hidden(build: Builder, allowed: Value, filter_value: float) -> Value:
    """0 where an integer or bool is true, else a number that hides what it is added to."""
    zero = build.const(np.array(0, np.float32))
    return build.where(
        cast(build, allowed, DType.BOOL), zero, build.const(np.array(filter_value, np.float32))
    )


def rotated(build: Builder, x: Value, cos: Value, sin: Value, *, interleaved: bool) -> Value:
    """[..., H] whose first elements are turned pair by pair; the caches are [..., pairs]."""
    pairs, axis = cos.type.shape[-1], x.type.rank - 1
    rest = x.type.shape[-1] - 2 * pairs
    turned, *others = [x] if rest == 0 else split_at(build, x, [2 * pairs, rest], axis)
    lead = x.type.shape[:-1]
    if interleaved:
        split = reshaped(build, turned, *lead, pairs, 2)
        first, second = (
            reshaped(build, half, *lead, pairs) for half in split_at(build, split, [1, 1], axis + 1)
        )
    else:
        first, second = split_at(build, turned, [pairs, pairs], axis)
    real = build.sub(build.mul(first, cos), build.mul(second, sin))
    imaginary = build.add(build.mul(first, sin), build.mul(second, cos))
    if interleaved:
        both = [reshaped(build, half, *lead, pairs, 1) for half in (real, imaginary)]
        result = reshaped(build, build.concat(*both, axis=axis + 1), *turned.type.shape)
    else:
        result = build.concat(real, imaginary, axis=axis)
    return build.concat(result, *others, axis=axis) if others else result


def with_past(build: Builder, past: Value | None, new: Value) -> Value:
    """Keys or values of before and now, along the sequence."""
    return new if past is None else build.concat(past, new, axis=2)


def summed(build: Builder, values: Sequence[Value]) -> Value | None:
    """The sum of masks and biases; None where there are none."""
    total: Value | None = None
    for value in values:
        total = value if total is None else build.add(total, value)
    return total
