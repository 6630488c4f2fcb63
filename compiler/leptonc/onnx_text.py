"""StringNormalizer: words are left out, and letters become large or small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.graph import Value
from leptonc.ir.ops.extents import differ
from leptonc.ir.ops.text import CASES
from leptonc.ir.types import DType
from leptonc.onnx_contrib_parts import Rule
from leptonc.onnx_scope import Call

OTHER_LETTERS = ("az", "lt", "tr")
"""Languages in which letters have other capitals than in all the others."""


def _normalizer(call: Call) -> Sequence[Value]:
    build, x = call.build, call.required(0)
    action = call.take("case_change_action", "str", "NONE")
    sensitive = call.take("is_case_sensitive", "int", 0)
    stopwords = call.take("stopwords", "strs", ())
    locale = call.take("locale", "str", "en_US")
    if str(locale)[:2] in OTHER_LETTERS:
        raise LeptonError(
            f"StringNormalizer: capitals of the locale {shown(str(locale))} are not known",
            call.location,
            notes=["change the case before the model runs, or use the locale en_US"],
            code="E015",
        )
    rank = x.type.rank
    if rank not in (1, 2) or (rank == 2 and differ(x.type.shape[0], 1)):
        raise LeptonError(
            f"StringNormalizer of {x.type}, should be [C] or [1,C]", call.location, code="E103"
        )
    changed = build.string_case(x, action=action) if action in CASES else x
    if not stopwords:
        return [changed]
    keys = x if sensitive else build.string_case(x, action="LOWER")
    words = [str(word) if sensitive else str(word).lower() for word in stopwords]  # pyright: ignore
    return [_without(call, changed, keys, words)]


def _without(call: Call, text: Value, keys: Value, words: Sequence[str]) -> Value:
    """The elements of `text` whose key is none of `words`; one empty string if none is left."""
    build, axis = call.build, text.type.rank - 1
    table = np.empty(len(words), object)
    table[:] = words
    row = build.reshape(keys, build.const(np.array([-1, 1])))
    hits = build.cast(build.equal(row, build.const(table)), to=DType.I64)
    found = build.reduce_max(hits, axes=build.const(np.array([1])), keepdims=0)
    keep = build.equal(found, build.const(np.array(0)))
    kept = build.compress(text, keep, axis=axis)
    nothing = np.full((1,) * text.type.rank, "", object)
    count = build.shape(kept, start=axis, end=axis + 1)
    end = build.max(count, build.const(np.array([1])))
    padded = build.concat(kept, build.const(nothing), axis=axis)
    return build.slice(padded, build.const(np.array([0])), end, axes=build.const(np.array([axis])))


TEXT: Mapping[tuple[str, str], Rule] = MappingProxyType({("", "StringNormalizer"): _normalizer})
