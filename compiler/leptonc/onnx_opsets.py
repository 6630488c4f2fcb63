"""Which opset an exported node needs: the oldest one whose definition has all that it uses."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from types import MappingProxyType

import onnx
from onnx import TensorProto

from leptonc.ir.types import DType
from leptonc.onnx_functions import schema_of
from leptonc.onnx_tensor import ONNX_OF_DTYPE

BASE_OPSET = 21
"""Nothing is exported for an older opset: the table's forms are newer than that."""

CHANGED = MappingProxyType({
    ("AveragePool", "ceil_mode"): 22, ("MaxPool", "ceil_mode"): 22, ("LpPool", "ceil_mode"): 22,
})  # fmt: skip
"""Attributes whose meaning ONNX changed, and the opset since which it is the table's."""

_NAMES = {number: name.lower() for name, number in TensorProto.DataType.items()}


def needed_opset(
    op_type: str,
    attributes: Collection[str],
    operands: Sequence[DType | None],
    results: Sequence[DType],
) -> int | None:
    """The oldest opset with this use of an operator, None where there is none."""
    return _needed(op_type, frozenset(attributes), tuple(operands), tuple(results))


@cache
def _needed(
    op_type: str,
    attributes: frozenset[str],
    operands: tuple[DType | None, ...],
    results: tuple[DType, ...],
) -> int | None:
    first = max(CHANGED.get((op_type, name), BASE_OPSET) for name in ("", *attributes))
    for opset in range(first, onnx.defs.onnx_opset_version() + 1):
        schema = schema_of(op_type, "", opset)
        if schema is None or schema.deprecated:
            continue
        fits = (
            attributes <= set(schema.attributes)
            and _takes(schema, schema.inputs, operands)
            and _takes(schema, schema.outputs, results)
        )
        if fits:
            return opset
    return None


def _takes(
    schema: onnx.defs.OpSchema,
    formals: Sequence[onnx.defs.OpSchema.FormalParameter],
    dtypes: Sequence[DType | None],
) -> bool:
    if not formals:
        return not dtypes
    variadic = formals[-1].option == onnx.defs.OpSchema.FormalParameterOption.Variadic
    if len(dtypes) > len(formals) and not variadic:
        return False
    allowed = {item.type_param_str: item.allowed_type_strs for item in schema.type_constraints}
    for index, dtype in enumerate(dtypes):
        formal = formals[min(index, len(formals) - 1)]
        types = allowed.get(formal.type_str, [formal.type_str])
        if dtype is not None and f"tensor({_NAMES[ONNX_OF_DTYPE[dtype]]})" not in types:
            return False
    return True
