"""Graphs out as ONNX models: the table read backwards.

The messages are built in place, without onnx-graphsurgeon's graphs in between: those would hold a
second copy of every constant, and spell two of the float8 types as others.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from pathlib import Path

import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto

from leptonc.ir.blob import Blob
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.graph import Attribute, Graph, Op, Region, Value
from leptonc.ir.location import UNKNOWN, Location
from leptonc.onnx_export_checks import ends_in_check
from leptonc.onnx_export_fused import FusedPlan, export_fused, plan_fused
from leptonc.onnx_export_masks import softened_constants
from leptonc.onnx_export_nodes import node_name, operand_slots
from leptonc.onnx_export_older import idle_attributes, needed_by_operands, write_as_of
from leptonc.onnx_export_rows import EXPLICIT, EXPORT, REGION_NAMES, VARIADIC
from leptonc.onnx_export_sizes import Sizes
from leptonc.onnx_messages import describe_model, describe_value, set_attribute
from leptonc.onnx_opsets import BASE_OPSET, OLDEST_OPSET, needed_opset
from leptonc.onnx_write import INLINE_LIMIT, Layout, fill_all, tensor_of, write_model


def export_model(graph: Graph, opset: int | None = None) -> onnx.ModelProto:
    """The graph as an ONNX model, for the oldest opset that has all it needs or for `opset`.

    Raises E022 where an operation has no ONNX form, or the constants do not fit one message.
    """
    exporter = Exporter(opset)
    model = exporter.model(graph)
    fill_all(exporter.weights)
    return model


def save_model(
    graph: Graph, path: str | Path, opset: int | None = None, *, inline_limit: int = INLINE_LIMIT
) -> None:
    """Write the graph to a file that appears whole or not at all.

    Constants of more than `inline_limit` bytes together go to a second file beside it.
    """
    exporter = Exporter(opset)
    model = exporter.model(graph)
    write_model(model, exporter.weights, Path(path), Layout(inline_limit))


class Exporter:
    """Writes one graph; `weights` are the constants whose messages still lack their data."""

    def __init__(
        self,
        opset: int | None,
        *,
        oldest: int = BASE_OPSET,
        allow: frozenset[str] = frozenset(),
    ) -> None:
        if opset is not None and opset < OLDEST_OPSET:
            raise LeptonError(
                f"models are not written for opset {opset}",
                notes=[f"the oldest is {OLDEST_OPSET}"],
                code="E022",
            )
        self.asked, self.allow = opset, allow
        self.plan = FusedPlan()
        self.softened: dict[Value, Blob] = {}
        self.opset = min(oldest, opset or oldest)
        self.blobs: dict[str, Blob] = {}
        self.weights: list[tuple[TensorProto, Blob]] = []
        self.names: MutableMapping[Value, str] = {}
        self.sizes = Sizes()
        self._taken: set[str] = set()
        self._nodes: set[str] = set()
        self.domains: dict[str, int] = {}
        self.lacking: dict[str, tuple[str, int, Location]] = {}
        """What the opset asked for does not have, by operator: since when there is what."""

    def model(self, graph: Graph) -> onnx.ModelProto:
        """The graph as a model whose constants have no data yet."""
        model = onnx.ModelProto(producer_name="leptonc")
        proto = model.graph
        proto.name = graph.name or "graph"
        self.plan = plan_fused(graph, self.allow)
        self.softened = softened_constants(graph)
        self._taken.update(graph.output_names)
        for value in graph.inputs:
            self.names[value] = self.fresh_name(value.name or "input")
            describe_value(proto.input.add(), self.names[value], value.type)
        self._region(proto, graph, graph.output_names)
        for name, value in zip(graph.output_names, graph.outputs, strict=True):
            describe_value(proto.output.add(), name, value.type)
        if self.lacking:
            raise self._lacking()
        version = self.asked or self.opset
        write_as_of(version, proto, self.blobs)
        model.opset_import.add(domain="", version=version)
        for domain, version in sorted(self.domains.items()):
            model.opset_import.add(domain=domain, version=version)
        model.ir_version = onnx.helper.find_min_ir_version_for(list(model.opset_import)[:1])
        describe_model(model, graph.metadata)
        return model

    def fresh_name(self, wanted: str) -> str:
        """`wanted`, or something like it that no other value has."""
        return _fresh(wanted, self._taken)

    def emit(
        self,
        proto: GraphProto,
        op_type: str,
        operands: Sequence[str],
        outputs: Sequence[str],
        name: str,
        attributes: Mapping[str, Attribute] | None = None,
        domain: str = "",
    ) -> NodeProto:
        """Add a node."""
        if not domain:
            self._at_least(op_type, attributes or {}, len(operands))
        name = _fresh(name or op_type, self._nodes)
        node = proto.node.add(op_type=op_type, name=name, domain=domain)
        node.input.extend(operands)
        node.output.extend(outputs)
        for key, value in (attributes or {}).items():
            set_attribute(node.attribute.add(name=key), value, self.weights)
        return node

    def _at_least(self, op_type: str, attributes: Iterable[str], count: int) -> None:
        """Note what the attributes and operands of a node need; `_need` looks at their types."""
        opset = needed_opset(op_type, set(attributes), [None] * count, (), OLDEST_OPSET)
        self.require(op_type, opset or OLDEST_OPSET)

    def constant(self, proto: GraphProto, blob: Blob, wanted: str = "constant") -> str:
        """Add a constant and give its name."""
        name = self.fresh_name(wanted)
        self._constant(proto, blob, name)
        return name

    def _constant(self, proto: GraphProto, blob: Blob, name: str) -> None:
        tensor = proto.initializer.add()
        tensor.CopyFrom(tensor_of(blob, name))
        self.weights.append((tensor, blob))
        self.blobs[name] = blob

    def body(self, proto: GraphProto, region: Region) -> None:
        """Add the operations of a region, its closing `return` left out."""
        for value in region.inputs:
            self.sizes.add(value, self.names[value])
        for op in region:
            if op.name == "return":
                continue
            self._op(proto, op)
            for index, value in enumerate(op.results):
                if value in self.names and (index == 0 or value.is_used or op.name in VARIADIC):
                    self.sizes.add(value, self.names[value])

    def _region(self, proto: GraphProto, region: Region, output_names: Sequence[str]) -> None:
        """Fill in a graph; its outputs get the names asked for, by Identity if need be."""
        own = {value for op in region if op.name != "const" for value in op.results}
        checked = ends_in_check(region)
        identities: list[tuple[Value, str]] = []
        for value, name in zip(region.outputs, output_names, strict=True):
            if value in own and value not in self.names and not checked:
                self.names[value] = name
            else:
                identities.append((value, name))
        self.body(proto, region)
        for value, name in identities:
            self.emit(proto, "Identity", [self.names[value]], [name], f"Identity_{name}")

    def _op(self, proto: GraphProto, op: Op) -> None:
        if op in self.plan.absorbed:
            return
        if op.name == "const":
            blob = op.attrs["value"]
            assert isinstance(blob, Blob)
            blob = self.softened.get(op.result, blob)
            self.names[op.result] = self.constant(proto, blob, op.result.name or "constant")
            return
        if op.name == "group":
            self._group(proto, op)
            return
        for value in op.results:
            if value not in self.names:
                self.names[value] = self.fresh_name(value.name or f"{op.name}_{len(self.names)}")
        special, found = EXPORT.get(op.name), self.plan.fused.get(op)
        if found is not None:
            export_fused(self, proto, op, found)
        elif special is not None:
            special(self, proto, op)
        elif op.definition.onnx is None:
            raise LeptonError(
                f"{op.name} has no ONNX form",
                op.location,
                notes=["export the graph before the passes that lay it out for a backend"],
                code="E022",
            )
        else:
            self.row(proto, op)

    def _group(self, proto: GraphProto, op: Op) -> None:
        """Add what stands in a group; its results are named as the group's are."""
        region = op.regions[0]
        for inner, outer in zip(region.inputs, op.operands, strict=True):
            self.names[inner] = self.names[outer]
        for inner, outer in zip(region.outputs, op.results, strict=True):
            if inner not in self.names:
                known = self.names.get(outer)
                self.names[inner] = known or self.fresh_name(outer.name or inner.name or "group")
        self.body(proto, region)
        for inner, outer in zip(region.outputs, op.results, strict=True):
            name = self.names.setdefault(outer, self.names[inner])
            if name != self.names[inner]:
                self.emit(proto, "Identity", [self.names[inner]], [name], f"Identity_{name}")

    def row(self, proto: GraphProto, op: Op) -> None:
        """Add an operation as the operator that the table has for it."""
        form = op.definition.onnx
        assert form is not None
        operands = operand_slots(op)
        idle = idle_attributes(form.name, operands)
        attributes = {
            name: value
            for name, value in op.attrs.items()
            if value is not None
            and name not in idle
            and (value != op.definition.attrs[name].default or op.name in EXPLICIT)
        }
        if form.domain == "":
            self._need(op, attributes, operands)
        every = op.name in VARIADIC
        outputs = [self.names[v] if v.is_used or every else "" for v in op.results]
        while len(outputs) > 1 and not outputs[-1]:
            outputs.pop()
        outputs[0] = self.names[op.results[0]]
        names = ["" if value is None else self.names[value] for value in operands]
        node = self.emit(proto, form.name, names, outputs, node_name(op), attributes, form.domain)
        if form.domain:
            self.domains[form.domain] = max(self.domains.get(form.domain, 1), form.since)
        for region, attribute in zip(op.regions, REGION_NAMES.get(op.name, ()), strict=True):
            outside = self.names
            self.names = ChainMap({}, outside)
            with self.sizes.inside():
                body = node.attribute.add(name=attribute, type=AttributeProto.GRAPH).g
                self._subgraph(body, region)
            self.names = outside

    def _subgraph(self, proto: GraphProto, region: Region) -> None:
        proto.name = "body"
        for value in region.inputs:
            self.names[value] = self.fresh_name(value.name or "input")
            describe_value(proto.input.add(), self.names[value], value.type)
        names = [self.fresh_name(value.name or "output") for value in region.outputs]
        self._region(proto, region, names)
        for name, value in zip(names, region.outputs, strict=True):
            describe_value(proto.output.add(), name, value.type)

    def _need(
        self, op: Op, attributes: Mapping[str, Attribute], operands: Sequence[Value | None]
    ) -> None:
        form = op.definition.onnx
        assert form is not None
        regions = REGION_NAMES.get(op.name, ())
        dtypes = [None if value is None else value.type.dtype for value in operands]
        results = [value.type.dtype for value in op.results]
        values = [value for value in attributes.values() if isinstance(value, str)]
        opset = needed_opset(
            form.name, {*attributes, *regions}, dtypes, results, OLDEST_OPSET, values
        )
        # operators that ONNX has for other element types only are written as they are
        self.need(
            max(opset or OLDEST_OPSET, needed_by_operands(form.name, operands, attributes)), op
        )

    def need(self, opset: int, op: Op) -> None:
        """Note that `op` is written in a form of `opset`."""
        form = op.definition.onnx
        self.require(op.name if form is None else form.name, opset, op.name, op.location)

    def require(
        self, operator: str, opset: int, name: str = "", location: Location = UNKNOWN
    ) -> None:
        """Note that an operator is written in a form of `opset`, for the operation of a name."""
        if self.asked is not None and opset > self.asked:
            self.lacking.setdefault(operator, (name or operator, opset, location))
        self.opset = max(self.opset, opset)

    def _lacking(self) -> LeptonError:
        """All that the opset asked for does not have."""
        names = [f"{name} needs opset {since}" for name, since, _ in self.lacking.values()]
        location = next(iter(self.lacking.values()))[2]
        if len(names) == 1:
            message, notes = f"{names[0]}, not {self.asked}", list[str]()
        else:
            message = f"opset {self.asked} lacks {len(names)} operators that the model needs"
            notes = sorted(names)
        return LeptonError(message, location, notes=notes, code="E022")


def _fresh(wanted: str, taken: set[str]) -> str:
    name, count = wanted, 2
    while name in taken:
        name, count = f"{wanted}_{count}", count + 1
    taken.add(name)
    return name
