"""Before code generation: Fourier transforms of a known length get the numbers they look up."""

from __future__ import annotations

from leptonc.backends.cpu.fourier_plan import Plan, plan_of, table_of
from leptonc.backends.tvm.regions import kernel_operations
from leptonc.ir.blob import Blob
from leptonc.ir.build import Builder
from leptonc.ir.graph import Graph, Op, Value
from leptonc.ir.ops.contents import known_integers
from leptonc.ir.ops.extents import natural
from leptonc.ir.ops.signal import transform_length
from leptonc.ir.table import Inference
from leptonc.ir.types import DType, TensorType

LARGEST = 1 << 22
"""Longer transforms compute their roots when they run."""


def tabulate(graph: Graph) -> None:
    """Give each transform of known axis and length the constant `table`, once for each length."""
    made: dict[tuple[Plan, DType], Value] = {}
    for op, holder in list(kernel_operations(graph)):
        wanted = op.name == "dft" and "table" not in op.operand_names
        plan = _plan(op) if wanted else None
        if plan is None:
            continue
        dtype = DType.of(natural(op.result.type.dtype.numpy))
        if (plan, dtype) not in made:
            first = next(iter(graph))
            build = Builder(graph, before=first, location=op.location)
            made[plan, dtype] = build.const(_blob(plan, dtype))
        table = made[plan, dtype]
        if holder is not None:
            holder.set_operands([*holder.operands, table])
            table = holder.regions[0].add_input(Value(table.type))
        _replace(op, table)


def _plan(op: Op) -> Plan | None:
    call = Inference(op.definition, op.operands, op.operand_names, op.attrs)
    if call.get("axis") is not None and known_integers(call, "axis") is None:
        return None
    length = transform_length(call)
    return plan_of(length) if isinstance(length, int) and 1 <= length <= LARGEST else None


def _blob(plan: Plan, dtype: DType) -> Blob:
    return Blob(TensorType(dtype, (plan.entries, 2)), lambda: table_of(plan, dtype.numpy))


def _replace(op: Op, table: Value) -> None:
    assert op.region is not None
    build = Builder(op.region, before=op, location=op.location)
    names = (*op.operand_names, "table")
    new = build.op(op.definition, [*op.operands, table], op.attrs, names=names).result
    new.name = op.result.name
    op.result.replace_uses_with(new)
    op.region.erase(op)
