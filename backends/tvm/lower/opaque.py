# pyright: standard
"""Whole operations as one function: parameters made from the call, and reads of any operand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx import Buffer, PrimFunc
from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.tvm.flatten import WHOLE
from leptonc.backends.tvm.lowering import TVM_DTYPE, LowerCall, literal
from leptonc.ir.dims import Dim, product
from leptonc.ir.graph import Value
from leptonc.ir.ops.contents import content_of

PARALLEL_STEPS = 4096
"""With fewer elements to move, waking the threads costs more than they save."""


class Kernel:
    """A function being written: buffers of the operands that are data, and of the used results."""

    def __init__(self, call: LowerCall, cpu: Any) -> None:
        self.call, self.cpu = call, cpu
        self.inputs: dict[Value, Buffer] = {}
        self.outputs: dict[int, Buffer] = {}

    def read(self, slot: int, index: Sequence[Any]) -> Any:
        """One element of an operand, be it data or known at compile time."""
        value = self.call.op.operands[slot]
        if value in self.inputs:
            buffer = self.inputs[value]
            return emit.load(buffer, list(index)) if len(index) else tirx.BufferLoad(buffer, [])
        content, dtype = content_of(value), TVM_DTYPE[value.type.dtype]
        if content is not None:
            numbers = [self.call.dim(dim).astype(dtype) for dim in content.reshape(-1)]
        else:
            assert value.blob is not None
            elements = value.blob.array.reshape(-1)
            numbers = [literal(element, value.type.dtype) for element in elements]
        position: Any = self.call.index(0)
        for at, extent in zip(index, value.type.shape, strict=True):
            position = position * self.call.dim(extent) + at
        chosen = numbers[0]
        for at, number in enumerate(numbers[1:], 1):
            chosen = tirx.Select(position == at, number, chosen)
        return chosen

    def shape(self, slot: int) -> tuple[Dim, ...]:
        """The extents of an operand."""
        return self.call.op.operands[slot].type.shape

    def count(self, dims: Sequence[Dim]) -> Any:
        """The product of extents."""
        return self.call.dim(product(dims))

    def shared(self, steps: Sequence[Dim], work: Sequence[Dim]) -> Any:
        """A loop over `steps` by all threads, where `work` is worth it."""
        total = product(work)
        parallel = self.cpu.threads > 1 and (not isinstance(total, int) or total >= PARALLEL_STEPS)
        return emit.outer_loop(self.count(steps), parallel=parallel)

    def copy(self, slot: int, result: int) -> None:
        """Store an operand as a result of the same shape."""
        *outer, last = self.shape(slot) or (1,)
        target = self.outputs[result]
        with self.shared(outer, self.shape(slot)) as row:
            head = emit.unflatten(row, tuple(self.call.dim(dim) for dim in outer)) if outer else []
            with emit.serial(self.call.dim(last)) as column:
                index = [*head, column] if self.shape(slot) else []
                emit.store(target, self.read(slot, index), index)


def kernel(call: LowerCall, cpu: Any, body: Callable[[Kernel], None]) -> PrimFunc:
    """The function of inputs and outputs that `body` writes, reading symbols of `call.dims`."""
    job = Kernel(call, cpu)
    with IRBuilder() as builder, T.prim_func():
        T.func_name(call.op.name)
        T.func_attr({"global_symbol": call.op.name, "tirx.noalias": True, WHOLE: True})
        for slot, value in enumerate(call.op.operands):
            if _is_data(call, slot) and value not in job.inputs:
                job.inputs[value] = _parameter(call, f"x{slot}", value)
        used = [at for at, value in enumerate(call.op.results) if value.is_used]
        for at in used or range(len(call.op.results)):
            job.outputs[at] = _parameter(call, f"y{at}", call.op.results[at])
        body(job)
    made: Any = builder.get()
    return made


def _is_data(call: LowerCall, slot: int) -> bool:
    try:
        call[slot]
    except KeyError:
        return False
    return True


def _parameter(call: LowerCall, name: str, value: Value) -> Buffer:
    shape = tuple(call.dim(dim) for dim in value.type.shape)
    dtype = TVM_DTYPE[value.type.dtype]
    return T.arg(name, T.buffer(shape, dtype, buffer_name=name, align=emit.ALIGNMENT))
