"""Imports nodes: into rows of the table, through upgrades, or by expanding functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
from onnx import FunctionProto, NodeProto

from leptonc.ir.diagnostics import LeptonBug, LeptonError, shown
from leptonc.ir.graph import Graph, Value
from leptonc.ir.location import UNKNOWN, Location
from leptonc.ir.table import OpDef
from leptonc.onnx_attributes import bound_attributes, decode_all, fit
from leptonc.onnx_constants import constant_of
from leptonc.onnx_contrib import CONTRIB
from leptonc.onnx_control import CONTROL, control
from leptonc.onnx_declared import contradiction
from leptonc.onnx_file import OnnxFile, opset_versions
from leptonc.onnx_functions import Attributes, Key, body_for, call_bindings, key_of
from leptonc.onnx_limits import Limits
from leptonc.onnx_order import node_label, node_reads, ordered
from leptonc.onnx_scope import FAILED, Call, Failed, Meaning, Scope
from leptonc.onnx_sequence import SEQUENCE
from leptonc.onnx_support import Findings, Unsupported, rows_by_onnx_name, why_not
from leptonc.onnx_tensor import blob_of, dense_blob, unknown_external_keys
from leptonc.onnx_upgrade import upgrade


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
                    self._note_unknown_keys(tensor)
                else:
                    blob = dense_blob(tensor, self.file)
            except LeptonError as error:
                self.findings.problems.append(error)
                scope.names[name] = FAILED
                continue
            value = scope.build.const(blob)
            value.name = name[: self.limits.name_length]
            scope.names[name] = value

    def _note_unknown_keys(self, tensor: onnx.TensorProto) -> None:
        unknown = unknown_external_keys(tensor)
        if unknown:
            keys = ", ".join(map(shown, unknown))
            self.findings.notices.append(
                f"external data of {shown(tensor.name)} has entries without meaning: {keys}"
            )

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
        self.findings.nodes += 1
        if self.findings.nodes > self.limits.nodes:
            raise LeptonError(
                f"the model has more than {self.limits.nodes} nodes once expanded",
                code="E018",
            )
        name = f"{scope.prefix}{label}"[: self.limits.name_length]
        outer = scope.build.location
        scope.build.location = Location((name,))
        try:
            results = self._results(scope, node, name)
        except LeptonError as error:
            if error.location == UNKNOWN:
                error.location = scope.build.location
            self.findings.problems.append(error)
            results = [FAILED] * len(node.output)
        except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError) as crash:
            what = f"importing {shown(node.op_type)} failed with {type(crash).__name__}: {crash}"
            raise LeptonBug(what, scope.build.location) from crash
        finally:
            scope.build.location = outer
        for output, result in zip(node.output, results, strict=False):
            if output:
                scope.names[output] = result
                self._name(scope, name, output, result)

    def _name(self, scope: Scope, node: str, output: str, result: Meaning) -> None:
        """Give a result the model's name for it; what a call gives back loses its inner name."""
        if not isinstance(result, Value):
            return
        if not result.name or result.name.startswith(f"{node}/"):
            result.name = f"{scope.prefix}{output}"[: self.limits.name_length]
        declared = scope.declared.get(output)
        wrong = "" if declared is None else contradiction(declared, result.type)
        if wrong:
            what = f"value_info of {shown(output)}"
            self.findings.notices.append(f"{what} is wrong and ignored: {wrong}")

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
        reason = why_not(key, opset)
        if reason is not None:
            found = Unsupported(key[1], key[0], opset, name, *reason)
            self.findings.unsupported.append(found)
        if reason is not None or any(isinstance(operand, Failed) for operand in operands):
            return [FAILED] * len(node.output)
        decoded = decode_all(attributes, self.file)
        if key[:2] in CONTROL:
            return control(self, scope, node, decoded, operands)
        call = Call(key[1], key[0], opset, [], decoded, node.output, scope.build)
        if key[:2] in SEQUENCE:
            return SEQUENCE[key[:2]](call, operands)
        if key[1] == "Identity" and isinstance(operands[0], tuple):
            return operands
        for index, operand in enumerate(operands):
            if isinstance(operand, tuple | Failed):
                raise LeptonError(f"input {index} of {key[1]} is a sequence", code="E014")
            call.operands.append(operand)
        return self._call(scope, call, attributes, name)

    def _call(
        self, scope: Scope, call: Call, attributes: Attributes, name: str
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
            return make(row, call)
        body, given = body_for(call, attributes)
        if body is None:
            reason = "ONNX does not say what this use of it means in other operators"
            found = Unsupported(call.op_type, call.domain, call.opset, name, reason)
            self.findings.unsupported.append(found)
            return [FAILED] * len(call.outputs)
        return self._expand(scope, body, call.operands, given, name, call.outputs)

    def _expand(
        self,
        scope: Scope,
        function: FunctionProto,
        operands: Sequence[Meaning],
        attributes: Attributes,
        name: str,
        outputs: Sequence[str],
    ) -> Sequence[Meaning]:
        if len(operands) > len(function.input):
            raise LeptonError(
                f"function {shown(function.name)} is given {len(operands)} inputs, "
                f"takes {len(function.input)}",
                code="E014",
            )
        if len(outputs) > len(function.output):
            raise LeptonError(
                f"function {shown(function.name)} has {len(function.output)} outputs, "
                f"{len(outputs)} are named",
                code="E014",
            )
        inner = Scope(
            scope.build,
            {**scope.opsets, **opset_versions(function.opset_import)},
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


def make(row: OpDef, call: Call) -> Sequence[Value]:
    """The results of a node that is one operation of the table."""
    values, names = _slots(row, call)
    op = call.build.op(row, values, fit(row, call.attributes), names=names)
    named = max((index for index, name in enumerate(call.outputs, 1) if name), default=0)
    if named > len(op.results):
        raise LeptonError(
            f"{call.op_type} has {named} outputs, should have at most {len(op.results)}",
            code="E014",
        )
    return op.results


def _slots(row: OpDef, call: Call) -> tuple[list[Value], list[str]]:
    """The operands that are there, and the name of each."""
    fixed = [operand for operand in row.operands if not operand.variadic]
    rest = next((operand.name for operand in row.operands if operand.variadic), "")
    values: list[Value] = []
    names: list[str] = []
    for index, value in enumerate(call.operands):
        if value is not None:
            values.append(value)
            names.append(fixed[index].name if index < len(fixed) else rest)
    lacking = [item.name for item in fixed if not item.optional and item.name not in names]
    if lacking:
        raise LeptonError(f"{call.op_type} lacks its input {', '.join(lacking)}", code="E014")
    if "" in names:
        raise LeptonError(
            f"{call.op_type} has {len(call.operands)} inputs, should have at most {len(fixed)}",
            code="E014",
        )
    return values, names
