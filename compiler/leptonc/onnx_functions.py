"""Functions: those a model brings along, and the bodies ONNX gives for its own operators."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import onnx
from onnx import AttributeProto, FunctionProto, NodeProto

from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.dims import Expr
from leptonc.ir.types import TensorType
from leptonc.onnx_faults import FUNCTIONS, Findings
from leptonc.onnx_file import domain_of
from leptonc.onnx_limits import Limits
from leptonc.onnx_scope import Call
from leptonc.onnx_tensor import ONNX_OF_DTYPE

Attributes: TypeAlias = Mapping[str, AttributeProto]

Key: TypeAlias = tuple[str, str, str]
"""Domain, name and overload."""


@dataclass(frozen=True)
class Functions:
    """The functions a model brings along."""

    bodies: Mapping[Key, FunctionProto]
    refused: frozenset[Key] = frozenset()
    """Those that call themselves: what calls one of them has no result, and no fault of its own."""


def functions_of(model: onnx.ModelProto, limits: Limits, findings: Findings) -> Functions:
    """The model's functions; raises E018 where they are too many to be expanded."""
    if len(model.functions) > limits.functions:
        raise LeptonError(
            f"the model has {len(model.functions)} functions, more than {limits.functions}",
            code="E018",
        )
    functions: dict[Key, FunctionProto] = {}
    for index, function in enumerate(model.functions):
        key = (domain_of(function.domain), function.name, function.overload)
        if functions.setdefault(key, function) is not function:
            message = f"function {shown(function.name)} is defined twice"
            findings.add(LeptonError(message, code="E014"), FUNCTIONS, index)
    return Functions(functions, check_expansion(model.graph, functions, limits, findings))


def key_of(node: NodeProto) -> Key:
    """The function that `node` would call."""
    return domain_of(node.domain), node.op_type, node.overload


def check_expansion(
    graph: onnx.GraphProto,
    functions: Mapping[Key, FunctionProto],
    limits: Limits,
    findings: Findings,
) -> frozenset[Key]:
    """Count the nodes there will be, without making them; raises E018 for what is refused.

    Each function is counted once, after those it calls: the work is linear in the model, however
    large the expansion would be. Gives the functions that call themselves, which are faults.
    """
    callees = {key: _calls(body.node, functions) for key, body in functions.items()}
    cycles: list[list[Key]] = []
    size: dict[Key, int] = {}
    depth: dict[Key, int] = {}
    for key in _callees_first(callees, cycles):
        calls = callees[key]
        own = sum(1 for _ in all_nodes(functions[key].node))
        size[key] = own + sum(size.get(callee, 0) for callee in calls)
        depth[key] = 1 + max((depth.get(callee, 0) for callee in calls), default=0)
        if depth[key] > limits.function_depth:
            raise LeptonError(
                f"function {shown(key[1])} needs {depth[key]} functions inside each other, "
                f"more than {limits.function_depth}",
                code="E018",
            )
    total = sum(1 for _ in all_nodes(graph.node))
    total += sum(size[key] for key in _calls(graph.node, functions))
    if total > limits.nodes:
        raise LeptonError(
            f"the model has {total} nodes once its functions are expanded, "
            f"more than {limits.nodes}",
            code="E018",
        )
    places = {key: index for index, key in enumerate(functions)}
    for cycle in cycles:
        names = [name for _, name, _ in cycle]
        path = " -> ".join(map(shown, [*names, names[0]][:12]))
        error = LeptonError(f"functions call themselves: {path}", code="E014")
        findings.add(error, FUNCTIONS, min(places[key] for key in cycle))
    return frozenset(key for cycle in cycles for key in cycle)


def _calls(nodes: Iterable[NodeProto], functions: Mapping[Key, FunctionProto]) -> list[Key]:
    return [key for node in all_nodes(nodes) if (key := key_of(node)) in functions]


def all_nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """The nodes and those of their subgraphs."""
    waiting: list[Iterable[NodeProto]] = [nodes]
    while waiting:
        for node in waiting.pop():
            yield node
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    waiting.append(attribute.g.node)
                waiting.extend(graph.node for graph in attribute.graphs)


