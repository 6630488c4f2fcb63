"""Attributes of ONNX nodes: read, bound to those of an enclosing function, fitted to a row."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import onnx
from onnx import AttributeProto

from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.graph import Attribute
from leptonc.ir.table import OpDef
from leptonc.onnx_file import OnnxFile
from leptonc.onnx_tensor import blob_of, dense_blob, dtype_of, text_array

Bindings: TypeAlias = Mapping[str, AttributeProto]
"""The attributes of the function call that a node stands inside, by the function's own names."""

Decoded: TypeAlias = Any
"""int, float, str, Blob, GraphProto, TypeProto, or a tuple of one of these."""

_READ: Mapping[int, tuple[str, str]] = MappingProxyType({
    AttributeProto.INT: ("int", "i"), AttributeProto.FLOAT: ("float", "f"),
    AttributeProto.STRING: ("str", "s"), AttributeProto.TENSOR: ("blob", "t"),
    AttributeProto.GRAPH: ("graph", "g"), AttributeProto.INTS: ("ints", "ints"),
    AttributeProto.FLOATS: ("floats", "floats"), AttributeProto.STRINGS: ("strs", "strings"),
    AttributeProto.TENSORS: ("blobs", "tensors"), AttributeProto.GRAPHS: ("graphs", "graphs"),
    AttributeProto.SPARSE_TENSOR: ("sparse", "sparse_tensor"),
    AttributeProto.TYPE_PROTO: ("type", "tp"),
})  # fmt: skip
"""The kind of each type of attribute and the field its value stands in."""

_MESSAGES = frozenset({"i", "f", "s", "t", "g", "sparse_tensor", "tp"})
"""The fields that hold one value."""

_KIND_NEEDED = MappingProxyType({
    "int": "int", "float": "float", "str": "str", "ints": "ints", "floats": "floats",
    "strs": "strs", "dims": "ints", "dtype": "int", "blob": "blob", "bool": "int",
})  # fmt: skip

_WORDS = MappingProxyType({
    "int": "an integer", "float": "a number", "str": "text", "ints": "a list of integers",
    "floats": "a list of numbers", "strs": "a list of text", "blob": "a tensor",
    "graph": "a graph", "graphs": "a list of graphs", "blobs": "a list of tensors",
    "sparse": "a sparse tensor", "type": "a type",
})  # fmt: skip


def bound_attributes(
    node: onnx.NodeProto, bindings: Bindings, faults: list[LeptonError]
) -> dict[str, AttributeProto]:
    """The attributes of `node` by name, references replaced by what the call gave, or left out.

    One that is given twice is a fault, and counts as it is given first.
    """
    bound: dict[str, AttributeProto] = {}
    for attribute in node.attribute:
        name = attribute.name
        if name in bound:
            faults.append(LeptonError(f"attribute {shown(name)} is given twice", code="E015"))
            continue
        if attribute.ref_attr_name:
            given = bindings.get(attribute.ref_attr_name)
            if given is None:
                continue
            attribute = given
        bound[name] = attribute
    return bound


def kind_of(attribute: AttributeProto) -> int:
    """The type an attribute declares, or that of the one field that is filled."""
    if attribute.type:
        return attribute.type
    for number, (_, name) in _READ.items():
        if attribute.HasField(name) if name in _MESSAGES else len(getattr(attribute, name)):
            return number
    return AttributeProto.UNDEFINED


def decode(name: str, attribute: AttributeProto, file: OnnxFile) -> tuple[str, Decoded]:
    """The kind and the value of an attribute; raises E015 where it has none."""
    number = kind_of(attribute)
    if number not in _READ:
        raise LeptonError(f"attribute {shown(name)} has the unknown type {number}", code="E015")
    kind, field = _READ[number]
    raw = getattr(attribute, field)
    what = f"attribute {shown(name)}"
    match kind:
        case "str":
            return kind, str(text_array([raw], what)[0])
        case "strs":
            return kind, tuple(text_array(raw, what))
        case "blob":
            return kind, blob_of(raw, file, what)
        case "blobs":
            return kind, tuple(blob_of(item, file, what) for item in raw)
        case "sparse":
            return kind, dense_blob(raw, file)
        case "ints" | "floats" | "graphs":
            return kind, tuple(raw)
        case _:
            return kind, raw


def decode_all(
    attributes: Mapping[str, AttributeProto], file: OnnxFile, faults: list[LeptonError]
) -> dict[str, tuple[str, Decoded]]:
    """Kind and value of each attribute by name; those that cannot be read are faults."""
    decoded: dict[str, tuple[str, Decoded]] = {}
    for name, attribute in attributes.items():
        try:
            decoded[name] = decode(name, attribute, file)
        except LeptonError as error:
            faults.append(error)
    return decoded


def fit(row: OpDef, attributes: Mapping[str, tuple[str, Decoded]]) -> dict[str, Attribute]:
    """The attributes as `row` wants them; every one that does not fit is told at once (E015)."""
    fitted: dict[str, Attribute] = {}
    wrong: list[str] = []
    for name, (kind, value) in attributes.items():
        attr = row.attrs.get(name)
        if attr is None:
            known = ", ".join(row.attrs) or "none"
            wrong.append(f"attribute {shown(name)} is not known, it has: {known}")
        elif kind != _KIND_NEEDED[attr.kind]:
            wrong.append(
                f"attribute {shown(name)} is {_WORDS.get(kind, kind)}, "
                f"should be {_WORDS[_KIND_NEEDED[attr.kind]]}"
            )
        else:
            fitted[name] = _as_kind(attr.kind, value, f"attribute {shown(name)}")
    wrong += [
        f"attribute {shown(name)} is missing"
        for name, attr in row.attrs.items()
        if attr.required and name not in attributes
    ]
    if wrong:
        raise LeptonError("; ".join(wrong), code="E015")
    return fitted


def _as_kind(kind: str, value: Decoded, what: str) -> Attribute:
    if kind == "dtype":
        return dtype_of(value, what) if value else None
    if kind == "bool":
        return bool(value)
    return value


def plain(
    values: Mapping[str, int | float | str | tuple[int, ...]],
) -> dict[str, tuple[str, Decoded]]:
    """Kind and value of attributes that an upgrade makes."""
    kinds = {int: "int", float: "float", str: "str", tuple: "ints"}
    return {name: (kinds[type(value)], value) for name, value in values.items()}
