"""Weighted counts of n-grams (TfIdfVectorizer), made of counts of each length."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.graph import Attribute, Value
from leptonc.ir.types import DType
from leptonc.onnx_scope import Call


def _vectorizer(call: Call) -> Sequence[Value]:
    build, x = call.build, call.required(0)
    if x.type.rank not in (1, 2):
        raise LeptonError(
            f"TfIdfVectorizer of {x.type}, should be of [n] or [batch,n]", code="E103"
        )
    shortest, longest, skips = (
        _required(call, name, "int")
        for name in ("min_gram_length", "max_gram_length", "max_skip_count")
    )
    mode: str = _required(call, "mode", "str")
    indexes: tuple[int, ...] = _required(call, "ngram_indexes", "ints")
    width = max(indexes, default=-1) + 1
    weights = _weights(call, mode, indexes, width)
    total = _zeros(call, x, width)
    for length, places in _grams(call, indexes).items():
        if shortest <= length <= longest and places:
            rows = sorted(places)
            operands = [
                x,
                build.const(np.array(rows, np.int64).reshape(len(rows), length)),
                build.const(np.array([places[row] for row in rows], np.int64)),
            ]
            attrs: dict[str, Attribute] = {"skips": skips, "width": width}
            total = build.add(total, build.op("count_ngrams", operands, attrs).result)
    if mode == "IDF":
        total = build.min(total, build.const(np.array(1, np.int64)))
    counts = build.cast(total, to=DType.F32)
    return [counts if weights is None else build.mul(counts, build.const(weights))]


def _required(call: Call, name: str, kind: str) -> Any:
    value = call.take(name, kind)
    if value is None:
        raise LeptonError(f"attribute {shown(name)} of {call.op_type} is missing", code="E015")
    return value


def _weights(call: Call, mode: str, indexes: Sequence[int], width: int) -> Array | None:
    """What the count in each column is multiplied by."""
    given = call.take("weights", "floats")
    if mode not in ("TF", "IDF", "TFIDF"):
        raise LeptonError(
            f"TfIdfVectorizer.mode is {shown(mode)}, should be TF, IDF or TFIDF", code="E108"
        )
    if mode == "TF" or not given:
        return None
    pairs = set(zip(indexes, given, strict=False))
    if len(given) != len(indexes) or len(pairs) != len(set(indexes)):
        raise LeptonError(
            f"TfIdfVectorizer has {len(given)} weights, should have {len(indexes)}, one a column",
            code="E108",
        )
    weights = np.zeros(width, np.float32)
    for column, weight in pairs:
        weights[column] = weight
    return weights


def _zeros(call: Call, x: Value, width: int) -> Value:
    build = call.build
    columns = build.const(np.array([width], np.int64))
    shape = columns if x.type.rank == 1 else build.concat(build.shape(x, end=1), columns, axis=0)
    return build.expand(build.const(np.array(0, np.int64)), shape)


def _grams(call: Call, indexes: Sequence[int]) -> dict[int, dict[tuple[int, ...], int]]:
    """For each length the n-grams of the pool, and the column in which each is counted."""
    pool: tuple[int, ...] | None = call.take("pool_int64s", "ints")
    starts: tuple[int, ...] = _required(call, "ngram_counts", "ints")
    if pool is None:
        raise LeptonError("TfIdfVectorizer of strings is not supported", code="E013")
    found: dict[int, dict[tuple[int, ...], int]] = {}
    columns = iter(indexes)
    for length, (start, end) in enumerate(pairwise([*starts, len(pool)]), 1):
        if not 0 <= start <= end <= len(pool) or (end - start) % length:
            raise LeptonError(
                f"TfIdfVectorizer: ngram_counts {list(starts)} do not part a pool of {len(pool)}",
                code="E108",
            )
        grams = [tuple(pool[at : at + length]) for at in range(start, end, length)]
        places = dict(zip(grams, columns, strict=False))
        if len(places) != len(grams) or min(places.values(), default=0) < 0:
            raise LeptonError(
                f"TfIdfVectorizer: the pool has {len(grams)} sequences of {length}, of which "
                f"{len(places)} are different and have a place",
                code="E108",
            )
        found[length] = places
    return found


NGRAMS: Mapping[tuple[str, str], Callable[[Call], Sequence[Value]]] = MappingProxyType(
    {("", "TfIdfVectorizer"): _vectorizer}
)
"""By domain and name."""
