"""Holds the types a model declares against those that are computed."""

from __future__ import annotations

import onnx

from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.types import TensorType
from leptonc.onnx_tensor import DTYPE_OF_ONNX


def contradiction(declared: onnx.TypeProto, computed: TensorType) -> str:
    """How a declared type contradicts the computed one; empty where it does not."""
    if declared.sequence_type.elem_type.HasField("map_type"):
        return ""  # ZipMap's maps, which are tensors here
    if declared.WhichOneof("value") != "tensor_type":
        return "" if declared.WhichOneof("value") is None else "it is declared as no tensor"
    tensor = declared.tensor_type
    dtype = DTYPE_OF_ONNX.get(tensor.elem_type)
    if tensor.elem_type and dtype is not computed.dtype:
        return f"it is declared {dtype or tensor.elem_type}, and computed {computed.dtype}"
    if not tensor.HasField("shape"):
        return ""
    dims = tensor.shape.dim
    if len(dims) != computed.rank:
        return f"it is declared with {len(dims)} dimensions, and computed as {computed}"
    for axis, (dim, extent) in enumerate(zip(dims, computed.shape, strict=True)):
        if (
            dim.HasField("dim_value")
            and isinstance(extent, int)
            and dim.dim_value not in (extent, -1)
        ):
            return f"axis {axis} is declared {dim.dim_value}, and computed as {extent}"
    return ""


def check_output(name: str, declared: onnx.TypeProto, computed: TensorType) -> LeptonError | None:
    """An error where the declared type of an output cannot be."""
    difference = contradiction(declared, computed)
    if not difference:
        return None
    return LeptonError(
        f"output {shown(name)} is not what the model says: {difference}",
        notes=["import it with trust_inferred (--trust-inferred) to go by what is computed"],
        code="E019",
    )
