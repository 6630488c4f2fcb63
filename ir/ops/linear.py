"""Matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim
from leptonc.ir.ops.bf16 import ROUNDED, rounded
from leptonc.ir.ops.broadcasting import (
    FLOATS,
    broadcast_shapes,
    check_dtype,
    check_same_dtype,
    shown_shape,
)  # fmt: skip
from leptonc.ir.ops.extents import broadcasts_to, differ, natural
from leptonc.ir.table import Attr, Evaluation, Inference, Trait, define
from leptonc.ir.types import DType, TensorType

PRODUCT_DTYPES = FLOATS | {DType.I32, DType.I64, DType.U32, DType.U64}


def matmul_shape(name: str, a: Sequence[Dim], b: Sequence[Dim]) -> tuple[Dim, ...]:
    """The extents of numpy's matrix product; raises E103 where the operands do not chain."""
    if not a or not b:
        raise LeptonError(
            f"{name} of {shown_shape(a)} and {shown_shape(b)}: a scalar has no matrix product",
            code="E103",
        )
    rows, inner = (a[-2:-1], a[-1])
    depth, columns = (b[-2], b[-1:]) if len(b) > 1 else (b[0], ())
    if isinstance(inner, int) and isinstance(depth, int) and inner != depth:
        raise LeptonError(
            f"{name} of {shown_shape(a)} and {shown_shape(b)}: {inner} columns meet {depth} rows",
            code="E103",
        )
    return (*broadcast_shapes(a[:-2], b[:-2]), *rows, *columns)


def matrix_product(a: Array, b: Array) -> Array:
    """Numpy's matrix product in the operands' natural precision, narrowed back."""
    wide = natural(a.dtype)
    return np.asarray(np.matmul(a.astype(wide), b.astype(wide))).astype(a.dtype)


def _matmul_infer(call: Inference) -> TensorType:
    check_dtype(call, "a", PRODUCT_DTYPES)
    dtype = check_same_dtype(call, "a", "b")
    return TensorType(dtype, matmul_shape("matmul", call.types[0].shape, call.types[1].shape))


MATMUL = define(
    "matmul(a, b)", "Matrix product of the last two axes; leading axes broadcast.",
    infer=_matmul_infer, evaluate=lambda call: matrix_product(call[0], call[1]),
    traits=[Trait.PRODUCT], onnx="MatMul",
)  # fmt: skip


def _gemm_infer(call: Inference) -> TensorType:
    check_dtype(call, "a", PRODUCT_DTYPES)
    dtype = check_same_dtype(call, "a", "b", "bias")
    a, b = call.types[0], call.types[1]
    if a.rank != 2 or b.rank != 2:
        raise LeptonError(f"gemm of {a} and {b}: both should be matrices", code="E103")
    left = a.shape[::-1] if call.int("transA") else a.shape
    right = b.shape[::-1] if call.int("transB") else b.shape
    shape = matmul_shape("gemm", left, right)
    bias = call.type("bias")
    if bias is not None and not broadcasts_to(bias.shape, shape):
        raise LeptonError(
            f"gemm: the bias {bias} does not broadcast to {shown_shape(shape)}", code="E103"
        )
    return TensorType(dtype, shape)


def _gemm_evaluate(call: Evaluation) -> Array:
    a, b, bias = call[0], call[1], call.get("bias")
    wide, alpha, beta = natural(a.dtype), call.float("alpha"), call.float("beta")
    left = a.T if call.int("transA") else a
    right = b.T if call.int("transB") else b
    y = np.matmul(left.astype(wide), right.astype(wide))
    if alpha != 1:
        y = y * alpha
    if bias is not None and beta != 0:
        y = y + (bias.astype(wide) if beta == 1 else bias.astype(wide) * beta)
    return y.astype(a.dtype)


GEMM = define(
    "gemm(a, b, bias?)",
    "alpha a b + beta bias, the matrices transposed where asked.",
    infer=_gemm_infer,
    evaluate=_gemm_evaluate,
    attrs={
        "alpha": Attr("float", 1.0),
        "beta": Attr("float", 1.0),
        "transA": Attr("int", 0),
        "transB": Attr("int", 0),
    },
    traits=[Trait.PRODUCT],
    onnx="Gemm",
    since=7,
)


def _linear_infer(call: Inference) -> TensorType:
    check_dtype(call, "x", PRODUCT_DTYPES)
    dtype = check_same_dtype(call, "x", "w", "bias")
    x, w, bias = call.types[0], call.types[1], call.type("bias")
    if w.rank != 2:
        raise LeptonError(f"linear: the weight {w} should be a matrix", code="E103")
    weight = w.shape[::-1] if call.attrs["transposed"] else w.shape
    shape = matmul_shape("linear", x.shape, weight)
    if bias is not None and (bias.rank != 1 or differ(bias.shape[0], weight[1])):
        raise LeptonError(f"linear: the bias {bias} should hold {weight[1]} numbers", code="E103")
    return TensorType(dtype, shape)


def _linear_evaluate(call: Evaluation) -> Array:
    bias = call.get("bias")
    x, w = rounded(call[0], call[1], call.attrs["rounds"])
    wide = natural(x.dtype)
    y = np.matmul(x.astype(wide), (w.T if call.attrs["transposed"] else w).astype(wide))
    return np.asarray(y if bias is None else y + bias.astype(wide)).astype(x.dtype)


LINEAR = define(
    "linear(x, w, bias?)",
    "Rows times one weight matrix, plus one bias row; `transposed` weights are outputs x inputs. "
    "What it `rounds`, its weight or both operands, is bf16 when it is multiplied.",
    infer=_linear_infer,
    evaluate=_linear_evaluate,
    attrs={"transposed": Attr("bool", False), "rounds": ROUNDED},
    traits=[Trait.PRODUCT],
)


def _fused_infer(call: Inference) -> TensorType:
    check_dtype(call, "a", FLOATS)
    dtype = check_same_dtype(call, "a", "b")
    a, b = (arranged(type.shape, call, side) for type, side in zip(call.types, "AB", strict=True))
    return TensorType(dtype, matmul_shape("fused_matmul", a, b))


def arranged(axes: Sequence[Any], call: Any, side: str) -> tuple[Any, ...]:
    """The axes of one operand of a fused product in the order the product reads them."""
    order = tuple(axes)
    if call.int(f"transBatch{side}") and len(order) > 2:
        order = (*order[1:-1], order[0], order[-1])
    return (*order[:-2], *order[:-3:-1]) if call.int(f"trans{side}") and len(order) > 1 else order


def _fused_evaluate(call: Evaluation) -> Array:
    a, b = (
        x.transpose(arranged(range(x.ndim), call, side))
        for x, side in zip(call.items, "AB", strict=True)
    )
    wide = natural(a.dtype)
    return np.asarray(np.matmul(a.astype(wide), b.astype(wide)) * call.float("alpha")).astype(
        a.dtype
    )


FUSED_MATMUL = define(
    "fused_matmul(a, b)", "Scaled matrix product of operands that are transposed where asked.",
    infer=_fused_infer, evaluate=_fused_evaluate,
    attrs={
        "alpha": Attr("float", 1.0), "transA": Attr("int", 0), "transB": Attr("int", 0),
        "transBatchA": Attr("int", 0), "transBatchB": Attr("int", 0),
    },
    traits=[Trait.PRODUCT], onnx="FusedMatMul", domain="com.microsoft",
)  # fmt: skip
