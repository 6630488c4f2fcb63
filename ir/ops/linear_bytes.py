"""Matrix products with a constant weight that is kept in bytes."""

from __future__ import annotations

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import ceildiv
from leptonc.ir.ops.broadcasting import check_dtype
from leptonc.ir.ops.linear import matmul_shape
from leptonc.ir.table import Attr, Evaluation, Inference, Trait, define
from leptonc.ir.types import DType, TensorType

BLOCK = {"block_size": Attr("int", 0)}


def _infer(call: Inference) -> TensorType:
    check_dtype(call, "x", {DType.F32})
    check_dtype(call, "w", {DType.I8})
    check_dtype(call, "scales", {DType.F32})
    x, w, scales = call.types[0], call.types[1], call.type("scales")
    if w.rank != 2:
        raise LeptonError(f"linear_bytes: the weight {w} should be a matrix", code="E103")
    block = call.int("block_size")
    if (scales is None) != (block == 0):
        raise LeptonError("linear_bytes: scales and a block size go together", code="E103")
    if scales is not None and scales.shape != (ceildiv(w.shape[0], block), w.shape[1]):
        raise LeptonError(
            f"linear_bytes: the scales {scales} do not fit blocks of {block} of {w}", code="E103"
        )
    return TensorType(DType.F32, matmul_shape("linear_bytes", x.shape, w.shape))


def _evaluate(call: Evaluation) -> Array:
    x, w, scales = call[0], call[1].astype(np.float32), call.get("scales")
    if scales is not None:
        w = w * np.repeat(scales, call.int("block_size"), axis=0)[: w.shape[0]]
    return np.asarray(np.matmul(x, w))


LINEAR_BYTES = define(
    "linear_bytes(x, w, scales?)",
    "Rows times a weight of bytes; each column's stretches of `block_size` have a scale.",
    infer=_infer, evaluate=_evaluate, attrs=BLOCK, traits=[Trait.PRODUCT],
)  # fmt: skip


def _packed_infer(call: Inference) -> TensorType:
    x, w = call.types[0], call.types[1]
    if w.rank != 3 or x.shape[-1] != w.shape[1]:
        raise LeptonError(f"packed_linear_bytes of {x} and {w}: the depths differ", code="E103")
    return x.with_shape(*x.shape[:-1], call.int("columns"))


def _packed_evaluate(call: Evaluation) -> Array:
    x, w, scales = call[0], call[1].astype(np.float32), call.get("scales")
    if scales is not None:
        w = w * np.repeat(scales, call.int("block_size"), axis=1)[:, : w.shape[1]]
    matrix = np.moveaxis(w, 0, 1).reshape(w.shape[1], -1)[:, : call.int("columns")]
    return np.asarray(np.matmul(x, matrix))


PACKED_LINEAR_BYTES = define(
    "packed_linear_bytes(x, w, scales?)",
    "`linear_bytes` with weight and scales as [panels, depth or blocks, panel width].",
    infer=_packed_infer, evaluate=_packed_evaluate,
    attrs={**BLOCK, "columns": Attr("int", required=True)}, traits=[Trait.PRODUCT],
)  # fmt: skip
