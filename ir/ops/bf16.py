"""Products of operands that are rounded to bf16, with sums of fp32."""

from __future__ import annotations

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import ceildiv
from leptonc.ir.ops.broadcasting import check_dtype
from leptonc.ir.ops.extents import natural
from leptonc.ir.table import Attr, Evaluation, Inference, Trait, define
from leptonc.ir.types import DType, TensorType

NONE, WEIGHT, OPERANDS = "", "weight", "operands"
ROUNDED = Attr("str", NONE)
"""What of a product of f32 is rounded to bf16 before it is multiplied: nothing, its weight, or both
operands."""


def to_bf16(x: Array) -> Array:
    """The nearest bf16 of each number, ties to even ones, in the type that it has."""
    with np.errstate(all="ignore"):
        return np.asarray(x.astype(DType.BF16.numpy)).astype(x.dtype)


def rounded(x: Array, w: Array, what: object) -> tuple[Array, Array]:
    """The operands of a product as they are multiplied."""
    return (to_bf16(x) if what == OPERANDS else x), (w if what == NONE else to_bf16(w))


def _packed_infer(call: Inference) -> TensorType:
    check_dtype(call, "x", {DType.F32})
    check_dtype(call, "w", {DType.U16})
    x, w = call.types[:2]
    if w.rank != 4 or w.shape[3] != 2 or w.shape[1] != ceildiv(x.shape[-1], 2):
        raise LeptonError(f"packed_linear_bf16 of {x} and {w}: the depths differ", code="E103")
    return x.with_shape(*x.shape[:-1], call.int("columns"))


def _packed_evaluate(call: Evaluation) -> Array:
    x, w, bias = call[0], call[1], call.get("bias")
    panels, steps, panel, together = w.shape
    bits = w.transpose(1, 3, 0, 2).reshape(steps * together, panels * panel)
    matrix = from_bits(bits[: x.shape[-1], : call.int("columns")])
    wide = natural(x.dtype)
    left = to_bf16(x) if call.attrs["rounds"] == OPERANDS else x
    y = np.matmul(left.astype(wide), matrix.astype(wide))
    return (y if bias is None else y + bias.astype(wide)).astype(x.dtype)


def bits_of(x: Array) -> Array:
    """The bits of the nearest bf16 of each number."""
    with np.errstate(all="ignore"):
        return np.asarray(x.astype(DType.BF16.numpy)).view(np.uint16)


def from_bits(bits: Array) -> Array:
    """The numbers with these bits as bf16."""
    return np.asarray(bits.astype(np.uint32) << 16).view(np.float32)


PACKED_LINEAR_BF16 = define(
    "packed_linear_bf16(x, w, bias?)",
    "`linear` that `rounds` its weight or both operands, with the weight's bits as "
    "[panels, pairs of the depth, panel width, 2] with `columns` real columns.",
    infer=_packed_infer, evaluate=_packed_evaluate,
    attrs={"columns": Attr("int", required=True), "rounds": ROUNDED}, traits=[Trait.PRODUCT],
)  # fmt: skip
