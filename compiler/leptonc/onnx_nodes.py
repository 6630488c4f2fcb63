"""Imports nodes: into rows of the table, through upgrades, or by expanding functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import onnx
from onnx import FunctionProto, NodeProto

from leptonc.ir.diagnostics import LeptonBug, LeptonError, shown
from leptonc.ir.graph import Graph, Value
from leptonc.ir.location import UNKNOWN, Location
from leptonc.ir.table import OpDef
from leptonc.onnx_attributes import bound_attributes, decode_all
from leptonc.onnx_composed import COMPOSED
from leptonc.onnx_constants import constant_of
from leptonc.onnx_control import CONTROL, control
from leptonc.onnx_declared import contradiction
from leptonc.onnx_faults import INITIALIZERS, NODES, OUTPUTS, Findings, Unsupported
from leptonc.onnx_file import OnnxFile, read_opsets
from leptonc.onnx_forks import Forks
from leptonc.onnx_functions import Attributes, Functions, body_for, call_bindings, key_of
from leptonc.onnx_limits import Limits
from leptonc.onnx_order import node_label, node_reads, ordered
from leptonc.onnx_rows import check_extents, make
from leptonc.onnx_schema_check import schema_faults
from leptonc.onnx_scope import FAILED, Call, Failed, Meaning, Scope
from leptonc.onnx_sequence import SEQUENCE
from leptonc.onnx_support import rows_by_onnx_name, why_not
from leptonc.onnx_tensor import blob_of, dense_blob, unknown_external_keys
from leptonc.onnx_upgrade import upgrade


class NodeImporter:
    """Imports the nodes of one model; what is wrong with one does not keep it from the others."""

    def __init__(
        self,
        file: OnnxFile,
        graph: Graph,
        functions: Functions,
        limits: Limits,
        findings: Findings,
        operators: Mapping[tuple[str, str], OpDef],
        forks: Forks,
    ) -> None:
        self.file, self.graph, self.functions, self.limits = file, graph, functions, limits
        self.operators = operators
        self.rows = {**rows_by_onnx_name(), **operators}
        self.findings, self.forks = findings, forks

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
        outputs: list[Meaning] = []
        for index, item in enumerate(graph.output):
            with self.findings.at(OUTPUTS, index):
                outputs.append(self._look_up(scope, item.name))
        return outputs

    def _initializers(self, scope: Scope, graph: onnx.GraphProto, read: set[str]) -> None:
        found: set[str] = set()
        sparse = [(item.values.name, item) for item in graph.sparse_initializer]
        plain = [(item.name, item) for item in graph.initializer]
        for index, (name, tensor) in enumerate([*plain, *sparse]):
            with self.findings.at(INITIALIZERS, index):
                if name in found:
                    message = f"initialiser {shown(name)} is there twice"
                    self.findings.add(LeptonError(message, code="E014"))
                elif name in read:
                    scope.names[name] = self._initializer(scope, name, tensor)
                found.add(name)

    def _initializer(
        self, scope: Scope, name: str, tensor: onnx.TensorProto | onnx.SparseTensorProto
    ) -> Meaning:
        try:
            if isinstance(tensor, onnx.TensorProto):
                blob = blob_of(tensor, self.file)
                self._note_unknown_keys(tensor)
            else:
                blob = dense_blob(tensor, self.file)
            check_extents(blob.type, f"initialiser {shown(name)}", self.limits)
        except LeptonError as error:
            self._keep(scope, error)
            return FAILED
        value = scope.build.const(blob)
        value.name = name[: self.limits.name_length]
        return value

    def _note_unknown_keys(self, tensor: onnx.TensorProto) -> None:
        unknown = unknown_external_keys(tensor)
        if unknown:
            keys = ", ".join(map(shown, unknown))
            self.findings.notices.append(
                f"external data of {shown(tensor.name)} has entries without meaning: {keys}"
            )

    def _keep(self, scope: Scope, error: LeptonError) -> None:
        """Keep what is wrong with the part that is imported now."""
        for fault in error.faults or (error,):
            if fault.location == UNKNOWN:
                fault.location = scope.build.location
            self.findings.add(fault)

    def _look_up(self, scope: Scope, name: str) -> Meaning:
        """What a name stands for; that nothing defines it is a fault."""
        try:
            return scope.look_up(name)
        except LeptonError as error:
            self._keep(scope, error)
            return FAILED

    def nodes(self, scope: Scope, nodes: Sequence[NodeProto]) -> None:
        """Import `nodes` in dependency order; what is wrong with one is collected."""
        order = ordered(nodes, scope.names)
        for index, error in order.faults:
            error.location = Location((self._place_name(scope, nodes[index], index),))
            self.findings.add(error, NODES, index)
        scope.names.update(dict.fromkeys(order.lost, FAILED))
        if any(index < before for before, index in pairwise(order.indices)):
            self.findings.notices.append("the nodes are not in dependency order; they were sorted")
        for index in order.indices:
            with self.findings.at(NODES, index):
                node = nodes[index]
                results = self._node(scope, node, self._place_name(scope, node, index))
            for output, result in zip(node.output, results, strict=False):
                if order.makers.get(output) == index and output not in order.lost:
                    scope.names[output] = result

    def _place_name(self, scope: Scope, node: NodeProto, index: int) -> str:
        return f"{scope.prefix}{node_label(node, index)}"[: self.limits.name_length]

    def _node(self, scope: Scope, node: NodeProto, name: str) -> Sequence[Meaning]:
        self.findings.nodes += 1
        if self.findings.nodes > self.limits.nodes:
            raise LeptonError(
                f"the model has more than {self.limits.nodes} nodes once expanded",
                code="E018",
            )
        outer = scope.build.location
        scope.build.location = Location((name,))
        try:
            results = self._results(scope, node, name)
            for output, result in zip(node.output, results, strict=False):
                if isinstance(result, Value):
                    check_extents(result.type, f"result {shown(output)}", self.limits)
                    self._name(scope, name, output, result)
        except LeptonError as error:
            self._keep(scope, error)
            return [FAILED] * len(node.output)
        except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError) as crash:
            what = f"importing {shown(node.op_type)} failed with {type(crash).__name__}: {crash}"
            raise LeptonBug(what, scope.build.location) from crash
        finally:
            scope.build.location = outer
        return results

    def _name(self, scope: Scope, node: str, output: str, result: Value) -> None:
        """Give a result the model's name for it; what a call gives back loses its inner name."""
        if not output:
            return
        if not result.name or result.name.startswith(f"{node}/"):
            result.name = f"{scope.prefix}{output}"[: self.limits.name_length]
        declared = scope.declared.get(output)
        wrong = "" if declared is None else contradiction(declared, result.type)
        if wrong:
            what = f"value_info of {shown(output)}"
            self.findings.notices.append(f"{what} is wrong and ignored: {wrong}")

    def _results(self, scope: Scope, node: NodeProto, name: str) -> Sequence[Meaning]:
        operands = [self._look_up(scope, item) if item else None for item in node.input]
        key = key_of(node)
        faults: list[LeptonError] = []
        attributes = bound_attributes(node, scope.bindings, faults)
        function = self.functions.bodies.get(key)
        if function is not None:
            self._keep_all(scope, faults)
            if key in self.functions.refused:
                return [FAILED] * len(node.output)
            return self._expand(scope, function, operands, attributes, name, node.output)
        opset = scope.opsets.get(key[0])
        if opset is None:
            opset = 1
            if key[0] in ("", "ai.onnx.ml"):
                raise LeptonError(f"the model does not import the domain of {key[1]}", code="E012")
        decoded = decode_all(attributes, self.file, faults)
        reason = why_not(key, opset, self.operators)
        if reason is not None:
            self.findings.add(Unsupported(key[1], key[0], opset, name, *reason))
        elif faults or any(isinstance(operand, Failed) for operand in operands):
            readable = {name: item for name, item in attributes.items() if name in decoded}
            faults += schema_faults(node, key, opset, readable)
        if faults or reason is not None or any(isinstance(item, Failed) for item in operands):
            self._keep_all(scope, faults)
            return [FAILED] * len(node.output)
        if key[:2] in CONTROL:
            return control(self, scope, node, decoded, operands)
        call = Call(key[1], key[0], opset, [], decoded, node.output, scope.build, scope)
        if key[:2] in SEQUENCE:
            return SEQUENCE[key[:2]](call, operands)
        if key[1] == "Identity" and isinstance(operands[0], tuple):
            return operands
        for index, operand in enumerate(operands):
            if isinstance(operand, tuple | Failed):
                raise LeptonError(f"input {index} of {key[1]} is a sequence", code="E014")
            call.operands.append(operand)
        return self._call(scope, call, attributes, name)

    def _keep_all(self, scope: Scope, faults: Sequence[LeptonError]) -> None:
        for fault in faults:
            self._keep(scope, fault)

    def _call(
        self, scope: Scope, call: Call, attributes: Attributes, name: str
    ) -> Sequence[Meaning]:
        if call.op_type == "Constant" and not call.domain:
            return [call.build.const(constant_of(call))]
        key = (call.domain, call.op_type)
        row = self.rows.get(key)
        composed = COMPOSED.get(key)
        done = composed(call) if composed is not None and row is None else upgrade(call)
        if done is not None:
            return done
        row = self.rows.get((call.domain, call.op_type))
        if row is not None:
            return make(row, call)
        body, given = body_for(call, attributes)
        if body is None:
            reason = "ONNX does not say what this use of it means in other operators"
            self.findings.add(Unsupported(call.op_type, call.domain, call.opset, name, reason))
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
        opsets, faults = read_opsets(function.opset_import, f"function {shown(function.name)}")
        self._keep_all(scope, faults)
        inner = Scope(
            scope.build,
            {**scope.opsets, **opsets},
            bindings=call_bindings(function, attributes),
            prefix=f"{name}/",
            depth=scope.depth,
        )
        for index, formal in enumerate(function.input):
            inner.names[formal] = operands[index] if index < len(operands) else None
        self.nodes(inner, function.node)
        return [
            self._look_up(inner, formal) if wanted else None
            for formal, wanted in zip(function.output, outputs, strict=False)
        ]
