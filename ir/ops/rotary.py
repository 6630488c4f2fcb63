"""Rotary embedding: pairs of each head's columns turned by angles of their place."""

from __future__ import annotations

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.ops.broadcasting import FLOATS, check_dtype, check_same_dtype, shown_shape
from leptonc.ir.ops.extents import broadcasts_to, differ, natural
from leptonc.ir.table import Attr, Evaluation, Inference, define
from leptonc.ir.types import TensorType


def _rotary_infer(call: Inference) -> TensorType:
    check_dtype(call, "x", FLOATS)
    check_same_dtype(call, "x", "cos", "sin")
    x, cos, sin = call.types[:3]
    heads = call.int("num_heads")
    shown = " and ".join(shown_shape(type.shape) for type in (x, cos, sin))
    if x.rank not in (3, 4) or cos.rank != 3 or sin.rank != 3:
        raise LeptonError(
            f"rotary_embedding of {shown}: should have 4 dimensions, or 3 with heads in one row, "
            "and angles 3",
            code="E103",
        )
    if x.rank == 3 and heads < 1:
        raise LeptonError(
            f"rotary_embedding.num_heads is {heads}, should be at least 1", code="E108"
        )
    width = x.shape[-1]
    if x.rank == 3 and isinstance(width, int):
        if width % heads:
            raise LeptonError(
                f"rotary_embedding of {shown}: {width} columns are no {heads} heads", code="E103"
            )
        width //= heads
    length = x.shape[1 if x.rank == 3 else 2]
    pairs = cos.shape[2]
    wide = isinstance(width, int) and isinstance(pairs, int) and 2 * pairs > width
    fits = all(
        broadcasts_to(type.shape[:2], (x.shape[0], length)) and not differ(type.shape[2], pairs)
        for type in (cos, sin)
    )
    if wide or not fits:
        raise LeptonError(f"rotary_embedding of {shown}: the extents do not fit", code="E103")
    return x


def _rotary_evaluate(call: Evaluation) -> Array:
    dtype = natural(call[0].dtype)
    x, cos, sin = (item.astype(dtype) for item in call.items[:3])
    if x.ndim == 3:
        x = x.reshape(*x.shape[:2], call.int("num_heads"), x.shape[2] // call.int("num_heads"))
        cos, sin = cos[:, :, None], sin[:, :, None]
    else:
        cos, sin = cos[:, None], sin[:, None]
    pairs = call[1].shape[-1]
    if call.int("interleaved"):
        low, high = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
    else:
        low, high = slice(pairs), slice(pairs, 2 * pairs)
    first, second = x[..., low], x[..., high]
    y = x.copy()
    with np.errstate(invalid="ignore", over="ignore"):
        y[..., low] = first * cos - second * sin
        y[..., high] = second * cos + first * sin
    return y.reshape(call[0].shape).astype(call[0].dtype)


ROTARY_EMBEDDING = define(
    "rotary_embedding(x, cos, sin)",
    "Pairs of each head's first columns turned by the angles of their place. The operand is "
    "heads, [batch, heads, length, width], or [batch, length, heads times width] with the number "
    "of heads given; cosines and sines are [batch, length, pairs]. Pairs are halves of the "
    "columns, or neighbours if `interleaved`.",
    infer=_rotary_infer,
    evaluate=_rotary_evaluate,
    attrs={"interleaved": Attr("int", 0), "num_heads": Attr("int", 0)},
)
