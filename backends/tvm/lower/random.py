# pyright: standard
"""Lowering of random numbers: bits of a seed and a place, and what is made of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.tvm.binding import PrimExpr, tirx
from leptonc.backends.tvm.lower import mersenne
from leptonc.backends.tvm.lower.opaque import Kernel, kernel
from leptonc.backends.tvm.lower.parts import cast, natural
from leptonc.backends.tvm.lowering import KernelRule, LowerCall, Reason, Rule
from leptonc.backends.tvm.vector_math import log
from leptonc.backends.tvm.vector_power import sqrt
from leptonc.backends.tvm.vector_trigonometry import cos
from leptonc.ir.graph import Op
from leptonc.ir.ops.random import GAMMA, LAST_SHIFT, LEAST, MIXERS
from leptonc.ir.table import Inference

CHUNK = 4096
"""So many numbers are made by one thread at a time."""

MASK = 0xFFFFFFFF
"""Half of 64 bits."""

Number = Callable[[LowerCall, PrimExpr, PrimExpr], PrimExpr]
"""A random number from where its seed starts and its place."""


def _u64(value: int) -> PrimExpr:
    return tirx.const(value, "uint64")


def _halves(value: PrimExpr) -> tuple[PrimExpr, PrimExpr]:
    return value & _u64(MASK), value >> _u64(32)


def _joined(low: PrimExpr, high: PrimExpr) -> PrimExpr:
    """The number of a lower half and an upper one; what a half has too much is carried, or lost."""
    low, high = emit.let(low), high + emit.let(low >> _u64(32))
    return emit.let((high << _u64(32)) | (low & _u64(MASK)))


def _product(value: PrimExpr, factor: int) -> PrimExpr:
    """The lower 64 bits of a product. LLVM is told that unsigned products never wrap."""
    low, high = map(emit.let, _halves(value))
    small, large = factor & MASK, factor >> 32
    cross = ((high * _u64(small)) & _u64(MASK)) + ((low * _u64(large)) & _u64(MASK))
    return _joined(low * _u64(small), cross)


def _sum(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """The lower 64 bits of a sum."""
    first, second = _halves(a), _halves(b)
    return _joined(first[0] + second[0], first[1] + second[1])


def _mixed(state: PrimExpr) -> PrimExpr:
    for shift, factor in MIXERS:
        state = _product(emit.let(state ^ (state >> _u64(shift))), factor)
    return emit.let(state ^ (state >> _u64(LAST_SHIFT)))


def _word(start: PrimExpr, number: PrimExpr) -> PrimExpr:
    """The random bits with a number, which counts from 0."""
    counter = emit.let(number.astype("uint64") + _u64(1))
    return _mixed(_sum(start, _product(counter, GAMMA)))


def _fraction(bits: PrimExpr, dtype: str) -> PrimExpr:
    """A number from 0 to before 1."""
    kept = 53 if dtype == "float64" else 24
    signed = "int64" if dtype == "float64" else "int32"
    return (bits >> _u64(64 - kept)).astype(signed).astype(dtype) * tirx.const(2.0**-kept, dtype)


def _scaled(call: LowerCall, value: PrimExpr, factor: float, summand: float) -> PrimExpr:
    dtype = natural(call.dtype())
    return cast(value * tirx.const(factor, dtype) + tirx.const(summand, dtype), call.dtype())


def _uniform(call: LowerCall, start: PrimExpr, place: PrimExpr) -> PrimExpr:
    low, high = call.known.float("low"), call.known.float("high")
    unit = _fraction(_word(start, place), natural(call.dtype()))
    return _scaled(call, unit, mersenne.span(low, high, natural(call.dtype())), low)


def _normal(call: LowerCall, start: PrimExpr, place: PrimExpr) -> PrimExpr:
    dtype = natural(call.dtype())
    one = tirx.const(1, dtype)
    if dtype == "float64":
        radius, angle = _word(start, place * 2), _word(start, place * 2 + 1)
    else:
        radius = _word(start, place)
        angle = radius << _u64(32)
    unit = tirx.min(_fraction(radius, dtype) + tirx.const(LEAST[dtype], dtype), one)
    turn = _fraction(angle, dtype) * tirx.const(2 * math.pi, dtype)
    length = emit.let(sqrt(emit.let(log(emit.let(unit))) * tirx.const(-2, dtype)))
    value = length * emit.let(cos(emit.let(turn)))
    return _scaled(call, value, call.known.float("scale"), call.known.float("mean"))


def _each(number: Number) -> KernelRule:
    """A kernel that makes every element by itself, so that threads change nothing."""

    def body(job: Kernel) -> None:
        call, total = job.call, job.count(job.call.op.result.type.shape)
        seed = job.read(0, [call.index(0)] * len(job.shape(0)))
        start = _mixed(_sum(emit.let(seed.astype("uint64")), _u64(GAMMA)))
        target = emit.view(job.outputs[0], (total,))
        chunks = emit.ceildiv(total, CHUNK)
        with emit.outer_loop(chunks, parallel=job.cpu.threads > 1) as chunk:
            first = chunk * CHUNK
            with emit.serial(tirx.min(total - first, CHUNK)) as at:
                emit.store(target, number(call, start, first + at), [first + at])

    def rule(call: LowerCall, cpu: Any) -> PrimFunc:
        one_by_one = call.op.attrs.get("generator") == "mt19937"
        return kernel(call, cpu, mersenne.uniform if one_by_one else body)

    return rule


def _entropy(call: LowerCall, cpu: Any) -> PrimFunc:
    """What the operating system gives, and the count of cycles in case that it gives nothing."""

    def body(job: Kernel) -> None:
        target = job.outputs[0]
        T.buffer_store(target, tirx.const(0, "int64"), [])
        place = tirx.address_of(tirx.BufferLoad(target, []))
        count, flags = tirx.const(8, "uint64"), tirx.const(0, "uint32")
        T.evaluate(tirx.call_extern("int64", "getrandom", place, count, flags))
        cycles = tirx.call_llvm_intrin("int64", "llvm.readcyclecounter")
        T.buffer_store(target, tirx.BufferLoad(target, []) + cycles, [])

    return kernel(call, cpu, body)


def _unknown_shape(op: Op) -> str:
    call = Inference(op.definition, op.operands, op.operand_names, op.attrs)
    return "" if call.content("shape") is not None else "its size depends on data (shape)"


RULES: dict[str, Rule] = {}
KERNELS: dict[str, KernelRule] = {
    "entropy": _entropy,
    "random_normal": _each(_normal),
    "random_uniform": _each(_uniform),
}
REASONS: dict[str, Reason] = {"random_normal": _unknown_shape, "random_uniform": _unknown_shape}
