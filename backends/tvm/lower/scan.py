# pyright: standard
"""Running sums and products: one loop along the axis for each line of elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.tvm.binding import PrimExpr, tirx
from leptonc.backends.tvm.lower.arithmetic import add, converted, multiply, widened
from leptonc.backends.tvm.lower.opaque import Kernel, kernel
from leptonc.backends.tvm.lowering import KernelRule, LowerCall
from leptonc.ir.ops.scan import scanned_axis

Combine = Callable[[PrimExpr, PrimExpr], PrimExpr]


def _running(combine: Combine, neutral: int) -> KernelRule:
    def rule(call: LowerCall, cpu: Any) -> PrimFunc:
        axis, rank = scanned_axis(call.known), len(call.op.result.type.shape)

        def body(job: Kernel) -> None:
            if axis is not None:
                _along(job, axis, combine, neutral)
                return
            given = job.read(1, [call.index(0)] * len(job.shape(1))).astype("int64")
            for candidate in range(rank):
                chosen = tirx.Or(given == candidate, given == candidate - rank)
                with T.If(chosen), T.Then():
                    _along(job, candidate, combine, neutral)

        return kernel(call, cpu, body)

    return rule


def _along(job: Kernel, axis: int, combine: Combine, neutral: int) -> None:
    """The loops over every line along `axis`."""
    dims = job.shape(0)
    others = [*dims[:axis], *dims[axis + 1 :]]
    extents = tuple(job.call.dim(dim) for dim in others)
    with job.shared(others, dims) as position:
        index = emit.unflatten(position, extents) if others else []
        _line(job, axis, index, combine, neutral)


def _line(
    job: Kernel, axis: int, others: Sequence[PrimExpr], combine: Combine, neutral: int
) -> None:
    op, dtype, extent = job.call.op, job.call.dtype(), job.call.shape()[axis]
    wide = str(widened(tirx.Var("x", dtype)).ty)
    total = emit.Register(1, wide)
    total.set(tirx.const(neutral, wide))
    with emit.serial(extent) as step:
        at = extent - 1 - step if op.int("reverse") else step
        index = [*others[:axis], at, *others[axis:]]
        value = combine(total.lane(0), widened(job.read(0, index)))
        if op.int("exclusive"):
            held = emit.let(value)
            emit.store(job.outputs[0], converted(total.lane(0), dtype), index)
            total.set(held)
        else:
            total.set(value)
            emit.store(job.outputs[0], converted(total.lane(0), dtype), index)


SCANS: dict[str, KernelRule] = {"cum_sum": _running(add, 0), "cum_prod": _running(multiply, 1)}
