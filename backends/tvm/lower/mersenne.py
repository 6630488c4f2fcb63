# pyright: standard
"""The Mersenne twister of 32 bits, which gives the numbers of ONNX's reference."""

from __future__ import annotations

import numpy as np
from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.tvm.binding import Buffer, PrimExpr, tirx
from leptonc.backends.tvm.lower.opaque import Kernel
from leptonc.backends.tvm.lower.parts import cast, natural
from leptonc.ir.dims import product

SIZE, MIDDLE = 624, 397
UPPER, LOWER, TWIST, FACTOR = 0x80000000, 0x7FFFFFFF, 0x9908B0DF, 1812433253


def span(low: float, high: float, dtype: str) -> float:
    """The width of a range, rounded as arithmetic in `dtype` rounds it."""
    wide = np.dtype(dtype).type
    return float(wide(high) - wide(low))


def _u32(value: int) -> PrimExpr:
    return tirx.const(value, "uint32")


def uniform(job: Kernel) -> None:
    """Write numbers from `low` to before `high`, of 53 random bits each, in row-major order."""
    call, shape = job.call, job.call.op.result.type.shape
    dtype, extents = natural(call.dtype()), tuple(call.dim(dim) for dim in shape)
    state, place = emit.workspace((SIZE,), "uint32"), emit.workspace((1,), "int64")
    seed = job.read(0, [call.index(0)] * len(job.shape(0)))
    _start(state, place, seed)
    low, high = call.known.float("low"), call.known.float("high")
    factor, summand = tirx.const(span(low, high, dtype), dtype), tirx.const(low, dtype)
    with emit.serial(call.dim(product(shape))) as at:
        high_bits = emit.let(_next(state, place) >> _u32(5)).astype("float64")
        low_bits = emit.let(_next(state, place) >> _u32(6)).astype("float64")
        unit = (high_bits * tirx.const(2.0**26, "float64") + low_bits) * tirx.const(
            2.0**-53, "float64"
        )
        value = cast(cast(unit, dtype) * factor + summand, call.dtype())
        T.buffer_store(job.outputs[0], value, emit.unflatten(at, extents))


def _start(state: Buffer, place: Buffer, seed: PrimExpr) -> None:
    emit.store(state, seed.astype("uint32"), [0])
    with emit.serial(SIZE - 1) as at:
        last = emit.let(emit.load(state, [at]))
        product = (last ^ (last >> _u32(30))).astype("uint64") * tirx.const(FACTOR, "uint64")
        number = product + (at + 1).astype("uint64")  # in 64 bits, for it must not wrap
        emit.store(state, (number & tirx.const(0xFFFFFFFF, "uint64")).astype("uint32"), [at + 1])
    emit.store(place, tirx.const(SIZE, "int64"), [0])


def _next(state: Buffer, place: Buffer) -> PrimExpr:
    """The next 32 bits."""
    with T.If(emit.load(place, [0]) >= SIZE), T.Then():
        _twist(state)
        emit.store(place, tirx.const(0, "int64"), [0])
    bits = emit.let(emit.load(state, [emit.load(place, [0])]))
    emit.store(place, emit.load(place, [0]) + 1, [0])
    bits = emit.let(bits ^ (bits >> _u32(11)))
    bits = emit.let(bits ^ ((bits << _u32(7)) & _u32(0x9D2C5680)))
    bits = emit.let(bits ^ ((bits << _u32(15)) & _u32(0xEFC60000)))
    return emit.let(bits ^ (bits >> _u32(18)))


def _twist(state: Buffer) -> None:
    with emit.serial(SIZE) as at:
        behind = tirx.floormod(at + 1, SIZE)
        bits = emit.let(
            (emit.load(state, [at]) & _u32(UPPER)) | (emit.load(state, [behind]) & _u32(LOWER))
        )
        odd = tirx.Select((bits & _u32(1)) == _u32(1), _u32(TWIST), _u32(0))
        far = emit.load(state, [tirx.floormod(at + MIDDLE, SIZE)])
        emit.store(state, far ^ (bits >> _u32(1)) ^ odd, [at])
