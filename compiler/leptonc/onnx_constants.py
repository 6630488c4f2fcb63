"""Constant nodes in all their forms."""

from __future__ import annotations

import numpy as np

from leptonc.ir.blob import Blob
from leptonc.ir.diagnostics import LeptonError
from leptonc.onnx_scope import Call

_DTYPES = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}


def constant_of(call: Call) -> Blob:
    """The data of a Constant node; raises E015 unless exactly one attribute holds it."""
    if len(call.attributes) != 1:
        given = ", ".join(call.attributes) or "none"
        raise LeptonError(
            f"a Constant has {len(call.attributes)} values ({given}), should have one", code="E015"
        )
    ((name, (kind, value)),) = call.attributes.items()
    expected = {"value": "blob", "sparse_value": "sparse", "value_float": "float", "value_int": "int",
                "value_floats": "floats", "value_ints": "ints", "value_string": "str", "value_strings": "strs"}  # fmt: skip
    if expected.get(name) != kind:
        raise LeptonError(f"a Constant cannot have its value in {name} as {kind}", code="E015")
    if isinstance(value, Blob):
        return value
    if name in _DTYPES:
        return Blob.of(np.array(value, _DTYPES[name]))
    array = np.empty(() if kind == "str" else len(value), object)
    array[...] = value
    return Blob.of(array)
