"""Nodes held against ONNX's definitions alone, where what they read is not known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
from onnx import AttributeProto
from onnx.defs import OpSchema

from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.onnx_attributes import kind_of
from leptonc.onnx_functions import Key, schema_of

_VARIADIC = OpSchema.FormalParameterOption.Variadic
_SINGLE = OpSchema.FormalParameterOption.Single


def schema_faults(
    node: onnx.NodeProto, key: Key, opset: int, attributes: Mapping[str, AttributeProto]
) -> list[LeptonError]:
    """What is wrong with a node whatever its operands are: its attributes, inputs and outputs."""
    schema = schema_of(key[1], key[0], opset)
    if schema is None:
        return []
    faults: list[LeptonError] = []
    wrong = "; ".join(_attribute_faults(schema, attributes))
    if wrong:
        faults.append(LeptonError(wrong, code="E015"))
    wrong = "; ".join(_arity_faults(schema, node))
    if wrong:
        faults.append(LeptonError(wrong, code="E014"))
    return faults


def _attribute_faults(schema: OpSchema, attributes: Mapping[str, AttributeProto]) -> list[str]:
    known = schema.attributes
    names = {number: name for name, number in AttributeProto.AttributeType.items()}
    faults: list[str] = []
    for name, attribute in attributes.items():
        if name not in known:
            listed = ", ".join(known) or "none"
            faults.append(f"attribute {shown(name)} is not known, it has: {listed}")
        else:
            right: Any = known[name].type  # the package's stubs do not know that it is an enum
            if kind_of(attribute) != int(right.value):
                kind = names.get(kind_of(attribute), "unknown")
                faults.append(f"attribute {shown(name)} is of type {kind}, should be {right.name}")
    faults += [
        f"attribute {shown(name)} is missing"
        for name, item in known.items()
        if item.required and name not in attributes
    ]
    return faults


def _arity_faults(schema: OpSchema, node: onnx.NodeProto) -> list[str]:
    inputs, outputs = list(node.input), list(node.output)
    while inputs and not inputs[-1]:
        inputs.pop()
    faults: list[str] = []
    if len(inputs) > schema.max_input:
        message = f"{schema.name} has {len(inputs)} inputs, should have at most {schema.max_input}"
        faults.append(message)
    lacking = [
        formal.name
        for index, formal in enumerate(schema.inputs)
        if formal.option == _SINGLE and (index >= len(inputs) or not inputs[index])
    ]
    if lacking:
        faults.append(f"{schema.name} lacks its input {', '.join(lacking)}")
    if len(outputs) > schema.max_output:
        faults.append(
            f"{schema.name} has {len(outputs)} outputs, should have at most {schema.max_output}"
        )
    return faults
