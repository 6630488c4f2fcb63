"""Attention: values in proportion to how well their keys fit the queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim, floordiv
from leptonc.ir.ops.bf16 import OPERANDS, ROUNDED, to_bf16
from leptonc.ir.ops.broadcasting import FLOATS, check_dtype, check_same_dtype, shown_shape
from leptonc.ir.ops.extents import broadcasts_to, differ, natural
from leptonc.ir.table import Attr, Evaluation, Inference, Trait, define
from leptonc.ir.types import DType, TensorType

Shape = tuple[Dim, ...]


def head_shapes(
    shapes: Sequence[Shape], q_num_heads: int, kv_num_heads: int
) -> tuple[Shape, Shape, Shape]:
    """Queries, keys and values as [batch, heads, length, width]."""
    if len(shapes[0]) == 4:
        return shapes[0], shapes[1], shapes[2]
    q, k, v = (
        (shape[0], heads, shape[1], floordiv(shape[2], heads))
        for shape, heads in zip(shapes, (q_num_heads, kv_num_heads, kv_num_heads), strict=True)
    )
    return q, k, v


def _heads(call: Inference) -> tuple[Shape, Shape, Shape]:
    """The extents of the operands as heads; raises E103 where they do not fit each other."""
    shapes = [type.shape for type in call.types[:3]]
    names = " and ".join(map(shown_shape, shapes))
    ranks = {len(shape) for shape in shapes}
    if ranks not in ({3}, {4}):
        raise LeptonError(
            f"attention of {names}: all should have 4 dimensions, or 3 with heads in one row",
            code="E103",
        )
    counts = call.int("q_num_heads"), call.int("kv_num_heads")
    if ranks == {3}:
        if min(counts) < 1:
            raise LeptonError(
                f"attention of {names}: the numbers of heads are {counts[0]} and {counts[1]}, "
                "should be at least 1",
                code="E108",
            )
        for shape, heads in zip(shapes, (counts[0], counts[1], counts[1]), strict=True):
            if isinstance(shape[2], int) and shape[2] % heads:
                raise LeptonError(
                    f"attention of {names}: {shape[2]} columns are no {heads} heads", code="E103"
                )
    q, k, v = head_shapes(shapes, *counts)
    wrong = (
        differ(q[0], k[0]) or differ(q[0], v[0]) or differ(k[1], v[1])
        or differ(k[2], v[2]) or differ(q[3], k[3])
    )  # fmt: skip
    if wrong or (isinstance(q[1], int) and isinstance(k[1], int) and (not k[1] or q[1] % k[1])):
        shown = " and ".join(map(shown_shape, (q, k, v)))
        raise LeptonError(f"attention of heads {shown}: the extents do not fit", code="E103")
    return q, k, v


def _attention_infer(call: Inference) -> TensorType:
    check_dtype(call, "q", FLOATS)
    dtype = check_same_dtype(call, "q", "k", "v")
    q, k, v = _heads(call)
    mask = call.type("mask")
    if mask is not None:
        if mask.dtype not in (DType.BOOL, dtype):
            raise LeptonError(
                f"attention: the mask is {mask}, should be of bool or {dtype}", code="E102"
            )
        scores = (*q[:3], k[2])
        if not broadcasts_to(mask.shape, scores):
            raise LeptonError(
                f"attention: the mask {mask} does not broadcast to {shown_shape(scores)}",
                code="E103",
            )
    if call.int("is_causal") and differ(q[2], k[2]):
        raise LeptonError(
            f"attention: is_causal with {q[2]} queries and {k[2]} keys, should be as many",
            code="E108",
        )
    shape = call.types[0].shape
    return TensorType(dtype, (*shape[:-1], v[3] if len(shape) == 4 else q[1] * v[3]))


def _split(x: Array, heads: int) -> Array:
    """[B,S,N*H] as [B,N,S,H]; heads stay what they are."""
    if x.ndim == 4:
        return x
    width = x.shape[2] // heads
    return x.reshape(*x.shape[:2], heads, width).transpose(0, 2, 1, 3)


def _bias(call: Evaluation, queries: int, keys: int, dtype: np.dtype[Any]) -> Array:
    """What is added to the scores."""
    bias: Array = np.zeros((queries, keys), dtype)
    mask = call.get("mask")
    if mask is not None:
        hidden = np.where(mask, 0, -np.inf) if mask.dtype == bool else mask
        bias = bias + hidden.astype(dtype)
    if call.int("is_causal"):
        seen = np.tril(np.ones((queries, keys), bool))
        bias = np.where(seen, bias, -np.inf).astype(dtype)
    return bias


def _attention_evaluate(call: Evaluation) -> Array:
    dtype = natural(call[0].dtype)
    counts = [call.int("q_num_heads"), *[call.int("kv_num_heads")] * 2]
    short = to_bf16 if call.attrs["rounds"] == OPERANDS else np.asarray
    heads = (_split(x.astype(dtype), n) for x, n in zip(call.items[:3], counts, strict=True))
    q, k, v = map(short, heads)
    group = q.shape[1] // max(k.shape[1], 1)
    k, v = (np.repeat(x, group, axis=1) for x in (k, v))
    with np.errstate(invalid="ignore", over="ignore"):
        scores = np.matmul(q, k.swapaxes(-1, -2)) * dtype.type(call.float("scale"))
        cap = dtype.type(call.float("softcap"))
        scores = np.tanh(scores / cap) * cap if cap else scores
        bias = _bias(call, q.shape[2], k.shape[2], dtype)
        scores = scores + bias
        powers = np.exp(scores - scores.max(axis=-1, keepdims=True, initial=-np.inf))
        weights: Array = short(powers) / powers.sum(axis=-1, keepdims=True)
    if call.int("guarded"):
        sees_none: Array = np.asarray(bias.max(axis=-1, keepdims=True, initial=-np.inf) == -np.inf)
        weights = np.where(sees_none, dtype.type(0), weights)
    with np.errstate(invalid="ignore", over="ignore"):
        y: Array = np.matmul(weights, v).astype(call[0].dtype)
    if call[0].ndim == 4:
        return y
    return y.transpose(0, 2, 1, 3).reshape(*call[0].shape[:2], y.shape[1] * y.shape[3])


ATTENTION = define(
    "attention(q, k, v, mask?)",
    "Values weighted by the softmax of the products of queries and keys. Operands are heads, "
    "[batch, heads, length, width], or [batch, length, heads times width] with the numbers of "
    "heads given. Several queries' heads may share one of keys. A mask of bool tells what is "
    "seen, one of floats is added to the scores. A query that sees nothing gets zeros if "
    "`guarded`, else NaN.",
    infer=_attention_infer,
    evaluate=_attention_evaluate,
    attrs={
        "scale": Attr("float", required=True),
        "softcap": Attr("float", 0.0),
        "is_causal": Attr("int", 0),
        "guarded": Attr("int", 1),
        "q_num_heads": Attr("int", 0),
        "kv_num_heads": Attr("int", 0),
        "rounds": ROUNDED,
    },
    traits=[Trait.PRODUCT],
)
