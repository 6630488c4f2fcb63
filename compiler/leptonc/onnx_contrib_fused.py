"""Operators that onnxruntime fuses out of ONNX's own, taken apart again.

Where the table has a row for one of them, the row is used instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.dims import floordiv, product
from leptonc.ir.graph import Attribute, Value
from leptonc.onnx_contrib_parts import Results, Rule, as_row, present, refuse, reshaped, split_at
from leptonc.onnx_contrib_quantized import channels_first, channels_last
from leptonc.onnx_scope import Call


def _activated(call: Call, value: Value) -> Value:
    """`value` after the activation that a fused operator names in its attributes."""
    name = call.take("activation", "str", "")
    numbers = [*call.take("activation_params", "floats", ())]
    given = [call.take(f"activation_{part}", "float") for part in ("alpha", "beta", "gamma")]
    numbers += [number for number in given if number is not None]
    build = call.build
    if name in ("", "Relu", "Sigmoid", "Tanh", "Softplus", "Softsign"):
        row = {"": "identity"}.get(name, name.lower())
        return value if not name else build.op(row, [value]).result
    if name in ("LeakyRelu", "Elu"):
        row = "leaky_relu" if name == "LeakyRelu" else "elu"
        return build.op(row, [value], {"alpha": numbers[0]} if numbers else {}).result
    if name == "HardSigmoid":
        attrs: dict[str, Attribute] = dict(zip(("alpha", "beta"), numbers, strict=False))
        return build.op("hard_sigmoid", [value], attrs).result
    if name == "Clip" and len(numbers) == 2:
        low, high = (build.const(np.array(n, value.type.dtype.numpy)) for n in numbers)
        return build.clip(value, low, high)
    raise LeptonError(f"the activation {shown(name)} is not supported", code="E013")


def _fused_conv(call: Call) -> Results:
    addend = call.operand(3)
    del call.operands[3:]
    result = _without_activation(call, "conv")
    return [_activated(call, result if addend is None else call.build.add(result, addend))]


def _nhwc_conv(call: Call) -> Results:
    """A convolution of images and filters whose channels come last."""
    build, addend = call.build, call.operand(3)
    del call.operands[3:]
    for index in (0, 1):
        call.set_operand(index, channels_first(build, call.required(index)))
    result = channels_last(build, _without_activation(call, "conv"))
    return [_activated(call, result if addend is None else build.add(result, addend))]


def _fused_gemm(call: Call) -> Results:
    return [_activated(call, _without_activation(call, "gemm"))]


def _fused_matmul(call: Call) -> Results:
    call.take("activation_axis", "int")
    return [_activated(call, _without_activation(call, "fused_matmul"))]


def _without_activation(call: Call, row: str) -> Value:
    """The result of `row`; of the attributes only those of the activation are left."""
    rest = {k: v for k, v in call.attributes.items() if k.startswith("activation")}
    for name in rest:
        del call.attributes[name]
    (result,) = as_row(row)(call)
    assert result is not None
    call.attributes = rest
    return result


def _gemm_fast_gelu(call: Call) -> Results:
    build = call.build
    result = build.matmul(call.required(0), call.required(1))
    return [build.op("fast_gelu", present(result, call.operand(2))).result]


def _bias_add(call: Call) -> Results:
    build = call.build
    return [build.add(build.add(call.required(0), call.required(1)), call.required(2))]


def _bias_split_gelu(call: Call) -> Results:
    """The first half of a sum times the GELU of the second."""
    build = call.build
    total = build.add(call.required(0), call.required(1))
    half = floordiv(total.type.shape[-1], 2)
    first, second = split_at(build, total, [half, half], total.type.rank - 1)
    return [build.mul(first, build.ms_gelu(second))]


def _bias_dropout(call: Call) -> Results:
    """Dropout of a sum, and then another sum."""
    build, residual = call.build, call.operand(2)
    total = build.add(call.required(0), call.required(1))
    extra = [("ratio", call.operand(3)), ("training_mode", call.operand(4))]
    given = [(name, value) for name, value in extra if value is not None]
    operands, names = [value for _, value in given], [name for name, _ in given]
    op = build.op("dropout", [total, *operands], {"seed": call.take("seed", "int")},
                  names=["x", *names])  # fmt: skip
    result, mask = op.results
    return [result if residual is None else build.add(result, residual), mask]


def _bitmask_dropout(call: Call) -> Results:
    if call.wants(1):
        raise refuse(call, "a mask of bits")
    return as_row("dropout")(call)


def _bias_softmax(call: Call) -> Results:
    """Softmax of a sum over all axes from `axis` on.

    The bias is repeated over the axes before it, or over those right before `axis`.
    """
    build, x, bias = call.build, call.required(0), call.required(1)
    axis = call.take("axis", "int", 1) % x.type.rank
    tail = x.type.shape[axis:]
    if call.take("is_inner_broadcast", "int", 0) and bias.type.rank == x.type.rank:
        outer = bias.type.shape[: axis - 1]
        bias = reshaped(build, bias, *outer, 1, *bias.type.shape[len(outer) + 1 :])
    total = build.add(x, bias)
    flat = reshaped(build, total, *x.type.shape[:axis], product(tail))
    return [reshaped(build, build.softmax(flat, axis=-1), *total.type.shape)]


FUSED: Mapping[str, Rule] = MappingProxyType({
    "FusedConv": _fused_conv,
    "NhwcConv": _nhwc_conv,
    "NhwcFusedConv": _nhwc_conv,
    "FusedGemm": _fused_gemm,
    "FusedMatMulActivation": _fused_matmul,
    "TransposeMatMul": as_row("fused_matmul"),
    "GemmFastGelu": _gemm_fast_gelu,
    "BiasAdd": _bias_add,
    "BiasSplitGelu": _bias_split_gelu,
    "BiasDropout": _bias_dropout,
    "BitmaskDropout": _bitmask_dropout,
    "BiasSoftmax": _bias_softmax,
})  # fmt: skip
"""Operators by name, and what takes them apart."""
