"""Matrix products of small integers with a constant weight, summed in 32 bits."""

from __future__ import annotations

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import ceildiv
from leptonc.ir.ops.broadcasting import check_dtype
from leptonc.ir.ops.linear import matmul_shape
from leptonc.ir.table import Attr, Evaluation, Inference, Trait, define
from leptonc.ir.types import DType, TensorType

WEIGHTS = frozenset({DType.I8, DType.I16})


def _infer(call: Inference) -> TensorType:
    check_dtype(call, "x", {DType.I16, DType.U8})
    check_dtype(call, "w", WEIGHTS)
    x, w = call.types
    if w.rank != 2:
        raise LeptonError(f"integer_linear: the weight {w} should be a matrix", code="E103")
    return TensorType(DType.I32, matmul_shape("integer_linear", x.shape, w.shape))


def _product(x: Array, w: Array) -> Array:
    """The sums modulo 2^32."""
    return np.asarray(np.matmul(x.astype(np.int32), w.astype(np.int32)))


def neighbours_of(weight: Array) -> int:
    """The largest sum of two neighbours in the depth that have the same sign, as a magnitude.

    An unsigned byte each times this is what adding the products of two neighbours may give.
    """
    depth, columns = weight.shape
    filled = np.zeros((depth + depth % 2, columns), np.int32)
    filled[:depth] = weight
    sums = (np.maximum(sign * filled, 0).reshape(-1, 2, columns).sum(1) for sign in (1, -1))
    return max(int(each.max(initial=0)) for each in sums)


INTEGER_LINEAR = define(
    "integer_linear(x, w)",
    "Rows of integers times a weight of 8 or 16 bits, exact; sums of 32 bits, which wrap around.",
    infer=_infer, evaluate=lambda call: _product(call[0], call[1]), traits=[Trait.PRODUCT],
)  # fmt: skip


def _packed_infer(call: Inference) -> TensorType:
    check_dtype(call, "x", {DType.I16, DType.U8})
    check_dtype(call, "w", WEIGHTS)
    x, w = call.types
    together = 4 if x.dtype is DType.U8 else 2
    if w.rank != 4 or w.shape[3] != together or w.shape[1] != ceildiv(x.shape[-1], together):
        raise LeptonError(f"packed_integer_linear of {x} and {w}: the depths differ", code="E103")
    return TensorType(DType.I32, (*x.shape[:-1], call.int("columns")))


def _packed_evaluate(call: Evaluation) -> Array:
    x, w = call[0], call[1]
    panels, steps, panel, together = w.shape
    matrix = w.transpose(1, 3, 0, 2).reshape(steps * together, panels * panel)
    return _product(x, matrix[: x.shape[-1], : call.int("columns")])


PACKED_INTEGER_LINEAR = define(
    "packed_integer_linear(x, w)",
    "`integer_linear` with the weight as [panels, steps of the depth, width, elements].",
    infer=_packed_infer, evaluate=_packed_evaluate,
    attrs={"columns": Attr("int", required=True)}, traits=[Trait.PRODUCT],
)  # fmt: skip
