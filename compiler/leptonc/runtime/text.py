"""Text that goes in and comes out: a program knows words by their places in a list.

A word that the model does not know gets the next free place for the length of one call, so that
it is equal to itself and to no other, and comes out as it went in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.types import DType
from leptonc.manifest import Manifest, TensorSpec, TextTable

Array = np.ndarray[Any, np.dtype[Any]]


class Text:
    """The words of a model, and which of its inputs and outputs are text."""

    def __init__(self, manifest: Manifest) -> None:
        self.words = manifest.words
        self.inputs = [spec for spec in manifest.inputs if spec.dtype == DType.STR.value]
        self.outputs = [spec.name for spec in manifest.outputs if spec.dtype == DType.STR.value]
        self._places = {word: place for place, word in enumerate(self.words)}
        self._tables = [(table, _function(table)) for table in manifest.tables]

    def __bool__(self) -> bool:
        return bool(self.inputs or self.outputs or self._tables)

    def encoded(self, given: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[str]]:
        """The inputs with places instead of words, and the words that only this call has."""
        fresh: dict[str, int] = {}
        if not (self.inputs or self._tables) or not isinstance(given, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            return given, []
        places = dict(given)
        for spec in self.inputs:
            if spec.name in places:
                places[spec.name] = self._encoded(spec, places[spec.name], fresh)
        return {**places, **self._filled(fresh)}, list(fresh)

    def _filled(self, fresh: dict[str, int]) -> dict[str, Array]:
        """The tables for all words, those among them that only tables have."""
        rows: list[list[list[int]]] = [[] for _ in self._tables]
        words = [*self.words, *fresh]
        while any(len(found) < len(words) for found in rows):
            for (_, function), found in zip(self._tables, rows, strict=True):
                for word in words[len(found) :]:
                    found.append([self._place(part, fresh) for part in function(word)])
            words = [*self.words, *fresh]
        tables: dict[str, Array] = {}
        for (table, _), found in zip(self._tables, rows, strict=True):
            counts = np.array([len(row) for row in found], np.int64)
            if table.counts:
                tables[table.counts] = counts
                parts = np.full((len(found), int(counts.max(initial=0))), self._places[""])
                for target, row in zip(parts, found, strict=True):
                    target[: len(row)] = row
                tables[table.input] = parts
            else:
                tables[table.input] = np.array([row[0] for row in found], np.int64)
        return tables

    def _place(self, word: str, fresh: dict[str, int]) -> int:
        place = self._places.get(word)
        return fresh.setdefault(word, len(self.words) + len(fresh)) if place is None else place

    def _encoded(self, spec: TensorSpec, value: Any, fresh: dict[str, int]) -> Array:
        array = np.asarray(value)
        if array.dtype.kind not in "UOST" and array.size:
            raise _refusal(spec, f"an array of {array.dtype} elements")
        result = np.empty(array.size, np.int64)
        for at, item in enumerate(array.reshape(-1).tolist()):
            word = item.decode() if isinstance(item, bytes) else item
            if not isinstance(word, str):
                raise _refusal(spec, f"{type(item).__name__} as one of its elements")
            result[at] = self._place(word, fresh)
        return result.reshape(array.shape)

    def decoded(self, results: dict[str, Array], fresh: Sequence[str]) -> dict[str, Array]:
        """The outputs with words instead of places."""
        for name in self.outputs:
            places = cast("list[int]", results[name].reshape(-1).tolist())
            words = np.empty(len(places), object)
            words[:] = [self._word(place, fresh) for place in places]
            results[name] = words.reshape(results[name].shape)
        return results

    def _word(self, place: int, fresh: Sequence[str]) -> str:
        known = len(self.words)
        return self.words[place] if place < known else fresh[place - known]


def _function(table: TextTable) -> Callable[[str], Sequence[str]]:
    """What a table has for a word: one word, or the parts of it."""
    if table.function == "split":
        return lambda word: word.split(table.delimiter or None, table.maxsplit)
    change = str.upper if table.function == "upper" else str.lower
    return lambda word: (change(word),)


def _refusal(spec: TensorSpec, got: str) -> LeptonError:
    return LeptonError(f"{shown(spec.name)}: expected {spec}, got {got}", code="E701")
