"""What a model says about itself and its boundary, carried over to its optimised form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import onnx
from onnx import NodeProto, TypeProto, ValueInfoProto


def keep_descriptions(model: onnx.ModelProto, original: onnx.ModelProto) -> None:
    """Give `model` the docs, metadata, denotations and names of extents of `original`."""
    if original.graph.doc_string:
        model.graph.doc_string = original.graph.doc_string
    model.graph.metadata_props.extend(original.graph.metadata_props)
    sides: tuple[tuple[Sequence[ValueInfoProto], Sequence[ValueInfoProto]], ...] = (
        (model.graph.input, original.graph.input),
        (model.graph.output, original.graph.output),
    )
    for ours, theirs in sides:
        known = {item.name: item for item in theirs}
        for item in ours:
            if item.name in known:
                _keep_value(item, known[item.name])


def _keep_value(item: ValueInfoProto, original: ValueInfoProto) -> None:
    if original.doc_string:
        item.doc_string = original.doc_string
    item.metadata_props.extend(original.metadata_props)
    kind = original.type.WhichOneof("value")
    if kind == "map_type" or original.type.sequence_type.elem_type.HasField("map_type"):
        item.type.CopyFrom(original.type)  # ZipMap's maps, which are tensors inside
    if kind != "tensor_type":
        return
    if original.type.denotation:
        item.type.denotation = original.type.denotation
    _keep_extents(item.type.tensor_type, original.type.tensor_type)


def _keep_extents(ours: TypeProto.Tensor, theirs: TypeProto.Tensor) -> None:
    """Name open extents as they were named; what is known now and was not stays known."""
    if len(ours.shape.dim) != len(theirs.shape.dim):
        return
    for dim, old in zip(ours.shape.dim, theirs.shape.dim, strict=True):
        if old.denotation:
            dim.denotation = old.denotation
        if dim.HasField("dim_value"):
            continue
        if old.HasField("dim_value") and old.dim_value >= 0:
            dim.dim_value = old.dim_value
        elif old.dim_param:
            dim.dim_param = old.dim_param


def node_counts(model: onnx.ModelProto) -> dict[str, int]:
    """How many nodes of each operator there are, constants left out.

    Those of subgraphs count, and those of functions as often as they are called.
    """
    bodies = {(item.domain, item.name): item.node for item in model.functions}
    counts = _body_counts(("", ""), {**bodies, ("", ""): model.graph.node}, {})
    del counts["Constant"]
    return dict(sorted(counts.items()))


Bodies = Mapping[tuple[str, str], Iterable[NodeProto]]


def _body_counts(
    key: tuple[str, str], bodies: Bodies, known: dict[tuple[str, str], Counter[str]]
) -> Counter[str]:
    """The nodes of a function, those of functions that it calls in place of the calls."""
    if key not in known:
        counts = known[key] = Counter[str]()
        for node in _nodes(bodies[key]):
            callee = (node.domain, node.op_type)
            counts.update(
                _body_counts(callee, bodies, known) if callee in bodies else [_spelled(node)]
            )
    return known[key]


def _spelled(node: NodeProto) -> str:
    outside = node.domain not in ("", "ai.onnx")
    return f"{node.domain}.{node.op_type}" if outside else node.op_type


def _nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """Nodes and those of their subgraphs."""
    waiting = [nodes]
    while waiting:
        for node in waiting.pop():
            yield node
            for attribute in node.attribute:
                graphs = [attribute.g] if attribute.HasField("g") else attribute.graphs
                waiting.extend(graph.node for graph in graphs)


def recognized(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """The operators that several nodes became one of, and how many more of each there are."""
    return {
        name: count - before.get(name, 0)
        for name, count in after.items()
        if count > before.get(name, 0) and _is_composed(name)
    }


WHOLE = frozenset({
    "Attention", "BatchNormalization", "DepthToSpace", "Einsum", "GRU", "InstanceNormalization",
    "LSTM", "LpNormalization", "NonMaxSuppression", "RNN", "Resize", "RotaryEmbedding", "STFT",
    "SpaceToDepth",
})  # fmt: skip
"""Operators that stand for many, beside those that ONNX defines by others."""


def _is_composed(name: str) -> bool:
    if "." in name or name in WHOLE:
        return True
    try:
        schema: Any = onnx.defs.get_schema(name, onnx.defs.onnx_opset_version(), "")
    except onnx.defs.SchemaError:
        return False
    return bool(schema.has_function or schema.has_context_dependent_function)
