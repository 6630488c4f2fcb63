"""Text that goes in and comes out: a program knows words by their places in a list.

A word that the model does not know gets the next free place for the length of one call, so that
it is equal to itself and to no other, and comes out as it went in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.types import DType
from leptonc.manifest import Manifest, TensorSpec

Array = np.ndarray[Any, np.dtype[Any]]


class Text:
    """The words of a model, and which of its inputs and outputs are text."""

    def __init__(self, manifest: Manifest) -> None:
        self.words = manifest.words
        self.inputs = [spec for spec in manifest.inputs if spec.dtype == DType.STR.value]
        self.outputs = [spec.name for spec in manifest.outputs if spec.dtype == DType.STR.value]
        self._places = {word: place for place, word in enumerate(self.words)}

    def __bool__(self) -> bool:
        return bool(self.inputs or self.outputs)

    def encoded(self, given: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[str]]:
        """The inputs with places instead of words, and the words that only this call has."""
        fresh: dict[str, int] = {}
        if not self.inputs or not isinstance(given, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            return given, []
        places = dict(given)
        for spec in self.inputs:
            if spec.name in places:
                places[spec.name] = self._encoded(spec, places[spec.name], fresh)
        return places, list(fresh)

    def _encoded(self, spec: TensorSpec, value: Any, fresh: dict[str, int]) -> Array:
        array = np.asarray(value)
        if array.dtype.kind not in "UOST" and array.size:
            raise _refusal(spec, f"an array of {array.dtype} elements")
        result = np.empty(array.size, np.int64)
        for at, item in enumerate(array.reshape(-1).tolist()):
            word = item.decode() if isinstance(item, bytes) else item
            if not isinstance(word, str):
                raise _refusal(spec, f"{type(item).__name__} as one of its elements")
            place = self._places.get(word)
            if place is None:
                place = fresh.setdefault(word, len(self.words) + len(fresh))
            result[at] = place
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


def _refusal(spec: TensorSpec, got: str) -> LeptonError:
    return LeptonError(f"{shown(spec.name)}: expected {spec}, got {got}", code="E701")
