"""Operations whose weights lie in the order in which a target's kernels read them; made just before code generation."""

from __future__ import annotations

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.ops.extents import natural
from leptonc.ir.table import Attr, Evaluation, Inference, Trait, define
from leptonc.ir.types import TensorType


def _linear_infer(call: Inference) -> TensorType:
    x, w = call.types[0], call.types[1]
    if w.rank != 3 or x.shape[-1] != w.shape[1]:
        raise LeptonError(f"packed_linear of {x} and {w}: the depths differ", code="E103")
    return x.with_shape(*x.shape[:-1], call.int("columns"))


def _linear_evaluate(call: Evaluation) -> Array:
    x, w, bias = call[0], call[1], call.get("bias")
    wide = natural(x.dtype)
    matrix = np.moveaxis(w, 0, 1).reshape(w.shape[1], -1)[:, : call.int("columns")]
    y = np.matmul(x.astype(wide), matrix.astype(wide))
    return (y if bias is None else y + bias.astype(wide)).astype(x.dtype)


PACKED_LINEAR = define(
    "packed_linear(x, w, bias?)",
    "Rows times a weight of [panels, depth, panel width] with `columns` real columns, plus one bias row.",
    infer=_linear_infer, evaluate=_linear_evaluate,
    attrs={"columns": Attr("int", required=True)}, traits=[Trait.PRODUCT],
)  # fmt: skip
