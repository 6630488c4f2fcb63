# pyright: standard
"""Lowering of operations that pick elements by their values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx
from tvm.tirx import Buffer, PrimFunc
from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.tvm.lower.arithmetic import is_float, not_a_number, widened
from leptonc.backends.tvm.lower.opaque import Kernel, kernel
from leptonc.backends.tvm.lowering import KernelRule, LowerCall, Reason, Rule
from leptonc.ir.graph import Op
from leptonc.ir.ops.broadcasting import normalized_axis
from leptonc.ir.ops.contents import content_of


def _below(a: Any, b: Any) -> Any:
    """True where `a` is the smaller of two; not-a-number is above all numbers."""
    a, b = widened(a), widened(b)
    if not is_float(a):
        return a < b
    return tirx.any(a < b, tirx.all(not_a_number(b), tirx.Not(not_a_number(a))))


class _Heap:
    """The best elements of a line so far, the worst of them on top; equal ones rank by place."""

    def __init__(self, line: Callable[[Any], Any], places: Buffer, *, largest: bool) -> None:
        self.line, self.places, self.largest = line, places, largest
        self.state = emit.workspace((1,), "int64")

    def worse(self, a: Any, b: Any) -> Any:
        """True where the element at place `a` of the line ranks behind that at `b`."""
        x, y = self.line(a), self.line(b)
        under, over = (_below(x, y), _below(y, x)) if self.largest else (_below(y, x), _below(x, y))
        return tirx.any(under, tirx.all(tirx.Not(over), a > b))

    def sink(self, start: Any, size: Any) -> None:
        """Move the element at `start` down until nothing worse is below it."""
        emit.store(self.state, start, [0])
        at = emit.load(self.state, [0])
        with T.While(at * 2 + 1 < size):
            child = emit.let(at * 2 + 1)
            second = tirx.if_then_else(child + 1 < size, self.place(child + 1), self.place(child))
            second = emit.let(second)
            lower = emit.let(
                tirx.Select(
                    tirx.all(child + 1 < size, self.worse(second, emit.let(self.place(child)))),
                    child + 1,
                    child,
                )
            )
            mine, other = emit.let(self.place(at)), emit.let(self.place(lower))
            with T.If(self.worse(other, mine)):
                with T.Then():
                    emit.store(self.places, other, [at])
                    emit.store(self.places, mine, [lower])
                    emit.store(self.state, lower, [0])
                with T.Else():
                    emit.store(self.state, size, [0])

    def place(self, at: Any) -> Any:
        """Where in the line the element at a place of the heap comes from."""
        return emit.load(self.places, [at])


def _top_k(call: LowerCall, cpu: Any) -> PrimFunc:
    axis = normalized_axis(call.known, call.op.int("axis"), call.known[0].type.rank)
    largest = bool(call.op.int("largest"))

    def body(job: Kernel) -> None:
        shape = job.shape(0)
        others = [*shape[:axis], *shape[axis + 1 :]]
        extent, count = call.dim(shape[axis]), call.shape()[axis]
        with job.shared(others, shape) as line:
            head = emit.unflatten(line, tuple(call.dim(dim) for dim in others)) if others else []
            room: Any = tirx.max(count, call.index(1))
            places = emit.workspace((room,), "int64")
            heap = _Heap(
                lambda at: job.read(0, [*head[:axis], at, *head[axis:]]), places, largest=largest
            )
            _select(heap, extent, count)
            with emit.serial(count) as rank:
                index = [*head[:axis], rank, *head[axis:]]
                at = heap.place(rank)
                if 0 in job.outputs:
                    emit.store(job.outputs[0], job.read(0, [*head[:axis], at, *head[axis:]]), index)
                if 1 in job.outputs:
                    emit.store(job.outputs[1], at, index)

    return kernel(call, cpu, body)


def _select(heap: _Heap, extent: Any, count: Any) -> None:
    """The places of the best `count` elements, the best first."""
    zero = tirx.const(0, "int64")
    with emit.serial(count) as at:
        emit.store(heap.places, at, [at])
    with emit.serial(tirx.floordiv(count, 2)) as step:
        heap.sink(tirx.floordiv(count, 2) - 1 - step, count)
    with T.If(count > 0), T.Then(), emit.serial(extent - count) as step:
        candidate = emit.let(step + count)
        with T.If(heap.worse(emit.let(heap.place(zero)), candidate)), T.Then():
            emit.store(heap.places, candidate, [zero])
            heap.sink(zero, count)
    with emit.serial(tirx.max(count - 1, zero)) as step:
        last = emit.let(count - 1 - step)
        worst = emit.let(heap.place(zero))
        emit.store(heap.places, heap.place(last), [zero])
        emit.store(heap.places, worst, [last])
        heap.sink(zero, last)


def _top_reason(op: Op) -> str:
    return "" if content_of(op.operands[1]) is not None else "its size depends on data (k)"


def _data_dependent(op: Op) -> str:
    return "its size depends on data"


RULES: dict[str, Rule] = {}
KERNELS: dict[str, KernelRule] = {"top_k": _top_k}
REASONS: dict[str, Reason] = {
    "top_k": _top_reason,
    "non_zero": _data_dependent,
    "compress": _data_dependent,
    "unique": _data_dependent,
}
