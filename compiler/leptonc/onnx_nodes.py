"""Imports nodes: into rows of the table, through upgrades, or by expanding functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx
from onnx import FunctionProto, NodeProto

from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.graph import Graph, Value
from leptonc.ir.location import UNKNOWN, Location
from leptonc.ir.table import OpDef, all_ops
from leptonc.onnx_attributes import bound_attributes, decode_all, fit
from leptonc.onnx_constants import constant_of
from leptonc.onnx_contrib import CONTRIB
from leptonc.onnx_control import CONTROL, control
from leptonc.onnx_declared import Declared
from leptonc.onnx_file import OnnxFile, domain_of, opset_versions
from leptonc.onnx_functions import Key, body_of, call_bindings, key_of, schema_of
from leptonc.onnx_limits import Limits
from leptonc.onnx_order import node_label, node_reads, ordered
from leptonc.onnx_scope import FAILED, Call, Failed, Meaning, Scope
from leptonc.onnx_tensor import blob_of, dense_blob
from leptonc.onnx_upgrade import RENAMED, upgrade


@dataclass(frozen=True)
class Unsupported:
    """One node whose operator leptonc does not have."""

    op_type: str
    domain: str
    opset: int
    node: str
    reason: str
    help: str = ""


@dataclass
class Findings:
    """What is wrong with a model, collected over all of its nodes."""

    unsupported: list[Unsupported] = field(default_factory=list[Unsupported])
    problems: list[LeptonError] = field(default_factory=list[LeptonError])
    notices: list[str] = field(default_factory=list[str])


def rows_by_onnx_name() -> dict[tuple[str, str], OpDef]:
    """The rows by ONNX domain and name."""
    rows: dict[tuple[str, str], OpDef] = {}
    for row in all_ops().values():
        if row.onnx is not None:
            rows.setdefault((row.onnx.domain, row.onnx.name), row)
    return rows


class NodeImporter:
    """Imports the nodes of one model."""

    def __init__(
        self,
        file: OnnxFile,
        graph: Graph,
        functions: Mapping[Key, FunctionProto],
        limits: Limits,
    ) -> None:
        self.file, self.graph, self.functions, self.limits = file, graph, functions, limits
        self.rows = rows_by_onnx_name()
        self.findings = Findings()
        self.declared = Declared(self.findings.notices)
        self.count = 0

    def body(self, scope: Scope, graph: onnx.GraphProto) -> list[Meaning]:
        """Import a graph whose inputs `scope` knows, and give what its outputs stand for."""
        if scope.depth > self.limits.subgraph_depth:
            raise LeptonError(
                f"the model has subgraphs more than {self.limits.subgraph_depth} deep", code="E018"
            )
        read = {item.name for item in graph.output}
        for node in graph.node:
            read |= node_reads(node)
        self._initializers(scope, graph, read)
        scope.declared = {item.name: item.type for item in graph.value_info}
        self.nodes(scope, graph.node)
        return [scope.look_up(item.name) for item in graph.output]

    def _initializers(self, scope: Scope, graph: onnx.GraphProto, read: set[str]) -> None:
        found: set[str] = set()
        sparse = [(item.values.name, item) for item in graph.sparse_initializer]
        for name, tensor in [*((item.name, item) for item in graph.initializer), *sparse]:
            if name in found:
                raise LeptonError(f"initialiser {shown(name)} is there twice", code="E014")
            found.add(name)
            if name not in read:
                continue
            try:
                if isinstance(tensor, onnx.TensorProto):
                    blob = blob_of(tensor, self.file)
                else:
                    blob = dense_blob(tensor, self.file)
            except LeptonError as error:
                self.findings.problems.append(error)
                scope.names[name] = FAILED
                continue
            value = scope.build.const(blob)
            value.name = name[: self.limits.name_length]
            scope.names[name] = value

    def nodes(self, scope: Scope, nodes: Sequence[NodeProto]) -> None:
        """Import `nodes` in dependency order; what is wrong with one is collected."""
        try:
            order = ordered(nodes, scope.names)
        except LeptonError as error:
            self.findings.problems.append(error)
            for node in nodes:
                scope.names.update(dict.fromkeys(filter(None, node.output), FAILED))
            return
        if any(index != place for place, index in enumerate(order)):
            self.findings.notices.append("the nodes are not in dependency order; they were sorted")
        for index in order:
            self._node(scope, nodes[index], node_label(nodes[index], index))

    def _node(self, scope: Scope, node: NodeProto, label: str) -> None:
        self.count += 1
        if self.count > self.limits.nodes:
            raise LeptonError(
                f"the model has more than {self.limits.nodes} nodes once it is expanded", code="E018"
            )
        name = f"{scope.prefix}{label}"
        outer = scope.build.location
        scope.build.location = Location((name,))
        try:
            results = self._results(scope, node, name)
        except LeptonError as error:
            if error.location == UNKNOWN:
                error.location = scope.build.location
            self.findings.problems.append(error)
            results = [FAILED] * len(node.output)
        finally:
            scope.build.location = outer
        for output, result in zip(node.output, results, strict=False):
            if output:
                scope.names[output] = result
                self._name(scope, output, result)

    def _name(self, scope: Scope, output: str, result: Meaning) -> None:
        if isinstance(result, Value):
            if not result.name:
                result.name = output[: self.limits.name_length]
            declared = scope.declared.get(output)
            if declared is not None:
                self.declared.compare(output, declared, result.type)

    def _results(self, scope: Scope, node: NodeProto, name: str) -> Sequence[Meaning]:
        operands = [scope.look_up(item) if item else None for item in node.input]
        key = key_of(node)
        attributes = bound_attributes(node, scope.bindings)
        function = self.functions.get(key)
        if function is not None:
            return self._expand(scope, function, operands, attributes, name, node.output)
        opset = scope.opsets.get(key[0])
        if opset is None:
            opset = 1
            if key[0] in ("", "ai.onnx.ml"):
                raise LeptonError(f"the model does not import the domain of {key[1]}", code="E012")
        reason = self._reason(key, opset)
        if reason:
            self._unsupported(key, opset, name, *reason)
            return [FAILED] * len(node.output)
        if any(isinstance(operand, Failed) for operand in operands):
            return [FAILED] * len(node.output)
        if key[:2] in CONTROL:
            return control(self, scope, node, decode_all(attributes, self.file), operands)
        tensors: list[Value | None] = []
        for index, operand in enumerate(operands):
            if isinstance(operand, tuple) or isinstance(operand, Failed):
                raise LeptonError(f"input {index} of {key[1]} is a sequence", code="E014")
            tensors.append(operand)
        call = Call(
            key[1], key[0], opset, tensors, decode_all(attributes, self.file), node.output, scope.build
        )
        return self._call(scope, call, attributes, name)

    def _call(
        self, scope: Scope, call: Call, attributes: Mapping[str, onnx.AttributeProto], name: str
    ) -> Sequence[Meaning]:
        if call.op_type == "Constant" and not call.domain:
            return [call.build.const(constant_of(call))]
        row = self.rows.get((call.domain, call.op_type))
        contrib = CONTRIB.get((call.domain, call.op_type))
        done = contrib(call) if contrib is not None and row is None else upgrade(call)
        if done is not None:
            return done
        row = self.rows.get((call.domain, call.op_type))
        if row is not None:
            return self._make(row, call)
        body, given = self._body(call, attributes)
        if body is None:
            reason = "ONNX gives no meaning in other operators for a use like this"
            self._unsupported((call.domain, call.op_type, ""), call.opset, name, reason, "")
            return [FAILED] * len(call.outputs)
        return self._expand(scope, body, call.operands, given, name, call.outputs)

    def _make(self, row: OpDef, call: Call) -> Sequence[Value]:
        fixed = [operand for operand in row.operands if not operand.variadic]
        rest = [operand.name for operand in row.operands if operand.variadic]
        values: list[Value] = []
        names: list[str] = []
        for index, value in enumerate(call.operands):
            if value is None:
                continue
            if index < len(fixed):
                names.append(fixed[index].name)
            elif rest:
                names.append(rest[0])
            else:
                raise LeptonError(
                    f"{call.op_type} has {len(call.operands)} inputs, should have at most {len(fixed)}",
                    code="E014",
                )
            values.append(value)
        lacking = [
            operand.name for operand in fixed if not operand.optional and operand.name not in names
        ]
        if lacking:
            raise LeptonError(f"{call.op_type} lacks its input {', '.join(lacking)}", code="E014")
        op = call.build.op(row, values, fit(row, call.attributes), names=names)
        named = len(call.outputs)
        while named and not call.outputs[named - 1]:
            named -= 1
        if named > len(op.results):
            raise LeptonError(
                f"{call.op_type} has {named} outputs, should have at most {len(op.results)}",
                code="E014",
            )
        return op.results

    def _expand(
        self,
        scope: Scope,
        function: FunctionProto,
        operands: Sequence[Meaning],
        attributes: Mapping[str, onnx.AttributeProto],
        name: str,
        outputs: Sequence[str],
    ) -> Sequence[Meaning]:
        if len(operands) > len(function.input):
            raise LeptonError(
                f"function {shown(function.name)} is given {len(operands)} inputs, "
                f"takes {len(function.input)}",
                code="E014",
            )
        inner = Scope(
            scope.build,
            {**scope.opsets, **opset_versions(list(function.opset_import))},
            bindings=call_bindings(function, attributes),
            prefix=f"{name}/",
            depth=scope.depth,
        )
        for index, formal in enumerate(function.input):
            inner.names[formal] = operands[index] if index < len(operands) else None
        self.nodes(inner, function.node)
        return [
            inner.look_up(formal) if wanted else None
            for formal, wanted in zip(function.output, outputs, strict=False)
        ]

    def _body(
        self, call: Call, attributes: Mapping[str, onnx.AttributeProto]
    ) -> tuple[FunctionProto | None, dict[str, onnx.AttributeProto]]:
        """The body ONNX gives for a call, and the attributes that the body refers to."""
        opset = call.opset if call.domain else onnx.defs.onnx_opset_version()
        schema = schema_of(call.op_type, call.domain, opset)
        if schema is None:
            return None, {}
        inputs = ["" if value is None else f"input_{i}" for i, value in enumerate(call.operands)]
        outputs = [f"output_{i}" if name else "" for i, name in enumerate(call.outputs)]
        node = onnx.helper.make_node(call.op_type, inputs, outputs, domain=call.domain)
        node.attribute.extend(attributes[key] for key in call.attributes if key in attributes)
        types = [None if value is None else value.type for value in call.operands]
        body = body_of(schema, node, types, opset)
        if body is None:
            return None, {}
        known = {*body.attribute, *(attribute.name for attribute in body.attribute_proto)}
        given = {
            name: attribute.default_value
            for name, attribute in schema.attributes.items()
            if name in known and attribute.default_value.name
        }
        return body, given | {key: value for key, value in attributes.items() if key in known}

    def _reason(self, key: Key, opset: int) -> tuple[str, str] | None:
        """Why there is no way to import an operator, and what would help; None where there is."""
        domain, op_type, _ = key
        if (domain, op_type) in self.rows or (domain, op_type) in CONTROL | CONTRIB:
            return None
        if not domain and (op_type == "Constant" or ("", RENAMED.get(op_type, "")) in self.rows):
            return None
        schema = schema_of(op_type, domain, onnx.defs.onnx_opset_version() if not domain else opset)
        if schema is not None:
            if schema.all_function_opset_versions:
                return None
            return "leptonc does not have this operator", "run onnxsim, or export the model another way"
        known = schema_of(op_type, domain, opset) is not None
        if known:
            return f"opset {opset} has this operator, later ones dropped it", "export the model for a newer opset"
        if domain in ("", "ai.onnx.ml"):
            return "ONNX has no operator of this name", "export the model again, as a local function if it is your own"
        return (
            f"the domain {shown(domain)} is not known",
            "give the model a local function of this name, or export it without custom operators",
        )

    def _unsupported(self, key: Key, opset: int, node: str, reason: str, help: str) -> None:
        self.findings.unsupported.append(Unsupported(key[1], key[0], opset, node, reason, help))
