"""Nodes that are one operation of the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.graph import Value
from leptonc.ir.table import OpDef
from leptonc.ir.types import TensorType
from leptonc.onnx_attributes import fit
from leptonc.onnx_faults import error_of
from leptonc.onnx_limits import Limits
from leptonc.onnx_scope import Call

T = TypeVar("T")


def make(row: OpDef, call: Call) -> Sequence[Value]:
    """The results of a node that is one operation of the table."""
    faults: list[LeptonError] = []
    slots = _attempt(faults, lambda: _slots(row, call))
    attributes = _attempt(faults, lambda: fit(row, call.attributes))
    if slots is None or attributes is None:
        raise error_of(faults)
    op = call.build.op(row, slots[0], attributes, names=slots[1])
    named = max((index for index, name in enumerate(call.outputs, 1) if name), default=0)
    if named > len(op.results):
        raise LeptonError(
            f"{call.op_type} has {named} outputs, should have at most {len(op.results)}",
            code="E014",
        )
    return op.results


def _attempt(faults: list[LeptonError], make: Callable[[], T]) -> T | None:
    """What `make` gives; None and one more fault where it raises."""
    try:
        return make()
    except LeptonError as error:
        faults.append(error)
        return None


def check_extents(type: TensorType, what: str, limits: Limits) -> None:
    """Raise E018 for a dimension that nothing can index."""
    for dim in type.shape:
        if isinstance(dim, int) and dim > limits.extent:
            raise LeptonError(
                f"{what} has the extent {dim}, more than {limits.extent}", code="E018"
            )


def _slots(row: OpDef, call: Call) -> tuple[list[Value], list[str]]:
    """The operands that are there, and the name of each."""
    fixed = [operand for operand in row.operands if not operand.variadic]
    rest = next((operand.name for operand in row.operands if operand.variadic), "")
    values: list[Value] = []
    names: list[str] = []
    for index, value in enumerate(call.operands):
        if value is not None:
            values.append(value)
            names.append(fixed[index].name if index < len(fixed) else rest)
    lacking = [item.name for item in fixed if not item.optional and item.name not in names]
    if lacking:
        raise LeptonError(f"{call.op_type} lacks its input {', '.join(lacking)}", code="E014")
    if "" in names:
        raise LeptonError(
            f"{call.op_type} has {len(call.operands)} inputs, should have at most {len(fixed)}",
            code="E014",
        )
    return values, names
