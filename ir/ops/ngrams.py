"""The row that counts sequences of integers in sequences of integers."""

from __future__ import annotations

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.ops.broadcasting import check_dtype
from leptonc.ir.ops.shape import differ
from leptonc.ir.table import Attr, Evaluation, Inference, define
from leptonc.ir.types import DType, TensorType


def _infer(call: Inference) -> TensorType:
    x, grams, places = call.types
    check_dtype(call, "x", {DType.I32, DType.I64})
    check_dtype(call, "grams", {DType.I64})
    check_dtype(call, "places", {DType.I64})
    fits = grams.rank == 2 and places.rank == 1 and not differ(grams.shape[0], places.shape[0])
    if x.rank not in (1, 2) or not fits or not isinstance(grams.shape[-1], int):
        raise LeptonError(
            f"count_ngrams of {x}, grams {grams}, places {places}: should be of [n] or [batch,n], "
            "[count,length] and [count]",
            code="E103",
        )
    width, skips = call.int("width"), call.int("skips")
    if width < 0 or skips < 0:
        raise LeptonError(f"count_ngrams: width {width} and skips {skips} should not be negative",
                          code="E108")  # fmt: skip
    return TensorType(DType.I64, (*x.shape[:-1], width))


def _evaluate(call: Evaluation) -> Array:
    x, grams, places = call.items
    rows = x.reshape(x.shape[0] if x.ndim == 2 else 1, x.shape[-1]).tolist()
    counts = np.zeros((len(rows), call.int("width")), np.int64)
    known = {
        tuple(gram): place for gram, place in zip(grams.tolist(), places.tolist(), strict=True)
    }
    length = grams.shape[1]
    for at, row in enumerate(rows):
        for step in range(1, (call.int("skips") if length > 1 else 0) + 2):
            for start in range(len(row) - (length - 1) * step):
                place = known.get(tuple(row[start : start + (length - 1) * step + 1 : step]))
                if place is not None:
                    counts[at, place] += 1
    return counts.reshape(*x.shape[:-1], call.int("width"))


COUNT_NGRAMS = define(
    "count_ngrams(x, grams, places)",
    "How often each of `grams` stands in a row, at most `skips` elements left out between two of "
    "its own; the rows of `grams` ascend, `places` says where in a result of `width` they count.",
    infer=_infer,
    evaluate=_evaluate,
    attrs={"skips": Attr("int", 0), "width": Attr("int", required=True)},
)
