# pyright: standard
"""A transposition by itself: square tiles, so that both reads and writes use whole cache lines."""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.tirx import PrimFunc

from leptonc.backends.cpu import emit
from leptonc.backends.tvm.lower.opaque import Kernel, kernel
from leptonc.backends.tvm.lowering import LowerCall
from leptonc.ir.dims import ceildiv
from leptonc.ir.ops.shape import permutation

TILE = 16


def transpose_kernel(call: LowerCall, cpu: Any) -> PrimFunc | None:
    """The function of a transposition that moves the last axis; None for any other."""
    perm = permutation(call.known)
    rank = len(perm)
    if rank < 2 or perm[-1] == rank - 1:
        return None
    shape = call.op.results[0].type.shape
    moved = perm.index(rank - 1)
    """The result's axis along which the operand lies contiguous."""
    others = [axis for axis in range(rank - 1) if axis != moved]
    rows, columns = call.dim(shape[moved]), call.dim(shape[-1])
    dtype = call.dtype()

    def body(job: Kernel) -> None:
        steps = [*(shape[axis] for axis in others), ceildiv(shape[moved], TILE)]
        with job.shared(steps, shape) as step:
            *head, at = emit.unflatten(step, tuple(call.dim(dim) for dim in steps))
            first = emit.let(at * TILE)
            height = emit.let(tirx.min(rows - first, call.index(TILE)))
            with emit.serial(call.dim(ceildiv(shape[-1], TILE))) as column:
                left = emit.let(column * TILE)
                width = emit.let(tirx.min(columns - left, call.index(TILE)))
                tile = emit.workspace((TILE, TILE), dtype)

                def index(row: Any, column: Any, first: Any = first, left: Any = left) -> list[Any]:
                    found: list[Any] = [None] * rank
                    for axis, place in zip(others, head, strict=True):
                        found[axis] = place
                    found[moved], found[-1] = first + row, left + column
                    return found

                with emit.serial(width) as j, emit.serial(height) as i:
                    place = index(i, j)
                    source: list[Any] = [None] * rank
                    for axis, value in zip(perm, place, strict=True):
                        source[axis] = value
                    emit.store(tile, job.read(0, source), [j, i])
                with emit.serial(height) as i, emit.serial(width) as j:
                    emit.store(job.outputs[0], emit.load(tile, [j, i]), index(i, j))

    return kernel(call, cpu, body)
