"""Operators of ONNX that leptonc does not have on purpose: why, and what to do instead."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

REFUSED: Mapping[tuple[str, str], tuple[str, str]] = MappingProxyType({
    ("", "ImageDecoder"): (
        "it reads files of images, which no kernel does",
        "decode the image before the model runs, and give it the pixels",
    ),
    ("", "RegexFullMatch"): (
        "patterns are not matched: one from a model that nobody vouches for could take for ever",
        "match the strings before the model runs, and give it the answers",
    ),
    ("", "StringConcat"): (
        "compiled programs know strings by their places in a list, and make no new ones of two",
        "join the strings before the model runs",
    ),
    ("ai.onnx.ml", "CastMap"): (
        "compiled programs have no maps", "give the model a tensor in place of the map"
    ),
    ("ai.onnx.ml", "DictVectorizer"): (
        "compiled programs have no maps", "give the model a tensor in place of the map"
    ),
})  # fmt: skip
"""By domain and name."""
