"""Quantised operators of onnxruntime, taken apart into ONNX's own."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.dims import product
from leptonc.ir.graph import Value
from leptonc.ir.table import op_named
from leptonc.ir.types import DType
from leptonc.onnx_attributes import fit
from leptonc.onnx_contrib_parts import (
    Results,
    Rule,
    as_row,
    cast,
    integers,
    present,
    reshaped,
    transposed,
)
from leptonc.onnx_scope import Call


def channels_first(build: Builder, value: Value) -> Value:
    """`value` with its last axis moved behind the batch."""
    rank = value.type.rank
    return transposed(build, value, 0, rank - 1, *range(1, rank - 1))


def channels_last(build: Builder, value: Value) -> Value:
    """`value` with the axis behind the batch moved to the end."""
    return transposed(build, value, 0, *range(2, value.type.rank), 1)


def _real(call: Call, index: int) -> Value:
    """The real numbers of a quantised operand, its scale and its zero point."""
    parts = present(call.required(index), call.required(index + 1), call.operand(index + 2))
    return call.build.op("dequantize_linear", parts).result


def _quantized(call: Call, value: Value, index: int, like: DType) -> Results:
    """`value` quantised by a scale and a zero point, as `like` where the latter is absent."""
    scale, zero = call.required(index), call.operand(index + 1)
    if zero is None:
        zero = call.build.const(np.array(0, like.numpy))
    return [call.build.op("quantize_linear", [value, scale, zero]).result]


def _between(row: str) -> Rule:
    """Quantised operators of one operand: to real numbers, through `row`, and back."""

    def rule(call: Call) -> Results:
        build, last = call.build, bool(call.take("channels_last", "int", 0))
        real = _real(call, 0)
        real = channels_first(build, real) if last else real
        definition = op_named(row)
        assert definition is not None
        result = build.op(definition, [real], fit(definition, call.attributes)).results[0]
        result = channels_last(build, result) if last else result
        return _quantized(call, result, 3, call.required(0).type.dtype)

    return rule


def _softmax(call: Call) -> Results:
    """Softmax along an axis, before opset 13 over all axes from there on."""
    build, real = call.build, _real(call, 0)
    axis = call.take("axis", "int", -1) % real.type.rank
    if call.take("opset", "int", 13) < 13:
        shape = real.type.shape
        flat = reshaped(build, real, product(shape[:axis]), product(shape[axis:]))
        result = reshaped(build, build.softmax(flat, axis=1), *shape)
    else:
        result = build.softmax(real, axis=axis)
    return _quantized(call, result, 3, call.required(0).type.dtype)


def _reduce_mean(call: Call) -> Results:
    axes = call.take("axes", "ints")
    keep = call.take("keepdims", "int", 1)
    real = _real(call, 0)
    extra = [] if axes is None else [integers(call.build, axes)]
    mean = call.build.op("reduce_mean", [real, *extra], {"keepdims": keep}).result
    return _quantized(call, mean, 3, call.required(0).type.dtype)


def _where(call: Call) -> Results:
    first, second = _real(call, 1), _real(call, 4)
    chosen = call.build.where(call.required(0), first, second)
    return _quantized(call, chosen, 7, call.required(1).type.dtype)


def _concat(call: Call) -> Results:
    parts = [_real(call, index) for index in range(2, len(call.operands), 3)]
    axis = call.take("axis", "int", 0)
    like = call.required(2).type.dtype
    return _quantized(call, call.build.op("concat", parts, {"axis": axis}).result, 0, like)


def _conv(call: Call) -> Results:
    """The convolution of ONNX, or one of images whose channels come last."""
    if not call.take("channels_last", "int", 0):
        return as_row("qlinear_conv")(call)
    call.set_operand(0, channels_first(call.build, call.required(0)))
    (result,) = as_row("qlinear_conv")(call)
    assert result is not None
    return [channels_last(call.build, result)]


def _nhwc_max_pool(call: Call) -> Results:
    call.set_operand(0, channels_first(call.build, call.required(0)))
    result = as_row("max_pool")(call)[0]
    assert result is not None
    return [channels_last(call.build, result)]


def integer_product(
    call: Call, a: Value, b: Value, a_zero: Value | None, b_zero: Value | None
) -> Value:
    """The product of bytes less their zero points, as 32-bit integers."""
    names = ["a", "b", *(["a_zero_point"] if a_zero else []), *(["b_zero_point"] if b_zero else [])]
    return call.build.op("matmul_integer", present(a, b, a_zero, b_zero), names=names).result


def scaled(call: Call, sums: Value, *scales: Value) -> Value:
    """An integer product as real numbers."""
    build = call.build
    scale = scales[0]
    for other in scales[1:]:
        scale = build.mul(scale, other)
    return build.mul(cast(build, sums, DType.F32), scale)


def _integer_to_float(call: Call) -> Results:
    sums = integer_product(
        call, call.required(0), call.required(1), call.operand(4), call.operand(5)
    )
    real, bias = scaled(call, sums, call.required(2), call.required(3)), call.operand(6)
    return [real if bias is None else call.build.add(real, bias)]


def _dynamic_product(call: Call) -> Results:
    """The first operand is quantised by its own range, as DynamicQuantizeLinear does."""
    a, scale, zero = call.build.op("dynamic_quantize_linear", [call.required(0)]).results
    sums = integer_product(call, a, call.required(1), zero, call.operand(3))
    real, bias = scaled(call, sums, scale, call.required(2)), call.operand(4)
    return [real if bias is None else call.build.add(real, bias)]


def _gemm(call: Call) -> Results:
    build, a, b = call.build, call.required(0), call.required(3)
    if call.take("transA", "int", 0):
        a = transposed(build, a, 1, 0)
    if call.take("transB", "int", 0):
        b = transposed(build, b, 1, 0)
    sums = integer_product(call, a, b, call.operand(2), call.operand(5))
    bias = call.operand(6)
    if bias is not None:
        sums = build.add(sums, bias)
    alpha = build.const(np.array(call.take("alpha", "float", 1.0), np.float32))
    real = scaled(call, sums, call.required(1), call.required(4), alpha)
    return [real] if call.operand(7) is None else _quantized(call, real, 7, a.type.dtype)


def _integer_16(call: Call) -> Results:
    a, b = (cast(call.build, call.required(index), DType.I32) for index in (0, 1))
    return [call.build.matmul(a, b)]


def _mul_integer(call: Call) -> Results:
    build = call.build

    def centred(index: int) -> Value:
        value, zero = cast(build, call.required(index), DType.I32), call.operand(index + 1)
        return value if zero is None else build.sub(value, cast(build, zero, DType.I32))

    return [build.mul(centred(0), centred(2))]


def _reduce_sum_integer(call: Call) -> Results:
    build = call.build
    axes, keep = call.take("axes", "ints", ()), call.take("keepdims", "int", 1)
    wide = DType.I32 if call.required(0).type.dtype.is_signed else DType.U32
    x = cast(build, call.required(0), wide)
    return [build.op("reduce_sum", [x, integers(build, axes)], {"keepdims": keep}).result]


QUANTIZED: Mapping[str, Rule] = MappingProxyType({
    "QuantizeLinear": as_row("quantize_linear"),
    "DequantizeLinear": as_row("dequantize_linear"),
    "QLinearSigmoid": _between("sigmoid"),
    "QLinearLeakyRelu": _between("leaky_relu"),
    "QLinearSoftmax": _softmax,
    "QLinearGlobalAveragePool": _between("global_average_pool"),
    "QLinearAveragePool": _between("average_pool"),
    "QLinearReduceMean": _reduce_mean,
    "QLinearWhere": _where,
    "QLinearConcat": _concat,
    "QLinearConv": _conv,
    "NhwcMaxPool": _nhwc_max_pool,
    "QGemm": _gemm,
    "MatMulIntegerToFloat": _integer_to_float,
    "DynamicQuantizeMatMul": _dynamic_product,
    "MatMulInteger16": _integer_16,
    "MulInteger": _mul_integer,
    "ReduceSumInteger": _reduce_sum_integer,
})  # fmt: skip
"""Operators by name, and what takes them apart."""