def _callees_first(callees: Mapping[Key, Sequence[Key]], cycles: list[list[Key]]) -> list[Key]:
    """The functions, those that others call first; calls that lead back are put in `cycles`."""
    done: dict[Key, None] = {}
    for root in callees:
        path: dict[Key, Iterator[Key]] = {}
        if root not in done:
            path[root] = iter(callees[root])
        while path:
            key = next(reversed(path))
            callee = next(path[key], None)
            if callee is None:
                done[key] = None
                path.pop(key)
            elif callee in path:
                keys = list(path)
                cycles.append(keys[keys.index(callee) :])
            elif callee not in done:
                path[callee] = iter(callees[callee])
    return list(done)


def call_bindings(
    function: FunctionProto, given: Mapping[str, AttributeProto]
) -> dict[str, AttributeProto]:
    """The attributes inside of a call: those given, and the function's defaults for the others."""
    defaults = {attribute.name: attribute for attribute in function.attribute_proto}
    known = {*function.attribute, *defaults}
    unknown = [name for name in given if name not in known]
    if unknown:
        raise LeptonError(
            f"function {shown(function.name)} has no attribute {', '.join(map(shown, unknown))}",
            code="E015",
        )
    return defaults | dict(given)


def has_body(schema: onnx.defs.OpSchema) -> bool:
    """True where ONNX says what an operator means in terms of others."""
    return bool(_versions(schema))


def _versions(schema: Any) -> list[int]:
    # the package's stubs are older than these members
    return list(schema.all_function_opset_versions)


def body_for(call: Call, attributes: Attributes) -> tuple[FunctionProto | None, Attributes]:
    """The body ONNX gives for a call, None where it gives none, and the attributes it refers to."""
    opset = call.opset if call.domain else onnx.defs.onnx_opset_version()
    schema = schema_of(call.op_type, call.domain, opset)
    if schema is None:
        return None, {}
    inputs = ["" if value is None else f"input_{i}" for i, value in enumerate(call.operands)]
    outputs = [f"output_{i}" if name else "" for i, name in enumerate(call.outputs)]
    node = onnx.helper.make_node(call.op_type, inputs, outputs, domain=call.domain)
    node.attribute.extend(attributes[key] for key in call.attributes if key in attributes)
    types = [None if value is None else value.type for value in call.operands]
    body = _body_of(schema, node, types, opset)
    if body is None:
        return None, {}
    known = {*body.attribute, *(attribute.name for attribute in body.attribute_proto)}
    given = {
        name: attribute.default_value
        for name, attribute in schema.attributes.items()
        if name in known and attribute.default_value.name
    }
    return body, given | {key: value for key, value in attributes.items() if key in known}


def schema_of(op_type: str, domain: str, opset: int) -> onnx.defs.OpSchema | None:
    """ONNX's definition of an operator as of `opset`, None where it has none."""
    try:
        return onnx.defs.get_schema(op_type, opset, domain)
    except onnx.defs.SchemaError:
        return None


def _body_of(
    schema: Any, node: NodeProto, types: Sequence[TensorType | None], opset: int
) -> FunctionProto | None:
    versions = _versions(schema)
    if not versions:
        return None
    version = max((known for known in versions if known <= opset), default=min(versions))
    if version in schema.context_dependent_function_opset_versions:
        protos = [_type_proto(type).SerializeToString() for type in types]
        body: bytes = schema.get_context_dependent_function_with_opset_version(
            version, node.SerializeToString(), protos
        )
    else:
        body = schema.get_function_with_opset_version(version)
    return FunctionProto.FromString(body) if body else None


def _type_proto(type: TensorType | None) -> onnx.TypeProto:
    if type is None:
        return onnx.TypeProto()
    shape = [str(dim) if isinstance(dim, Expr) else dim for dim in type.shape]
    return onnx.helper.make_tensor_type_proto(ONNX_OF_DTYPE[type.dtype], shape)
