"""Operators that are taken apart for kernels alone, as operations of their own.

Those of classical machine learning, of text and of random numbers have no spelled-out form in ONNX.

A compilation takes them apart into rows that kernels are made of. Where ONNX comes out again they
stay what they are: one node, which runtimes have a kernel for. Their types and numbers are still
those of the rows that they stand for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import onnx

from leptonc.extensions import Operator
from leptonc.ir.blob import Array, Blob
from leptonc.ir.build import Builder
from leptonc.ir.graph import Attribute, Graph, Value
from leptonc.ir.interpret import interpret
from leptonc.ir.table import Attr, Evaluation, Inference, Trait
from leptonc.ir.types import DType, TensorType
from leptonc.onnx_composed import COMPOSED
from leptonc.onnx_functions import schema_of
from leptonc.onnx_ml import ML
from leptonc.onnx_scope import Call

_TYPES = onnx.defs.OpSchema.AttrType
_KINDS = MappingProxyType({
    _TYPES.FLOAT: "float", _TYPES.FLOATS: "floats", _TYPES.INT: "int", _TYPES.INTS: "ints",
    _TYPES.STRING: "str", _TYPES.STRINGS: "strs", _TYPES.TENSOR: "blob",
})  # fmt: skip
"""The kinds of attributes by ONNX's types."""

TEXTUAL = ("StringNormalizer", "TfIdfVectorizer")
RANDOM = frozenset({
    "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike",
})  # fmt: skip


def kept_operators(model: onnx.ModelProto | None) -> list[Operator]:
    """The operators of the versions of the domains that `model` is written for."""
    imports = model.opset_import if model is not None else ()
    versions = {"" if item.domain == "ai.onnx" else item.domain: item.version for item in imports}
    found: list[Operator] = []
    for domain, name in (*ML, *(("", name) for name in (*TEXTUAL, *RANDOM))):
        version = versions.get(domain)
        schema = schema_of(name, domain, version) if version is not None else None
        if schema is not None and version is not None:
            found.append(_operator(name, domain, schema, version))
    return found


def _operator(name: str, domain: str, schema: onnx.defs.OpSchema, version: int) -> Operator:
    """One operator, whose version is that of the whole domain."""
    options = onnx.defs.OpSchema.FormalParameterOption
    marks = {options.Single: "", options.Optional: "?", options.Variadic: "*"}
    operands = ", ".join(f"{item.name}{marks[item.option]}" for item in schema.inputs)
    attrs = {
        key: Attr(_KINDS[item.type])
        for key, item in schema.attributes.items()
        if item.type in _KINDS
    }
    meaning = _Meaning((domain, name), version, len(schema.outputs))
    return Operator(
        f"onnx_{re.sub('(?<=[a-z])(?=[A-Z])', '_', name).lower()}({operands})",
        name, domain, meaning.infer, meaning.evaluate, attrs=attrs, since=version,
        summary=f"{name} as ONNX has it.", traits=[Trait.EFFECT] if name in RANDOM else [],
    )  # fmt: skip


class _Meaning:
    """What one operator stands for; each use is taken apart once."""

    def __init__(self, key: tuple[str, str], version: int, outputs: int) -> None:
        self.key, self.version, self.outputs = key, version, outputs
        self._parts: dict[object, tuple[Graph, Sequence[object]]] = {}

    def infer(self, call: Inference) -> list[TensorType]:
        """The types of the results."""
        operands = [(value.type, value) for value in call.items]
        return [value.type for value in self._apart(call, operands).outputs]

    def evaluate(self, call: Evaluation) -> list[Array]:
        """The results, by the rows that the operator stands for."""
        operands = [
            (TensorType(DType.of(array.dtype), tuple(array.shape)), None) for array in call.items
        ]
        graph = self._apart(call, operands)
        feeds = {value.name: array for value, array in zip(graph.inputs, call.items, strict=True)}
        return list(interpret(graph, feeds).values())

    def _apart(
        self,
        call: Inference | Evaluation,
        operands: Sequence[tuple[TensorType, Value | None]],
    ) -> Graph:
        """A graph of rows that computes what the operator does of such operands."""
        constants = [id(value.blob) for _, value in operands if value is not None and value.blob]
        key = (
            tuple(type for type, _ in operands), tuple(constants),
            tuple(map(id, call.attrs.values())),
        )  # fmt: skip
        found = self._parts.get(key)
        if found is None:
            # what ids name has to live as long as they do
            held = [*call.attrs.values(), *(value for _, value in operands)]
            found = self._parts[key] = (self._graph(call.attrs, operands), held)
        return found[0]

    def _graph(
        self,
        attrs: Mapping[str, Attribute],
        operands: Sequence[tuple[TensorType, Value | None]],
    ) -> Graph:
        inputs = [Value(type, f"input{place}") for place, (type, _) in enumerate(operands)]
        (domain, name) = self.key
        graph = Graph(name, inputs)
        build = Builder(graph)
        given: list[Value | None] = [
            value if known is None or known.blob is None else build.const(known.blob)
            for value, (_, known) in zip(inputs, operands, strict=True)
        ]
        decoded = {
            key: (_kind(value), value) for key, value in attrs.items() if value is not None
        }  # fmt: skip
        names = [f"output{place}" for place in range(self.outputs)]
        call = Call(name, domain, self.version, given, decoded, names, build)
        results = [value for value in COMPOSED[self.key](call) or () if value is not None]
        graph.output_names = tuple(names[: len(results)])
        build.return_(*results)
        return graph


def _kind(value: Attribute) -> str:
    """The kind of an attribute that is there."""
    if isinstance(value, tuple):
        first = value[0] if value else 0
        return (
            "strs" if isinstance(first, str) else "floats" if isinstance(first, float) else "ints"
        )
    if isinstance(value, Blob):
        return "blob"
    return "str" if isinstance(value, str) else "float" if isinstance(value, float) else "int"
