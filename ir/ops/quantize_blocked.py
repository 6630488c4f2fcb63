"""Quantising tensors with channels in blocks by their own range."""

from __future__ import annotations

from leptonc.ir.blob import Array
from leptonc.ir.ops.blocked import pack_array, unpack_array
from leptonc.ir.ops.quantize import DYNAMIC_QUANTIZE_LINEAR
from leptonc.ir.table import Attr, Evaluation, define


def _evaluate(call: Evaluation) -> tuple[Array, ...]:
    plain = unpack_array(call[0], call.int("channels"))
    assert DYNAMIC_QUANTIZE_LINEAR.evaluate is not None
    given = Evaluation(DYNAMIC_QUANTIZE_LINEAR, [plain], ["x"], {})
    y, scale, point = DYNAMIC_QUANTIZE_LINEAR.evaluate(given)
    return pack_array(y, call[0].shape[-1]), scale, point


DYNAMIC_QUANTIZE_BLOCKED = define(
    "dynamic_quantize_blocked(x)",
    "`dynamic_quantize_linear` of a blocked tensor of so many `channels`; what fills up the last "
    "block tells nothing of their range.",
    infer=DYNAMIC_QUANTIZE_LINEAR.infer, evaluate=_evaluate,
    attrs={"channels": Attr("int", required=True)},
)  # fmt: skip
