# pyright: standard
"""Running sums and products: one loop along the axis for each line of elements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx
from tvm.ir import Expr as PrimExpr
from tvm.tirx import Buffer, PrimFunc
from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.tvm.lower.arithmetic import add, converted, multiply, widened
from leptonc.backends.tvm.lowering import KernelRule, LowerCall
from leptonc.ir.graph import Op
from leptonc.ir.ops.scan import scanned_axis
from leptonc.ir.table import Inference

PARALLEL_LINES = 64
"""With fewer lines, waking the threads costs more than they save."""


def _running(combine: Callable[[PrimExpr, PrimExpr], PrimExpr], neutral: int) -> KernelRule:
    def rule(call: LowerCall, cpu: Any) -> PrimFunc:
        axis = scanned_axis(call.known)
        assert axis is not None
        exclusive, reverse = bool(call.op.int("exclusive")), bool(call.op.int("reverse"))
        shape, dtype = call.shape(), call.dtype()

        def line(x: Buffer, y: Buffer, others: list[PrimExpr]) -> None:
            wide = str(widened(tirx.Var("x", dtype)).ty)
            total = T.alloc_buffer((1,), wide, scope="global")
            emit.store(total, tirx.const(neutral, wide), [0])
            with emit.serial(shape[axis]) as step:
                at = shape[axis] - 1 - step if reverse else step
                index = [*others[:axis], at, *others[axis:]]
                before = emit.load(total, [0])
                value = combine(before, widened(emit.load(x, index)))
                if exclusive:
                    emit.store(y, converted(before, dtype), index)
                    emit.store(total, value, [0])
                else:
                    emit.store(total, value, [0])
                    emit.store(y, converted(emit.load(total, [0]), dtype), index)

        def body(x: Buffer, y: Buffer) -> None:
            rest = [*shape[:axis], *shape[axis + 1 :]]
            lines: PrimExpr = tirx.const(1, "int64")
            for extent in rest:
                lines = lines * extent
            few = isinstance(lines, tirx.IntImm) and int(lines) < PARALLEL_LINES
            with emit.outer_loop(lines, parallel=cpu.threads > 1 and not few) as position:
                line(x, y, emit.unflatten(position, tuple(rest)) if rest else [])

        parameters = [(name, tuple(shape), dtype) for name in "xy"]
        return emit.function(call.op.name, parameters, body)

    return rule


SCANS: dict[str, KernelRule] = {"cum_sum": _running(add, 0), "cum_prod": _running(multiply, 1)}


def scan_reason(op: Op) -> str:
    """Why the running sum or product cannot be lowered; empty if it can."""
    call = Inference(op.definition, op.operands, op.operand_names, op.attrs)
    return "" if scanned_axis(call) is not None else "the axis is not known at compile time"
