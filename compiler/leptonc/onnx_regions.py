"""Subgraphs as regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import onnx

from leptonc.ir.build import Builder
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.graph import Region, Value
from leptonc.ir.types import TensorType
from leptonc.onnx_attributes import Decoded
from leptonc.onnx_scope import Failed, Importer, Meaning, Scope

Attributes: TypeAlias = Mapping[str, tuple[str, Decoded]]


def subgraph(attributes: Attributes, name: str) -> onnx.GraphProto:
    """The attribute `name`, which has to be a graph."""
    kind, graph = attributes.get(name, ("missing", None))
    if kind != "graph" or graph is None:
        raise LeptonError(f"attribute {name!r} is {kind}, should be a graph", code="E015")
    return graph


def values_of(meanings: Sequence[Meaning]) -> list[Value] | None:
    """The tensors that subgraph outputs stand for, None where one is not known."""
    values: list[Value] = []
    for meaning in meanings:
        if isinstance(meaning, Failed):
            return None
        if not isinstance(meaning, Value):
            raise LeptonError("a subgraph gives back a sequence", code="E013")
        values.append(meaning)
    return values


def region_of(
    importer: Importer, scope: Scope, graph: onnx.GraphProto, inputs: Sequence[TensorType] = ()
) -> Region | None:
    """The region of a subgraph whose inputs have these types; None where it failed to import."""
    if len(graph.input) != len(inputs):
        raise LeptonError(
            f"the subgraph has {len(graph.input)} inputs, should have {len(inputs)}", code="E014"
        )
    names = [item.name for item in graph.input]
    region = Region([Value(type, name) for type, name in zip(inputs, names, strict=True)])
    build = Builder(region, location=scope.build.location, graph=importer.graph)
    inner = scope.inner(build)
    inner.names.update(zip(names, region.inputs, strict=True))
    outputs = values_of(importer.body(inner, graph))
    if outputs is None:
        discard(region)
        return None
    build.return_(*outputs)
    return region


def discard(region: Region) -> None:
    """Take back what a region reads of the values around it."""
    for op in reversed(region):
        region.erase(op)
