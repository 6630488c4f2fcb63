# pyright: standard
"""Reading operands that broadcast, element by element."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm_ffi
from tvm import te as typed_te

from leptonc.backends.tvm.binding import PrimExpr, tirx
from leptonc.backends.tvm.lowering import TVM_DTYPE, LowerCall, literal
from leptonc.ir.graph import Value
from leptonc.ir.types import DType

# Tensor expressions: TVM adds their members at run time, so that a type checker can only be misled.
te: Any = typed_te
Tensor = Any


def operand(call: LowerCall, slot: int = 0) -> Tensor:
    """The tensor of an operand."""
    return call[slot]


def broadcast_read(
    tensor: Tensor, out_rank: int, index: Sequence[PrimExpr], shape: Sequence[PrimExpr] = ()
) -> PrimExpr:
    """The element of `tensor` that broadcasting puts at `index` of a tensor of `out_rank` axes.

    `shape` are the extents of that tensor: an extent only known at run time that may differ from
    them is read so that 1 broadcasts and nothing is read out of bounds. Without `shape` the
    extents are taken for equal.
    """
    offset = out_rank - len(tensor.shape)
    at: list[Any] = []
    for axis, extent in enumerate(tensor.shape):
        out = offset + axis
        if out < 0 or (isinstance(extent, tirx.IntImm) and int(extent) == 1):
            at.append(tirx.const(0, str(extent.ty)))
        elif isinstance(extent, tirx.IntImm) or not shape or _same(extent, shape[out]):
            at.append(index[out])
        else:
            at.append(tirx.min(index[out], extent - tirx.const(1, str(extent.ty))))
    return tensor(*at)


def _same(a: PrimExpr, b: PrimExpr) -> bool:
    return bool(tvm_ffi.structural_equal(a, b))


def scalar_constant(value: Value) -> PrimExpr | None:
    """A constant of one element as a TIR constant, None for any other value."""
    blob = value.blob
    dtype = value.type.dtype
    if blob is None or blob.size != 1 or dtype not in TVM_DTYPE or dtype is DType.BF16:
        return None
    return literal(blob.array.reshape(-1)[0], dtype)
