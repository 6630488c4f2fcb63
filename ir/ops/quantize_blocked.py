"""Quantising tensors with channels in blocks by their own range."""

from __future__ import annotations

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.ops.blocked import pack_array, unpack_array
from leptonc.ir.ops.quantize import DYNAMIC_QUANTIZE_LINEAR
from leptonc.ir.table import Attr, Evaluation, Inference, define
from leptonc.ir.types import TensorType


def _infer(call: Inference) -> tuple[TensorType, ...]:
    x, factor = call.types[0], call.type("factor")
    if factor is not None and factor != x.with_shape(*x.shape[:2], 1, 1, x.shape[-1]):
        raise LeptonError(
            f"dynamic_quantize_blocked of {x} times {factor}, should be a number for each channel",
            code="E103",
        )
    found = DYNAMIC_QUANTIZE_LINEAR.infer(call)
    assert isinstance(found, tuple)
    return found


def _evaluate(call: Evaluation) -> tuple[Array, ...]:
    factor = call.get("factor")
    x = call[0] if factor is None else call[0] * factor
    plain = unpack_array(x, call.int("channels"))
    assert DYNAMIC_QUANTIZE_LINEAR.evaluate is not None
    given = Evaluation(DYNAMIC_QUANTIZE_LINEAR, [plain], ["x"], {})
    y, scale, point = DYNAMIC_QUANTIZE_LINEAR.evaluate(given)
    return pack_array(y, call[0].shape[-1]), scale, point


DYNAMIC_QUANTIZE_BLOCKED = define(
    "dynamic_quantize_blocked(x, factor?)",
    "`dynamic_quantize_linear` of a blocked tensor of so many `channels`; what fills up the last "
    "block tells nothing of their range. What is quantised may be x times a `factor` of each "
    "channel of an image.",
    infer=_infer, evaluate=_evaluate,
    attrs={"channels": Attr("int", required=True)},
)  # fmt: skip
