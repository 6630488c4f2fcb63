"""Constant nodes in all their forms."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from leptonc.ir.blob import Blob
from leptonc.ir.diagnostics import LeptonError
from leptonc.onnx_scope import Call

_KINDS = MappingProxyType({
    "value": "blob", "sparse_value": "sparse", "value_string": "str", "value_strings": "strs",
    "value_float": "float", "value_floats": "floats", "value_int": "int", "value_ints": "ints",
})  # fmt: skip
"""The attributes that may hold the data, and of which kind each is."""


def constant_of(call: Call) -> Blob:
    """The data of a Constant node; raises E015 unless exactly one attribute holds it."""
    if len(call.attributes) != 1:
        given = ", ".join(call.attributes) or "none"
        raise LeptonError(
            f"a Constant has {len(call.attributes)} values ({given}), should have one", code="E015"
        )
    ((name, (kind, value)),) = call.attributes.items()
    if _KINDS.get(name) != kind:
        raise LeptonError(f"a Constant cannot have its value in {name} as {kind}", code="E015")
    if isinstance(value, Blob):
        return value
    if kind in ("float", "floats", "int", "ints"):
        return Blob.of(np.array(value, np.float32 if kind.startswith("float") else np.int64))
    array = np.empty(() if kind == "str" else len(value), object)
    array[...] = value
    return Blob.of(array)
