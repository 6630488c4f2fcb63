# pyright: standard
"""Lowering of operations that write elements at computed places; places outside are left alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import te, tirx
from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.tvm.lower.arithmetic import add, converted, larger, multiply, smaller, widened
from leptonc.backends.tvm.lower.indexing import compute, inside
from leptonc.backends.tvm.lower.opaque import Kernel, kernel
from leptonc.backends.tvm.lowering import KernelRule, LowerCall, Reason, Rule
from leptonc.ir.dims import Dim
from leptonc.ir.graph import Op
from leptonc.ir.ops.broadcasting import normalized_axis
from leptonc.ir.ops.scatter import cache_axis
from leptonc.ir.types import DType

COMBINE = {"add": add, "mul": multiply, "max": larger, "min": smaller}


def _place(job: Kernel, number: Any, extent: Dim) -> tuple[Any, Any]:
    """An index from data counted from the front, and whether there is such an element."""
    size = job.call.dim(extent)
    number = number.astype("int64")
    at = emit.let(tirx.Select(number < 0, number + size, number))
    return at, tirx.all(at >= 0, at < size)


def _combine(job: Kernel, index: Sequence[Any], update: Any) -> None:
    """Store an update, combined with what is there."""
    target, reduction = job.outputs[0], job.call.op.str("reduction")
    if reduction != "none":
        old = widened(emit.load(target, list(index)))
        update = converted(COMBINE[reduction](old, widened(update)), job.call.dtype())
    emit.store(target, update, list(index))


def _scatter_elements(call: LowerCall, cpu: Any) -> PrimFunc:
    axis = normalized_axis(call.known, call.op.int("axis"), call.known[0].type.rank)

    def body(job: Kernel) -> None:
        job.copy(0, 0)
        indices, data = job.shape(1), job.shape(0)
        others = [*indices[:axis], *indices[axis + 1 :]]
        with job.shared(others, indices) as line:
            head = emit.unflatten(line, tuple(call.dim(dim) for dim in others)) if others else []
            with emit.serial(call.dim(indices[axis])) as step:
                index = [*head[:axis], step, *head[axis:]]
                at, fits = _place(job, job.read(1, index), data[axis])
                with T.If(fits), T.Then():
                    _combine(job, [*head[:axis], at, *head[axis:]], job.read(2, index))

    return kernel(call, cpu, body)


def _scatter_nd(call: LowerCall, cpu: Any) -> PrimFunc:
    def body(job: Kernel) -> None:
        job.copy(0, 0)
        indices, data = job.shape(1), job.shape(0)
        depth = int(str(indices[-1]))
        outer, inner = indices[:-1], data[depth:]
        with emit.serial(job.count(outer)) as tuple_at:
            head = emit.unflatten(tuple_at, tuple(call.dim(dim) for dim in outer)) if outer else []
            places = [
                _place(job, job.read(1, [*head, call.index(at)]), data[at]) for at in range(depth)
            ]
            fits = tirx.all(*(fit for _, fit in places)) if places else tirx.const(True, "bool")
            with T.If(fits), T.Then(), emit.serial(job.count(inner)) as position:
                rest = (
                    emit.unflatten(position, tuple(call.dim(dim) for dim in inner)) if inner else []
                )
                _combine(job, [*(at for at, _ in places), *rest], job.read(2, [*head, *rest]))

    return kernel(call, cpu, body)


def _tensor_scatter(call: LowerCall) -> te.Tensor:
    axis = cache_axis(call.known)
    cache, update = call.known[0].type.shape, call.known[1].type.shape
    starts = call.get("write_indices")
    circular = call.known.str("mode") == "circular"

    def element(*index: Any) -> Any:
        extent, length = call.dim(cache[axis]), call.dim(update[axis])
        start = (
            starts(index[0]).astype(call.dims.index_dtype) if starts is not None else call.index(0)
        )
        step = index[axis] - start
        if circular:
            step = tirx.floormod(step, tirx.max(extent, call.index(1)))
        source = list(index)
        source[axis] = inside(call, step, update[axis])
        written = tirx.all(step >= 0, step < length)
        return tirx.if_then_else(written, call[1](*source), call[0](*index))

    return compute(call, element)


def _reason(op: Op) -> str:
    reduced = op.str("reduction") != "none"
    return "it reduces truth values" if reduced and op.operands[0].type.dtype is DType.BOOL else ""


RULES: dict[str, Rule] = {"tensor_scatter": _tensor_scatter}
KERNELS: dict[str, KernelRule] = {"scatter_elements": _scatter_elements, "scatter_nd": _scatter_nd}
REASONS: dict[str, Reason] = {"scatter_elements": _reason, "scatter_nd": _reason}
