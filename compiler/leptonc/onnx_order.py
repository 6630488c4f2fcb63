"""The order of a graph's nodes, whatever order they are written in, and what is wrong with it."""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx

from leptonc.ir.diagnostics import LeptonError, shown

GRADIENT = ("ai.onnx.preview.training", "Gradient")
"""The one operator that names tensors in attributes, and so waits for them."""


@dataclass
class Order:
    """How to go through the nodes of a graph."""

    indices: list[int] = field(default_factory=list[int])
    """The nodes that can be imported, so that definitions come before uses."""
    makers: Mapping[str, int] = field(default_factory=dict[str, int])
    """The node that defines each name: the first that does."""
    faults: list[tuple[int, LeptonError]] = field(default_factory=list[tuple[int, LeptonError]])
    """What is wrong, and with which node."""
    lost: set[str] = field(default_factory=set[str])
    """Names whose definitions cannot be computed: those of nodes in cycles or without names."""


def node_label(node: onnx.NodeProto, index: int) -> str:
    """The node's name; nodes without one are told apart by type and place."""
    name: Any = node.name
    op_type: Any = node.op_type
    if isinstance(name, bytes) or isinstance(op_type, bytes):  # protobuf could not decode them
        return f"node_{index}"
    return name or f"{op_type}_{index}"


def _undecoded(names: Iterable[Any]) -> list[Any]:
    """The names that are not UTF-8 text: protobuf hands those out as bytes."""
    return [name for name in names if not isinstance(name, str)]


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
    differentiates = (node.domain, node.op_type) == GRADIENT
    for attribute in node.attribute:
        if differentiates:
            named = (attribute.s, *attribute.strings)
            read.update(name.decode(errors="replace") for name in named)
        if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.UNDEFINED):
            if attribute.HasField("g"):
                read |= free_names(attribute.g)
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            for graph in attribute.graphs:
                read |= free_names(graph)
    read.discard("")
    return read


def ordered(nodes: Sequence[onnx.NodeProto], given: Collection[str]) -> Order:
    """The nodes in dependency order: the written one where it is one.

    `given` are the names that inputs and initialisers define. Names defined twice, cycles and
    names that are no text are faults of the order; all other nodes are in it.
    """
    order = Order()
    makers: dict[str, int] = {}
    reads: list[set[str]] = []
    unnamed: set[int] = set()
    defined = {name for node in nodes for name in _undecoded(node.output)}
    for index, node in enumerate(nodes):
        own = _undecoded([node.name, node.op_type, node.domain, *node.output])
        read = _undecoded(node.input)
        if own or read:
            unnamed.add(index)
            reads.append(set())
            order.lost.update(name for name in node.output if name not in own)
            strange = [*own, *(name for name in read if name not in defined)]
            if strange:
                message = f"node {index} has a name that is not UTF-8 text: {shown(strange[0])}"
                order.faults.append((index, LeptonError(message, code="E014")))
            continue
        reads.append(node_reads(node))
        for name in filter(None, node.output):
            twice = _define_once(name, index, nodes, makers, given)
            if twice is not None:
                order.faults.append((index, twice))
    order.makers = makers
    wanted = [index for index in range(len(nodes)) if index not in unnamed]
    if _is_sorted(wanted, nodes, reads, makers):
        order.indices = wanted
    else:
        _sort(order, nodes, reads, unnamed)
    return order


def _is_sorted(
    indices: Sequence[int],
    nodes: Sequence[onnx.NodeProto],
    reads: Sequence[set[str]],
    makers: Mapping[str, int],
) -> bool:
    seen: set[str] = set()
    for index in indices:
        if any(name in makers and name not in seen for name in reads[index]):
            return False
        seen.update(nodes[index].output)
    return True


def _define_once(
    name: str,
    index: int,
    nodes: Sequence[onnx.NodeProto],
    makers: dict[str, int],
    given: Collection[str],
) -> LeptonError | None:
    """Note who defines `name`; an error where somebody does already."""
    if name not in given and name not in makers:
        makers[name] = index
        return None
    label = shown(node_label(nodes[index], index))
    first = "the graph's inputs and initialisers"
    if name in makers:
        first = f"node {shown(node_label(nodes[makers[name]], makers[name]))}"
    return LeptonError(
        f"{shown(name)} is defined twice, by {first} and by node {label}", code="E014"
    )


def _sort(
    order: Order, nodes: Sequence[onnx.NodeProto], reads: Sequence[set[str]], left_out: set[int]
) -> None:
    """Fill in the order; a cycle is a fault, and its nodes come as if they waited for nothing."""
    makers = order.makers
    waits = [{makers[name] for name in needed if name in makers} for needed in reads]
    readers: list[list[int]] = [[] for _ in nodes]
    for index, needed in enumerate(waits):
        for other in needed:
            readers[other].append(index)
    missing = {index: len(waits[index]) for index in range(len(nodes)) if index not in left_out}
    ready = [index for index, count in missing.items() if not count]
    heapq.heapify(ready)
    while missing:
        while ready:
            index = heapq.heappop(ready)
            del missing[index]
            order.indices.append(index)
            for reader in readers[index]:
                if reader in missing:
                    missing[reader] -= 1
                    if not missing[reader]:
                        heapq.heappush(ready, reader)
        if missing:
            cycle = _cycle(waits, set(missing))
            order.faults.append((min(cycle), _cycle_error(nodes, cycle)))
            for index in cycle:
                missing[index] = 0
                order.lost.update(filter(None, nodes[index].output))
            ready = sorted(cycle)


def _cycle(waits: Sequence[set[int]], stuck: set[int]) -> list[int]:
    """Nodes that wait for each other, in the order in which they feed each other."""
    at, path, place = min(stuck), list[int](), dict[int, int]()
    while at not in place:
        place[at] = len(path)
        path.append(at)
        at = min(waits[at] & stuck)
    return path[place[at] :][::-1]


def _cycle_error(nodes: Sequence[onnx.NodeProto], cycle: Sequence[int]) -> LeptonError:
    labels = [shown(node_label(nodes[index], index)) for index in [cycle[-1], *cycle]]
    if len(labels) > 12:
        labels = [*labels[:6], f"({len(labels) - 11} more)", *labels[-5:]]
    return LeptonError(f"the nodes are in a cycle: {' -> '.join(labels)}", code="E014")


def nearest(name: str, names: Iterable[str]) -> str:
    """The one of `names` a misspelt `name` may have meant; empty where none is near."""
    near = [other for other in names if other and abs(len(other) - len(name)) <= 3][:2000]
    found = difflib.get_close_matches(name[:200], near, n=1)
    return found[0] if found else ""
