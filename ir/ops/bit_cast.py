"""The row that reads the bits of elements as another type."""

from __future__ import annotations

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.table import Attr, Evaluation, Inference, Trait, define
from leptonc.ir.types import DType, TensorType


def _infer(call: Inference) -> TensorType:
    source, target = call.types[0], call.dtype("to")
    if DType.STR in (source.dtype, target) or source.dtype.width != target.width:
        raise LeptonError(
            f"bit_cast of {source.dtype} to {target}, should be types of as many bits", code="E102"
        )
    return source.with_dtype(target)


def _evaluate(call: Evaluation) -> Array:
    target = call.dtype("to")
    array = np.array(call[0], order="C")
    if target.width == target.bits:
        return array.view(target.numpy)
    codes = array.view(np.uint8) & np.uint8(2**target.width - 1)
    return codes.view(target.numpy)


BIT_CAST = define(
    "bit_cast(x)",
    "The same bits as elements of another type.",
    infer=_infer,
    evaluate=_evaluate,
    attrs={"to": Attr("dtype", required=True)},
    traits=[Trait.ELEMENTWISE],
    onnx="BitCast",
)
