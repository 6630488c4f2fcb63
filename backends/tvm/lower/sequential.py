# pyright: standard
"""Lowering of operations whose steps build on each other: determinants, transforms, unpooling."""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.tvm.lower.fourier import dft, dft_reason
from leptonc.backends.tvm.lower.ngrams import count_ngrams
from leptonc.backends.tvm.lower.opaque import Kernel, kernel
from leptonc.backends.tvm.lower.parts import cast, natural
from leptonc.backends.tvm.lowering import TVM_DTYPE, KernelRule, LowerCall, Reason, Rule
from leptonc.backends.tvm.vector_math import absolute
from leptonc.ir.graph import Op
from leptonc.ir.ops.pool import unpooled_extents
from leptonc.ir.table import Inference


def _det(call: LowerCall, cpu: Any) -> PrimFunc:
    """Elimination with the largest pivots; the product of the pivots is the determinant."""
    *lead, size, _ = call.op.operands[0].type.shape
    dtype = natural(TVM_DTYPE[call.op.operands[0].type.dtype])
    rows = call.dim(size)

    def body(job: Kernel) -> None:
        with emit.serial(job.count(lead)) as position:
            head = emit.unflatten(position, tuple(call.dim(dim) for dim in lead)) if lead else []
            matrix = emit.workspace((rows, rows), dtype)
            with emit.serial(rows) as i, emit.serial(rows) as j:
                emit.store(matrix, cast(job.read(0, [*head, i, j]), dtype), [i, j])
            total = emit.Register(1, dtype)
            total.set(tirx.const(1, dtype))
            with emit.serial(rows) as k:
                _eliminate(matrix, rows, k, total)
            T.buffer_store(job.outputs[0], cast(total.lane(0), call.dtype()), head)

    return kernel(call, cpu, body)


def _eliminate(matrix: Any, rows: Any, k: Any, total: emit.Register) -> None:
    """Bring the largest element of column `k` up, multiply `total` by it, clear below."""
    zero = tirx.const(0, str(matrix.dtype))
    best = emit.Register(1, "int64")
    best.set(k)
    with emit.serial(rows - k - 1, k + 1) as i:
        better = absolute(emit.load(matrix, [i, k])) > absolute(
            emit.load(matrix, [best.lane(0), k])
        )
        with T.If(better), T.Then():
            best.set(i)
    with T.If(best.lane(0) != k), T.Then():
        total.set(zero - total.lane(0))
        with emit.serial(rows) as j:
            held = emit.let(emit.load(matrix, [k, j]))
            emit.store(matrix, emit.load(matrix, [best.lane(0), j]), [k, j])
            emit.store(matrix, held, [best.lane(0), j])
    pivot = emit.let(emit.load(matrix, [k, k]))
    total.set(total.lane(0) * pivot)
    with T.If(pivot != zero), T.Then(), emit.serial(rows - k - 1, k + 1) as i:
        factor = emit.let(emit.load(matrix, [i, k]) / pivot)
        with emit.serial(rows - k - 1, k + 1) as j:
            reduced = emit.load(matrix, [i, j]) - factor * emit.load(matrix, [k, j])
            emit.store(matrix, reduced, [i, j])


def _max_unpool(call: LowerCall, cpu: Any) -> PrimFunc:
    """Zeros, then each element at the index it was taken from."""
    shape = call.op.operands[0].type.shape
    whole = [*shape[:2], *unpooled_extents(call.known, shape[2:])]
    result = call.op.results[0].type.shape

    def body(job: Kernel) -> None:
        target = job.outputs[0]
        extents = tuple(call.dim(dim) for dim in result)
        with emit.serial(job.count(result)) as position:
            emit.store(target, tirx.const(0, call.dtype()), emit.unflatten(position, extents))
        with emit.serial(job.count(shape)) as position:
            source = emit.unflatten(position, tuple(call.dim(dim) for dim in shape))
            flat = emit.let(job.read(1, source))
            index = emit.unflatten(flat, tuple(call.dim(dim) for dim in whole))
            inside = [at < extent for at, extent in zip(index, extents, strict=True)]
            fits = tirx.all(flat >= 0, flat < job.count(whole), *inside)
            with T.If(fits), T.Then():
                emit.store(target, job.read(0, source), index)

    return kernel(call, cpu, body)


def _unpool_reason(op: Op) -> str:
    call = Inference(op.definition, op.operands, op.operand_names, op.attrs)
    known = op.operand("output_shape") is None or call.content("output_shape") is not None
    return "" if known else "output_shape is known at run time only"


RULES: dict[str, Rule] = {}
KERNELS: dict[str, KernelRule] = {
    "count_ngrams": count_ngrams, "det": _det, "dft": dft, "max_unpool": _max_unpool,
}  # fmt: skip
REASONS: dict[str, Reason] = {"dft": dft_reason, "max_unpool": _unpool_reason}
