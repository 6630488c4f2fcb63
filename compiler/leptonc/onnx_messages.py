"""Parts of ONNX models written as messages: values, what a model says of itself, attributes."""

from __future__ import annotations

import re
from collections.abc import Mapping

import onnx
from onnx import AttributeProto, TensorProto

from leptonc.ir.blob import Blob
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Expr
from leptonc.ir.graph import Attribute
from leptonc.ir.types import DType, TensorType
from leptonc.onnx_tensor import ONNX_OF_DTYPE
from leptonc.onnx_write import tensor_of

_FRESH = re.compile(r"u\d+_")
"""Symbols that say nothing to others: extents only run time can tell."""


def describe_value(info: onnx.ValueInfoProto, name: str, type: TensorType) -> None:
    """Write the name and type of a value."""
    info.name = name
    tensor = info.type.tensor_type
    tensor.elem_type = ONNX_OF_DTYPE[type.dtype]
    tensor.shape.SetInParent()
    for dim in type.shape:
        extent = tensor.shape.dim.add()
        if not isinstance(dim, Expr):
            extent.dim_value = dim
        elif not _FRESH.search(str(dim)):
            extent.dim_param = str(dim)


def describe_model(model: onnx.ModelProto, metadata: Mapping[str, str]) -> None:
    """Write what the model says about itself."""
    model.doc_string = metadata.get("doc_string", "")
    model.domain = metadata.get("domain", "")
    version = metadata.get("model_version", "")
    if version.lstrip("-").isdigit():
        model.model_version = int(version)
    for key, value in metadata.items():
        if key.startswith("custom."):
            model.metadata_props.add(key=key.removeprefix("custom."), value=value)


def set_attribute(
    attribute: AttributeProto, value: Attribute, weights: list[tuple[TensorProto, Blob]]
) -> None:
    """Write the value of an attribute; the data of a tensor is left to `weights`."""
    match value:
        case bool() | int():
            attribute.type, attribute.i = AttributeProto.INT, int(value)
        case float():
            attribute.type, attribute.f = AttributeProto.FLOAT, value
        case str():
            attribute.type, attribute.s = AttributeProto.STRING, value.encode()
        case DType():
            attribute.type, attribute.i = AttributeProto.INT, ONNX_OF_DTYPE[value]
        case Blob():
            attribute.type = AttributeProto.TENSOR
            attribute.t.CopyFrom(tensor_of(value, ""))
            weights.append((attribute.t, value))
        case tuple() if value and isinstance(value[0], str):
            attribute.type = AttributeProto.STRINGS
            attribute.strings.extend(str(item).encode() for item in value)
        case tuple() if any(isinstance(item, float) for item in value):
            attribute.type = AttributeProto.FLOATS
            attribute.floats.extend(float(str(item)) for item in value)
        case tuple():
            attribute.type = AttributeProto.INTS
            attribute.ints.extend(int(str(item)) for item in value)
        case _:
            raise LeptonError(f"an attribute {value!r} has no ONNX form", code="E022")
