"""What one kernel is made of: an operation or group, its real operands, results and extents.

Nothing here needs tvm, so that kernels can be named and looked up in the cache without it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from leptonc.backends.tvm.sizes import name_extents
from leptonc.ir.build import Builder
from leptonc.ir.dims import Symbol, symbols
from leptonc.ir.graph import Graph, Op, Value
from leptonc.ir.table import Inference, Trait
from leptonc.ir.text import print_graph

_SYMBOL = re.compile(r"[A-Za-z_][\w]*")


def is_read(op: Op, slot: int) -> bool:
    """False for a shape-like operand whose content is known: no kernel of ours reads its data."""
    if op.definition.takes_memory:
        return True
    name = op.operand_names[slot]
    shape_like = any(
        operand.name == name and operand.shape_like for operand in op.definition.operands
    )
    if not shape_like:
        return True
    call = Inference(op.definition, op.operands, op.operand_names, op.attrs)
    return call.content(name) is None and call.constant(name) is None


def is_inlined(value: Value) -> bool:
    """True for constants that become part of the code: one number, or extents."""
    if value.producer is not None and value.producer.name == "dims":
        return True
    return value.blob is not None and value.blob.size == 1 and not _needs_memory(value)


def _needs_memory(value: Value) -> bool:
    """True where a product, reduction or C function reads it: their kernels take buffers only.

    So do elementwise operations for a number that was left outside of their group, so that groups
    that differ by it are one kernel.
    """
    for use in value.uses:
        grouped = use.op.name == "group"
        for reader in use.op.regions[0].inputs[use.slot].uses if grouped else (use,):
            row = reader.op.definition
            anchored = row.has(Trait.PRODUCT) or row.has(Trait.REDUCTION) or row.takes_memory
            left = grouped and row.has(Trait.ELEMENTWISE)
            if (anchored or left) and is_read(reader.op, reader.slot):
                return True
    return False


@dataclass(frozen=True, eq=False)
class KernelSource:
    """One kernel: `op` in the graph, what it reads, and a graph of its own that computes it.

    `graph` has one input for each of `inputs` and one output for each of `outputs`; inlined
    constants stand inside it. `scalars` are the symbols that no input's extent tells: they are
    passed as integers.
    """

    op: Op
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    graph: Graph
    scalars: tuple[str, ...]

    @property
    def name(self) -> str:
        """The kernel's name: equal for kernels that compute the same on the same types."""
        return f"k_{hashlib.sha256(self.text.encode()).hexdigest()[:24]}"

    @property
    def text(self) -> str:
        """The kernel's graph as text, with value names left out."""
        return print_graph(self.graph)


def kernel_source(op: Op) -> KernelSource:
    """The kernel of one operation or group of the outermost region."""
    inputs = _real_inputs(op)
    outputs = tuple(value for value in op.results if value.is_used)
    graph = Graph(
        "kernel", [Value(value.type) for value in inputs], [f"o{i}" for i in range(len(outputs))]
    )
    mapping: dict[Value, Value] = dict(zip(inputs, graph.inputs, strict=True))
    build = Builder(graph, location=op.location)
    if op.name == "group":
        region = op.regions[0]
        for outer, inner in zip(op.operands, region.inputs, strict=True):
            mapping[inner] = mapping[outer] if outer in mapping else _inline(build, outer)
        for inner_op in region:
            if inner_op.name != "return":
                clone(build, inner_op, mapping)
        produced = dict(zip(op.results, region.outputs, strict=True))
        build.return_(*(mapping[produced[value]] for value in outputs))
    else:
        for value in op.operands:
            if value not in mapping:
                mapping[value] = _inline(build, value)
        clone(build, op, mapping)
        build.return_(*(mapping[value] for value in outputs))
    _drop_dead(graph)
    name_extents(graph)
    return KernelSource(op, inputs, outputs, graph, _scalars(graph))


def clone(build: Builder, op: Op, mapping: dict[Value, Value]) -> Op:
    """Put a copy of a region-free `op` at the builder's place, reading through `mapping`."""
    operands = [mapping[value] for value in op.operands]
    types = [value.type for value in op.results]
    build.location = op.location
    copy = build.op(op.definition, operands, op.attrs, names=op.operand_names, result_types=types)
    mapping.update(zip(op.results, copy.results, strict=True))
    return copy


def _real_inputs(op: Op) -> tuple[Value, ...]:
    """The distinct values a kernel of `op` reads as tensors, in operand order."""
    found: dict[Value, None] = {}
    takes_memory = any(inner.definition.takes_memory for inner in _inside(op))
    for slot, value in enumerate(op.operands):
        if is_inlined(value) and not takes_memory:
            continue
        if op.name == "group":
            inner = op.regions[0].inputs[slot]
            read = any(is_read(use.op, use.slot) for use in inner.uses)
        else:
            read = is_read(op, slot)
        if read:
            found[value] = None
    return tuple(found)


def _inside(op: Op) -> list[Op]:
    """The operations of a group, or the operation itself."""
    return list(op.regions[0]) if op.name == "group" else [op]


def _inline(build: Builder, value: Value) -> Value:
    """The kernel's copy of a constant, or of what is known of an operand that is not read."""
    if value.producer is not None and value.producer.name in ("dims", "const"):
        return clone(build, value.producer, {}).result
    attrs = {"value": (), "shape": value.type.extents, "dtype": value.type.dtype}
    if value.content is not None:
        attrs["value"] = tuple(value.content.reshape(-1).tolist())
    return build.op("dims", (), attrs).result


def _drop_dead(graph: Graph) -> None:
    for op in reversed(graph):
        if op.name != "return" and not any(value.is_used for value in op.results):
            graph.erase(op)


def _scalars(graph: Graph) -> tuple[str, ...]:
    """The symbols of the kernel that are no plain extent of an input."""
    needed: set[str] = set()
    for value in (*graph.inputs, *(value for op in graph for value in op.results)):
        for dim in value.type.shape:
            needed |= symbols(dim)
    for op in graph:
        if op.results and op.results[0].content is not None:
            for dim in op.results[0].content.reshape(-1):
                needed |= symbols(dim)
    bound = {
        dim.terms[0][0][0].name
        for value in graph.inputs
        for dim in value.type.shape
        if not isinstance(dim, int) and dim.terms[1:] == () and dim.terms[0][1] == 1
        and len(dim.terms[0][0]) == 1 and isinstance(dim.terms[0][0][0], Symbol)
    }  # fmt: skip
    return tuple(sorted(needed - bound))
