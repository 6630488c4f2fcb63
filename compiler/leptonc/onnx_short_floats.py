"""Quantised products of 8-bit floats, taken apart into conversions around an ordinary product."""

from __future__ import annotations

from collections.abc import Sequence

from leptonc.ir.graph import Value
from leptonc.ir.ops.broadcasting import FLOATS8
from leptonc.ir.types import DType
from leptonc.onnx_scope import Call


def float8_product(call: Call) -> Sequence[Value] | None:
    """`QLinearMatMul` where 8-bit floats take part; None for bytes, which are summed as such."""
    operands = [call.required(index) for index in range(8)]
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = operands
    if not {value.type.dtype for value in (a, b, y_zero)} & FLOATS8:
        return None
    build = call.build

    def real(value: Value) -> Value:
        return value if value.type.dtype is DType.F32 else build.cast(value, to=DType.F32)

    rows = build.dequantize_linear(a, real(a_scale), a_zero, axis=-2)
    columns = build.dequantize_linear(b, real(b_scale), b_zero, axis=-1)
    return [build.quantize_linear(build.matmul(rows, columns), real(y_scale), y_zero)]
