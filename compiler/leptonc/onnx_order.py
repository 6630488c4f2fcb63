"""The order of a graph's nodes, whatever order they are written in, and what is wrong with it."""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import onnx

from leptonc.ir.diagnostics import LeptonError, shown


def node_label(node: onnx.NodeProto, index: int) -> str:
    """The node's name; nodes without one are told apart by type and place."""
    return node.name or f"{node.op_type}_{index}"


def check_names(nodes: Sequence[onnx.NodeProto]) -> None:
    """Raise E014 for a name that is not UTF-8 text."""
    for index, node in enumerate(nodes):
        names: list[Any] = [node.name, node.op_type, node.domain, *node.input, *node.output]
        for name in names:
            if not isinstance(name, str):  # protobuf hands out the bytes it cannot decode
                raise LeptonError(
                    f"node {index} has a name that is not UTF-8 text: {shown(name)}",
                    code="E014",
                )


def free_names(graph: onnx.GraphProto) -> set[str]:
    """The names that a subgraph reads and does not define: those of the graphs around it."""
    inner = {item.name for item in graph.input} | {item.name for item in graph.initializer}
    inner |= {item.values.name for item in graph.sparse_initializer}
    read = {item.name for item in graph.output}
    for node in graph.node:
        inner.update(node.output)
        read |= node_reads(node)
    return read - inner - {""}


def node_reads(node: onnx.NodeProto) -> set[str]:
    """The names a node reads, those that its subgraphs take from around them included."""
    read = set(node.input)
    for attribute in node.attribute:
        if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.UNDEFINED):
            if attribute.HasField("g"):
                read |= free_names(attribute.g)
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            for graph in attribute.graphs:
                read |= free_names(graph)
    read.discard("")
    return read


def ordered(nodes: Sequence[onnx.NodeProto], given: Collection[str]) -> list[int]:
    """Indices of `nodes` so that definitions come before uses; the written order where it is one.

    `given` are the names that inputs and initialisers define. Raises E014 for a name defined
    twice, and for a cycle, which is printed.
    """
    check_names(nodes)
    maker: dict[str, int] = {}
    reads: list[set[str]] = []
    sound = True
    for index, node in enumerate(nodes):
        needed = node_reads(node)
        reads.append(needed)
        for name in node.output:
            if name:
                _define_once(name, index, nodes, maker, given)
    seen: set[str] = set()
    for index, node in enumerate(nodes):
        if any(name in maker and name not in seen for name in reads[index]):
            sound = False
            break
        seen.update(node.output)
    return list(range(len(nodes))) if sound else _sorted(nodes, reads, maker)


def _define_once(
    name: str,
    index: int,
    nodes: Sequence[onnx.NodeProto],
    maker: dict[str, int],
    given: Collection[str],
) -> None:
    if name in given or name in maker:
        label = shown(node_label(nodes[index], index))
        first = "the graph's inputs and initialisers"
        if name in maker:
            first = f"node {shown(node_label(nodes[maker[name]], maker[name]))}"
        raise LeptonError(
            f"{shown(name)} is defined twice, by {first} and by node {label}", code="E014"
        )
    maker[name] = index


def _sorted(
    nodes: Sequence[onnx.NodeProto], reads: Sequence[set[str]], maker: dict[str, int]
) -> list[int]:
    waits = [{maker[name] for name in needed if name in maker} for needed in reads]
    readers: list[list[int]] = [[] for _ in nodes]
    for index, needed in enumerate(waits):
        for other in needed:
            readers[other].append(index)
    missing = [len(needed) for needed in waits]
    ready = [index for index, count in enumerate(missing) if not count]
    heapq.heapify(ready)
    order: list[int] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for reader in readers[index]:
            missing[reader] -= 1
            if not missing[reader]:
                heapq.heappush(ready, reader)
    if len(order) < len(nodes):
        raise _cycle_error(nodes, waits, {i for i, count in enumerate(missing) if count})
    return order


def _cycle_error(
    nodes: Sequence[onnx.NodeProto], waits: Sequence[set[int]], stuck: set[int]
) -> LeptonError:
    at, path, place = min(stuck), list[int](), dict[int, int]()
    while at not in place:
        place[at] = len(path)
        path.append(at)
        at = min(waits[at] & stuck)
    cycle = [*path[place[at] :], at][::-1]
    labels = [shown(node_label(nodes[index], index)) for index in cycle]
    if len(labels) > 12:
        labels = [*labels[:6], f"({len(labels) - 11} more)", *labels[-5:]]
    return LeptonError(f"the nodes are in a cycle: {' -> '.join(labels)}", code="E014")


def nearest(name: str, names: Iterable[str]) -> str:
    """The one of `names` a misspelt `name` may have meant; empty where none is near."""
    near = [other for other in names if other and abs(len(other) - len(name)) <= 3][:2000]
    found = difflib.get_close_matches(name[:200], near, n=1)
    return found[0] if found else ""
