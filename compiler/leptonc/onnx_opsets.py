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
"""Exported for where nothing newer is needed and nobody says how old a model may be."""

USUAL_OPSET = 13
"""Models of older opsets are brought up to this one, unless an older one is asked for."""

OLDEST_OPSET = 11
"""Nothing is exported for an older opset: negative axes and optional operands came with it."""

CHANGED = MappingProxyType({
    ("AveragePool", "ceil_mode"): 22, ("MaxPool", "ceil_mode"): 22, ("LpPool", "ceil_mode"): 22,
    ("DFT", ""): 20, ("GridSample", ""): 20, ("GroupNormalization", ""): 21, ("RoiAlign", ""): 16,
    ("Pad", "wrap"): 19, ("Resize", "half_pixel_symmetric"): 19,
    ("ScatterElements", "max"): 18, ("ScatterElements", "min"): 18,
    ("ScatterND", "max"): 18, ("ScatterND", "min"): 18,
})  # fmt: skip
"""Attributes (and values of them, or all of an operator) that ONNX changed, and since when."""

AXES_SINCE = 18
"""Since then all reductions have their axes as an operand, and splits say how many parts."""

OPERANDS_SINCE = MappingProxyType({"ReduceSum": 13, "Split": 13, "Squeeze": 13, "Unsqueeze": 13})
"""Since when other operators have as second operand what was an attribute before."""

PARTS = frozenset({"num_outputs"})

_NAMES = {number: name.lower() for name, number in TensorProto.DataType.items()}


def needed_opset(
    op_type: str,
    attributes: Collection[str],
    operands: Sequence[DType | None],
    results: Sequence[DType],
    oldest: int = BASE_OPSET,
    values: Collection[str] = (),
) -> int | None:
    """The oldest opset, from `oldest` on, with this use of an operator; None if there is none.

    `values` are texts that attributes hold. Operands that were attributes are taken as constants,
    which `onnx_export_older` makes attributes of, and equal parts as such, which it leaves out.
    """
    words = ("", *attributes, *values)
    first = max(oldest, *(CHANGED.get((op_type, word), oldest) for word in words))
    return _needed(op_type, frozenset(attributes), tuple(operands), tuple(results), first)


@cache
def _needed(
    op_type: str,
    attributes: frozenset[str],
    operands: tuple[DType | None, ...],
    results: tuple[DType, ...],
    first: int,
) -> int | None:
    for opset in range(first, onnx.defs.onnx_opset_version() + 1):
        schema = schema_of(op_type, "", opset)
        if schema is None or schema.deprecated:
            continue
        given = operands[:1] if opset < operand_since(op_type) else operands
        parts = opset < AXES_SINCE and op_type == "Split"
        needless = PARTS if parts else frozenset[str]()
        fits = (
            attributes - needless <= set(schema.attributes)
            and _takes(schema, schema.inputs, given)
            and _takes(schema, schema.outputs, results)
        )
        if fits:
            return opset
    return None


def operand_since(op_type: str) -> int:
    """Since when the second operand of an operator is none of its attributes; 0 for always."""
    return OPERANDS_SINCE.get(op_type, AXES_SINCE if op_type.startswith("Reduce") else 0)


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
