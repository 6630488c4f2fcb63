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
    case: Case, signature: Sequence[TensorSpec], threads: Sequence[int], *, every: bool
) -> Iterator[Setting]:
    """The settings of a model.

    All models are run as they are given; texts have all lengths on one thread. With `every` there
    are also batches, and each size is run by each number of threads.
    """
    text = base_name(case) in WORDS
    batch = 1 if batch_symbol(signature) else None
    for count in threads:
        if not text:
            yield Setting(count, batch)
        elif every or count == 1:
            yield from (Setting(count, batch, length) for length in LENGTHS)
        else:
            yield Setting(count, batch, USUAL_LENGTH)
        if every and batch:
            yield Setting(count, LARGE, USUAL_LENGTH if text else None)


def feeds_of(case: Case, setting: Setting, signature: Sequence[TensorSpec]) -> Feeds:
    """Inputs of this size; larger batches hold the same several times."""
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


def _repeated(array: inputs.Array, spec: TensorSpec, symbol: str, times: int) -> inputs.Array:
    for axis, extent in enumerate(spec.shape):
        if extent == symbol:
            array = np.repeat(array, times, axis)
    return array
