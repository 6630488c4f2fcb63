"""The row that reads the bits of elements as another type."""

from __future__ import annotations

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.table import Attr, Evaluation, Inference, Trait, define
from leptonc.ir.types import DType, TensorType

_NARROW = {
    DType.I4: 4, DType.U4: 4, DType.F4E2M1: 4, DType.I2: 2, DType.U2: 2,
}  # fmt: skip
"""Bits of the types that have fewer than their byte in memory."""


def _width(dtype: DType) -> int:
    return _NARROW.get(dtype, dtype.bits)


def _infer(call: Inference) -> TensorType:
    source, target = call.types[0], call.dtype("to")
    if DType.STR in (source.dtype, target) or _width(source.dtype) != _width(target):
        raise LeptonError(
            f"bit_cast of {source.dtype} to {target}, should be types of as many bits", code="E102"
        )
    return source.with_dtype(target)


def _evaluate(call: Evaluation) -> Array:
    target = call.dtype("to")
    array = np.array(call[0], order="C")
    if target not in _NARROW:
        return array.view(target.numpy)
    mask = 2 ** _NARROW[target] - 1
    codes = array.view(np.uint8) if array.dtype.kind == "V" else array.astype(np.int8)
    codes = (codes.view(np.uint8) & mask).astype(np.uint8)
    if target is DType.F4E2M1:
        return codes.view(target.numpy)
    if not target.is_signed:
        return codes.astype(target.numpy)
    signed = codes.astype(np.int8)
    signed[signed > mask // 2] -= np.int8(mask + 1)
    return signed.astype(target.numpy)


BIT_CAST = define(
    "bit_cast(x)",
    "The same bits as elements of another type.",
    infer=_infer,
    evaluate=_evaluate,
    attrs={"to": Attr("dtype", required=True)},
    traits=[Trait.ELEMENTWISE],
    onnx="BitCast",
)
