"""The sizes that a model is run in: as it is given, in batches, and texts of several lengths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.models import Case
from leptonc.manifest import TensorSpec
from tests.models import inputs
from tests.models.inputs import Feeds

WORDS = {"minilm_int8": 30522, "bert_base": 30522, "gpt2": 50257, "llama_tiny": 8192}
"""The models that take text, with how many words they know."""
ENCODERS = ("minilm_int8", "bert_base")
LENGTHS = (1, 16, 128, 512)
USUAL_LENGTH = 128
LARGE = 8


@dataclass(frozen=True)
class Setting:
    """One size: how much is run at once, how long texts are, and by how many threads."""

    threads: int
    batch: int | None = None
    """None where the model fixes it or has none."""
    length: int | None = None

    def is_of(self, run: Mapping[str, object]) -> bool:
        """True where a kept measurement is of this setting."""
        return all(run.get(name) == getattr(self, name) for name in ("threads", "batch", "length"))


def settings(
    case: Case, signature: Sequence[TensorSpec], threads: Sequence[int],
    batches: Sequence[int] = (1,), *, every: bool,
) -> Iterator[Setting]:  # fmt: skip
    """The settings of a model.

    A batch of 1 is the model as it is given; texts have all lengths then, on one thread. With
    `every` each size is run by each number of threads. What has no batch has none of more than 1.
    """
    text = base_name(case) in WORDS
    counts = batch_symbol(signature) is not None
    for count in threads:
        for size in batches:
            batch = size if counts else None
            if size > 1:
                if counts:
                    yield Setting(count, batch, USUAL_LENGTH if text else None)
            elif not text:
                yield Setting(count, batch)
            elif every or count == 1:
                yield from (Setting(count, batch, length) for length in LENGTHS)
            else:
                yield Setting(count, batch, USUAL_LENGTH)


def feeds_of(case: Case, setting: Setting, signature: Sequence[TensorSpec]) -> Feeds:
    """Inputs of this size; larger batches hold the same, each moved one element further.

    So no two are equal, and what belongs to another one is seen.
    """
    name = base_name(case)
    if setting.length is not None:
        batch = setting.batch or 1
        if name in ENCODERS:
            return inputs.sentences(batch, setting.length, WORDS[name])
        return {signature[0].name: inputs.tokens(batch, setting.length, WORDS[name])}
    feeds = case.feeds()
    symbol = batch_symbol(signature)
    if symbol is None or not setting.batch or setting.batch == 1:
        return feeds
    return {
        spec.name: _repeated(feeds[spec.name], spec, symbol, setting.batch)
        for spec in signature
        if spec.name in feeds
    }


def base_name(case: Case) -> str:
    """The name of the model that a quantised one was made of."""
    return case.name.partition("-")[0]


def batch_symbol(signature: Sequence[TensorSpec]) -> str | None:
    """The open extent that counts what is run at once: the first of the first input with any."""
    for spec in signature:
        if len(spec.shape) > 1:
            first = spec.shape[0]
            return first if isinstance(first, str) and "sequence" not in first else None
    return None


def _batch_axes(array: inputs.Array, spec: TensorSpec, symbol: str) -> list[int]:
    """The axes of an input that count what is run at once.

    A model that names no extents has a symbol for each: of one without the batch's those count that
    are given as 1.
    """
    named = [axis for axis, extent in enumerate(spec.shape) if extent == symbol]
    opened = [axis for axis, extent in enumerate(spec.shape) if isinstance(extent, str)]
    return named or [axis for axis in opened if array.shape[axis] == 1]


def _repeated(array: inputs.Array, spec: TensorSpec, symbol: str, times: int) -> inputs.Array:
    for axis in _batch_axes(array, spec, symbol):
        moved = [np.roll(array, step, array.ndim - 1) for step in range(times)]
        array = np.concatenate(moved, axis)
    return array
