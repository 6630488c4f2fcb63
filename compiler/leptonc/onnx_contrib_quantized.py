"""Quantised operators of onnxruntime, taken apart into ONNX's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.graph import Value
from leptonc.ir.table import op_named
from leptonc.ir.types import DType
from leptonc.onnx_attributes import fit
from leptonc.onnx_scope import Call

Results: TypeAlias = "Sequence[Value | None]"
Rule: TypeAlias = Callable[[Call], Results]


def _present(*values: Value | None) -> list[Value]:
    return [value for value in values if value is not None]


def _real(call: Call, index: int) -> Value:
    """The real numbers of a quantised operand, its scale and its zero point."""
    parts = _present(call.required(index), call.required(index + 1), call.operand(index + 2))
    return call.build.op("dequantize_linear", parts).result


def _quantized(call: Call, value: Value, index: int) -> Results:
    parts = _present(value, call.required(index), call.operand(index + 1))
    return [call.build.op("quantize_linear", parts).result]


def _between(row: str) -> Rule:
    """Quantised operators of one operand: to real numbers, through `row`, and back."""

    def rule(call: Call) -> Results:
        if call.take("channels_last", "int", 0):
            raise LeptonError(f"{call.op_type} with channels last is not supported", code="E013")
        call.take("opset", "int")
        real = _real(call, 0)
        definition = op_named(row)
        assert definition is not None
        result = call.build.op(definition, [real], fit(definition, call.attributes)).results[0]
        return _quantized(call, result, 3)

    return rule


def _concat(call: Call) -> Results:
    parts = [_real(call, index) for index in range(2, len(call.operands), 3)]
    axis = call.take("axis", "int", 0)
    return _quantized(call, call.build.op("concat", parts, {"axis": axis}).result, 0)


def _integer_product(
    call: Call, a: Value, b: Value, a_zero: Value | None, b_zero: Value | None
) -> Value:
    names = ["a", "b", *(["a_zero_point"] if a_zero else []), *(["b_zero_point"] if b_zero else [])]
    return call.build.op("matmul_integer", _present(a, b, a_zero, b_zero), names=names).result


def _scaled(call: Call, product: Value, *scales: Value) -> Value:
    """An integer product as real numbers."""
    build = call.build
    scale = scales[0]
    for other in scales[1:]:
        scale = build.mul(scale, other)
    return build.mul(build.op("cast", [product], {"to": DType.F32}).result, scale)


def _integer_to_float(call: Call) -> Results:
    product = _integer_product(
        call, call.required(0), call.required(1), call.operand(4), call.operand(5)
    )
    real, bias = _scaled(call, product, call.required(2), call.required(3)), call.operand(6)
    return [real if bias is None else call.build.add(real, bias)]


def _dynamic_product(call: Call) -> Results:
    """The first operand is quantised by its own range, as DynamicQuantizeLinear does."""
    a, scale, zero = call.build.op("dynamic_quantize_linear", [call.required(0)]).results
    product = _integer_product(call, a, call.required(1), zero, call.operand(3))
    real, bias = _scaled(call, product, scale, call.required(2)), call.operand(4)
    return [real if bias is None else call.build.add(real, bias)]


def _gemm(call: Call) -> Results:
    build, a, b = call.build, call.required(0), call.required(3)
    if call.take("transA", "int", 0):
        a = build.op("transpose", [a], {"perm": (1, 0)}).result
    if call.take("transB", "int", 0):
        b = build.op("transpose", [b], {"perm": (1, 0)}).result
    product = _integer_product(call, a, b, call.operand(2), call.operand(5))
    bias = call.operand(6)
    if bias is not None:
        product = build.add(product, bias)
    alpha = build.const(np.array(call.take("alpha", "float", 1.0), np.float32))
    real = _scaled(call, product, call.required(1), call.required(4), alpha)
    return [real] if call.operand(7) is None else _quantized(call, real, 7)


QUANTIZED: Mapping[str, Rule] = MappingProxyType({
    "QLinearSigmoid": _between("sigmoid"),
    "QLinearLeakyRelu": _between("leaky_relu"),
    "QLinearSoftmax": _between("softmax"),
    "QLinearGlobalAveragePool": _between("global_average_pool"),
    "QLinearAveragePool": _between("average_pool"),
    "QLinearConcat": _concat,
    "QGemm": _gemm,
    "MatMulIntegerToFloat": _integer_to_float,
    "DynamicQuantizeMatMul": _dynamic_product,
})  # fmt: skip
"""Operators by name, and what takes them apart."""
