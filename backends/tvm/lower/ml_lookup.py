# pyright: standard
"""Finding elements in a list that ascends, by halves."""

from __future__ import annotations

from typing import Any

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.emit import T
from leptonc.backends.tvm.binding import PrimFunc, tirx
from leptonc.backends.tvm.lower.opaque import Kernel, kernel
from leptonc.backends.tvm.lowering import KernelRule, LowerCall, Reason, Rule

UNKNOWN = "an element is none of the categories the model knows"


def _place(job: Kernel, element: Any, count: int) -> Any:
    """How many keys are at most `element`: steps of halving size, without branches."""
    place = emit.Register(1, "int64")
    place.set(emit.integer(0))
    step = 1 << (count.bit_length() - 1)
    while step:
        further = emit.let(place.get() + emit.integer(step))
        last = tirx.min(further, emit.integer(count)) - emit.integer(1)
        is_there = further <= emit.integer(count)
        key = emit.let(job.read(1, [last]))
        place.set(tirx.Select(tirx.And(is_there, key <= element), further, place.get()))
        step >>= 1
    return place.get()


def _rule(call: LowerCall, cpu: Any) -> PrimFunc:
    (count,) = call.op.operands[1].type.extents
    shape = tuple(call.dim(dim) for dim in call.op.operands[0].type.shape)

    strict = call.known.int("strict") == 1

    def one(job: Kernel, index: list[Any]) -> None:
        result = job.outputs[0]
        missing = emit.integer(count)
        if count:
            element = emit.let(job.read(0, index))
            last = emit.let(tirx.max(_place(job, element, count) - 1, emit.integer(0)))
            found = emit.let(tirx.Select(job.read(1, [last]) == element, last, missing))
        else:
            found = missing
        if strict:
            with T.Assert(found < missing, UNKNOWN):
                T.buffer_store(result, found, index)
        else:
            T.buffer_store(result, found, index)

    def body(job: Kernel) -> None:
        whole = job.shape(0)
        if 0 in whole:
            T.evaluate(0)
            return
        loop = emit.serial(job.count(whole)) if strict else job.shared(whole, whole)
        with loop as flat:
            one(job, emit.unflatten(flat, shape) if shape else [])

    return kernel(call, cpu, body)


RULES: dict[str, Rule] = {}
KERNELS: dict[str, KernelRule] = {"lookup": _rule}
REASONS: dict[str, Reason] = {}
