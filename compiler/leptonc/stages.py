"""Graphs written to a folder on the way through the passes, and read to go on from there.

A stage is a text, its weights as raw bytes beside it (each once for all stages), and a `.json` file
of what text does not say: the passes that are left, the words of text and what the model says of
itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from leptonc.ir.blob import Array, Blob, write_pieces
from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.graph import Graph
from leptonc.ir.table import OpDef
from leptonc.ir.text import parse_graph, print_graph
from leptonc.ir.types import DTYPE_OF_NAME, DType, TensorType
from leptonc.ir.verify import verify
from leptonc.manifest import TextTable
from leptonc.passes.base import Pass
from leptonc.passes.context import PassContext
from leptonc.passes.observers import Observer
from leptonc.text_codes import Vocabulary

WEIGHTS = "weights"


@dataclass(frozen=True)
class Stage:
    """A graph, and what is still to be done with it."""

    graph: Graph
    remaining: str | None = None
    """The passes that are left; None for all of them."""
    text: Vocabulary | None = None
    """What places stand for, where words are places already."""
    is_prepared: bool = False


@dataclass
class Stages:
    """Writes stages into a folder, or nothing where there is none."""

    folder: Path | None
    _count: int = field(default=0, init=False)

    def write(self, name: str, stage: Stage) -> None:
        """Write one of the stages that every run has."""
        if self.folder is not None:
            self._count += 1
            _write(self.folder, f"{self._count}-{name}", stage)

    def after_each(self, stage: Stage, passes: Sequence[Pass]) -> Observer:
        """What writes the graph of `stage` after each of the passes that changes it."""
        return _AfterEach(self.folder, stage, passes) if self.folder is not None else Observer()


@dataclass
class _AfterEach(Observer):
    folder: Path
    stage: Stage
    passes: Sequence[Pass]
    _done: int = field(default=0, init=False)

    def started(self, context: PassContext) -> None:
        """Begin with the first pass."""
        self._done = 0

    def after(self, step: Pass, graph: Graph, *, changed: bool) -> None:
        """Write the graph."""
        self._done += 1
        if changed:
            left = ",".join(map(str, self.passes[self._done :]))
            name = f"passes/{self._done:02}-{step.name}"
            _write(self.folder, name, replace(self.stage, remaining=left))


def _write(folder: Path, name: str, stage: Stage) -> None:
    file = folder / f"{name}.lir"
    weights = folder / WEIGHTS
    about = {
        "name": stage.graph.name,
        "metadata": stage.graph.metadata,
        "remaining": stage.remaining,
        "prepared": stage.is_prepared,
        "text": None if stage.text is None else _spelled_text(stage.text),
        "weights": "../" * name.count("/") + WEIGHTS,
    }
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        weights.mkdir(exist_ok=True)
        for blob in _large_blobs(stage.graph):
            _write_blob(weights / _file_name(blob), blob)
        file.write_text(print_graph(stage.graph, locations=True), encoding="utf-8")
        file.with_suffix(".json").write_text(json.dumps(about, indent=1), encoding="utf-8")
    except OSError as problem:
        raise LeptonError(
            f"{shown(str(file))} cannot be written: {problem.strerror}", code="E806"
        ) from None


def _large_blobs(graph: Graph) -> Iterator[Blob]:
    for op in graph.walk():
        for value in op.attrs.values():
            if isinstance(value, Blob) and not value.is_spelled and not value.is_absent:
                yield value


def _file_name(blob: Blob) -> str:
    extents = "x".join(map(str, blob.type.extents))
    return f"{blob.digest}.{blob.type.dtype}.{extents}.bin"


def _write_blob(file: Path, blob: Blob) -> None:
    """Write the elements as numpy holds them; text as JSON."""
    if file.exists():
        return
    partial = file.with_suffix(".partial")
    with partial.open("wb") as out:
        if blob.type.dtype is DType.STR:
            out.write(json.dumps([str(item) for item in blob.array.reshape(-1)]).encode())
        else:
            write_pieces(out, np.ascontiguousarray(blob.array).reshape(-1).view(np.uint8))
    partial.replace(file)


def read_stage(path: Path, rows: Mapping[str, OpDef]) -> Stage:
    """The stage in a `.lir` file: whole, or with nothing done yet where there is text alone."""
    beside = path.with_suffix(".json")
    about: dict[str, Any] = {}
    try:
        source = path.read_text(encoding="utf-8")
        if beside.exists():
            about = json.loads(beside.read_text(encoding="utf-8"))
        weights = _read_weights(path.parent / str(about.get("weights", WEIGHTS)))
        text = about.get("text")
        vocabulary = None if text is None else _read_text(text)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise LeptonError(f"{shown(str(path))} cannot be read: {problem}", code="E806") from None
    graph = parse_graph(source, str(path), blobs=weights, rows=rows)
    verify(graph)
    graph.name = about.get("name", graph.name)
    graph.metadata.update(about.get("metadata", {}))
    return Stage(graph, about.get("remaining"), vocabulary, bool(about.get("prepared")))


def _read_weights(folder: Path) -> dict[str, Blob]:
    """The constants of a folder by digest, mapped when they are first asked for."""
    found: dict[str, Blob] = {}
    for file in sorted(folder.glob("*.bin")):
        digest, dtype, extents, _ = file.name.split(".")
        shape = tuple(int(extent) for extent in extents.split("x") if extent)
        type = TensorType(DTYPE_OF_NAME[dtype], shape)
        found[digest] = Blob(type, _loader(file, type), digest=digest)
    return found


def _loader(file: Path, type: TensorType) -> Any:
    def load() -> Array:
        if type.dtype is DType.STR:
            return np.array(json.loads(file.read_bytes()), object).reshape(type.extents)
        if 0 in type.extents:
            return np.empty(type.extents, type.dtype.numpy)
        return np.memmap(file, np.uint8, "r").view(type.dtype.numpy).reshape(type.extents)

    return load


def _spelled_text(text: Vocabulary) -> dict[str, Any]:
    return {
        "words": text.words,
        "inputs": sorted(text.inputs),
        "outputs": sorted(text.outputs),
        "tables": [asdict(table) for table in text.tables],
    }


def _read_text(text: Mapping[str, Any]) -> Vocabulary:
    return Vocabulary(
        tuple(text["words"]),
        frozenset(text["inputs"]),
        frozenset(text["outputs"]),
        tuple(TextTable(**table) for table in text["tables"]),
    )
