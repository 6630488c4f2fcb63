"""Text in a graph replaced by numbers: kernels move and compare places in a list of words.

Operations that copy elements, or ask whether they are equal, have a meaning on places, and what
is a function of single words is looked up in tables; any other one on text is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.build import Builder
from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.graph import Graph, Op, Value
from leptonc.ir.types import DType
from leptonc.manifest import TextTable
from leptonc.text_tables import FUNCTIONS, Tables

COPYING = frozenset({
    "compress", "concat", "const", "equal", "expand", "flatten", "gather", "gather_elements",
    "gather_nd", "identity", "if", "lookup", "loop", "reshape", "return", "reverse_sequence",
    "scan", "scatter_elements", "scatter_nd", "shape", "size", "slice", "split", "squeeze", "tile",
    "transpose", "unsqueeze", "where",
})  # fmt: skip
"""Operations that do to places what they do to the words."""

NO_TEXT = "text can be looked up, compared and moved, not computed with"


@dataclass(frozen=True)
class Vocabulary:
    """The words of a graph by place, and which inputs and outputs are text."""

    words: tuple[str, ...] = ()
    inputs: frozenset[int] = frozenset()
    outputs: frozenset[int] = frozenset()
    tables: tuple[TextTable, ...] = ()


def _values(graph: Graph) -> Iterator[Value]:
    yield from graph.inputs
    for op in graph.walk():
        yield from op.results
        for region in op.regions:
            yield from region.inputs


def _is_text(value: Value) -> bool:
    return value.type.dtype is DType.STR


def has_text(op: Op) -> bool:
    """True for an operation that reads or makes text."""
    return any(map(_is_text, (*op.operands, *op.results)))


def not_on_text(graph: Graph) -> list[Op]:
    """The operations that compute with text, or have text of unknown content to look in."""
    return [
        op
        for op in graph.walk()
        if has_text(op)
        and op.name not in FUNCTIONS
        and (op.name not in COPYING or (op.name == "lookup" and op.operands[1].blob is None))
    ]


def encode_text(graph: Graph) -> Vocabulary:
    """Change all text of a graph to places; raises E802 where something computes with text."""
    text = [value for value in _values(graph) if _is_text(value)]
    if not text:
        return Vocabulary()
    wrong = not_on_text(graph)
    if wrong:
        listed = [f"{op.name} at {', '.join(map(shown, op.location.nodes))}" for op in wrong[:20]]
        raise LeptonError(NO_TEXT, notes=listed, code="E802")
    found = Vocabulary(
        inputs=frozenset(at for at, value in enumerate(graph.inputs) if _is_text(value)),
        outputs=frozenset(at for at, value in enumerate(graph.outputs) if _is_text(value)),
    )
    places: dict[str, int] = {}
    computing = [op for op in graph.walk() if op.name in FUNCTIONS]
    if any(op.name == "string_split" for op in computing):
        places[""] = 0  # what stands behind the parts of shorter rows
    lookups = [op for op in graph.walk() if op.name == "lookup" and _is_text(op.operands[0])]
    for op in [op for op in graph.walk() if op.name == "const" and _is_text(op.result)]:
        _encode_constant(op, places)
    for value in text:
        value.type = value.type.with_dtype(DType.I64)
    for op in lookups:
        _ascend(op)
    tables = Tables(graph).replace(computing)
    return Vocabulary(tuple(places), found.inputs, found.outputs, tables)


def _encode_constant(op: Op, places: dict[str, int]) -> None:
    blob, region = op.result.blob, op.region
    assert blob is not None
    assert region is not None
    words = [str(word) for word in blob.array.reshape(-1).tolist()]
    numbers = np.array([places.setdefault(word, len(places)) for word in words], np.int64)
    new = Builder(region, before=op, location=op.location).const(numbers.reshape(blob.array.shape))
    new.name = op.result.name
    op.result.replace_uses_with(new)
    region.erase(op)


def _ascend(op: Op) -> None:
    """Let a lookup have keys that ascend, and say where they stood before."""
    keys, region = op.operands[1].blob, op.region
    assert keys is not None
    assert region is not None
    order: Array = np.argsort(keys.array, kind="stable")
    if np.array_equal(order, np.arange(len(order))):
        return
    build = Builder(region, before=op, location=op.location)
    new = build.op("lookup", [op.operands[0], build.const(keys.array[order])], op.attrs).result
    before = np.append(order, len(order))
    op.result.replace_uses_with(build.gather(build.const(before), new))
    region.erase(op)
