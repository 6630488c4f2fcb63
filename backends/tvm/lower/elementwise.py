# pyright: standard
"""Lowering of elementwise operations: one scalar expression each, and one rule made of it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from leptonc.backends.tvm import vector_activation, vector_math, vector_power, vector_trigonometry
from leptonc.backends.tvm.binding import PrimExpr, tirx
from leptonc.backends.tvm.extension import extension_scalar, is_elementwise
from leptonc.backends.tvm.lower import arithmetic, division
from leptonc.backends.tvm.lower.activation import ACTIVATIONS, Scalar
from leptonc.backends.tvm.lower.arithmetic import (
    constant,
    converted,
    dtype_of,
    is_float,
    let,
    not_a_number,
    widened,
)
from leptonc.backends.tvm.lower.broadcasting import (
    Tensor,
    broadcast_read,
    operand,
    scalar_constant,
    te,
)
from leptonc.backends.tvm.lower.narrow import decode, encode
from leptonc.backends.tvm.lower.requantize import QUANTIZED_SCALAR
from leptonc.backends.tvm.lowering import TVM_DTYPE, LowerCall, Reason, Rule
from leptonc.ir.graph import Op

Function = Callable[..., PrimExpr]


def _unary(function: Function) -> Scalar:
    return lambda op, xs: function(xs[0])


def _binary(function: Function) -> Scalar:
    return lambda op, xs: function(xs[0], xs[1])


def _variadic(function: Function) -> Scalar:
    return lambda op, xs: function(*xs)


def _sign(x: PrimExpr) -> PrimExpr:
    def sign(x: PrimExpr) -> PrimExpr:
        zero, one = constant(0, x), constant(1, x)
        if dtype_of(x).startswith("uint"):
            return tirx.Select(tirx.EQ(x, zero), zero, one)
        below = tirx.Select(x < zero, constant(-1, x), x)  # x is 0 or NaN where neither holds
        return tirx.Select(x > zero, one, below)

    return let(x, sign)


def _power(x: PrimExpr, y: PrimExpr) -> PrimExpr:
    if not is_float(x):
        if not is_float(y):
            return division.integer_power(x, y)
        wide = tirx.pow(x.astype("float64"), y.astype("float64"))
        return wide.astype("int64").astype(dtype_of(x))
    exact = is_float(y) or arithmetic.bits_of(y) < 32 or isinstance(y, tirx.IntImm)
    if dtype_of(x) == "float32" and dtype_of(y) != "float64" and exact:
        return vector_power.pow(x, y.astype("float32"))
    return vector_power.pow(x.astype("float64"), y.astype("float64"))


def _sum(*xs: PrimExpr) -> PrimExpr:
    return functools.reduce(lambda a, b: a + b, xs)


def _mean(*xs: PrimExpr) -> PrimExpr:
    return _sum(*xs) / constant(len(xs), xs[0])


def _modulo(op: Op, xs: list[PrimExpr]) -> PrimExpr:
    function = division.remainder if op.int("fmod") else division.modulo
    return function(xs[0], xs[1])


def _clip(op: Op, xs: list[PrimExpr]) -> PrimExpr:
    result = xs[0]
    for name, limit in zip(op.operand_names[1:], xs[1:], strict=True):
        result = (arithmetic.largest if name == "min" else arithmetic.smallest)(result, limit)
    return result


def _xor(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    return tirx.NE(a.astype("int8"), b.astype("int8"))


def _equal(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    return tirx.Not(_xor(a, b)) if dtype_of(a) == "bool" else tirx.EQ(a, b)


def _is_inf(op: Op, xs: list[PrimExpr]) -> PrimExpr:
    negative, positive = bool(op.int("detect_negative")), bool(op.int("detect_positive"))
    return arithmetic.infinite(xs[0], negative=negative, positive=positive)


def _bit_shift(op: Op, xs: list[PrimExpr]) -> PrimExpr:
    left = op.str("direction") == "LEFT"
    return let(xs[1], lambda y: division.shift(xs[0], y, left=left))


def _bits_as(op: Op, xs: list[PrimExpr]) -> PrimExpr:
    target = TVM_DTYPE[op.results[0].type.dtype]
    if "bool" in (dtype_of(xs[0]), target):  # a bit in registers, a byte of 0 or 1 in memory
        return xs[0].astype(target)
    return tirx.reinterpret(target, xs[0])


def _cast(op: Op, xs: list[PrimExpr]) -> PrimExpr:
    value = decode(xs[0], op.operands[0].type.dtype)
    saturate, mode = bool(op.int("saturate")), op.str("round_mode")
    return encode(value, op.results[0].type.dtype, saturate=saturate, round_mode=mode)


def _where(op: Op, xs: list[PrimExpr]) -> PrimExpr:
    return tirx.Select(xs[0], xs[1], xs[2])


_CIRCULAR = (
    "sin", "cos", "tan", "sinh", "cosh", "asin", "acos", "atan", "asinh", "acosh", "atanh",
)  # fmt: skip
# Computed on f32 in place of f16 and bf16; the result is converted to the operation's type.
_COMPUTED: dict[str, Scalar] = {
    "abs": _unary(arithmetic.magnitude),
    "neg": _unary(arithmetic.negate),
    "sign": _unary(_sign),
    "ceil": _unary(tirx.ceil),
    "floor": _unary(tirx.floor),
    "round": _unary(vector_math.nearest),
    "sqrt": _unary(vector_power.sqrt),
    "reciprocal": _unary(lambda x: division.divide(constant(1, x), x)),
    "exp": _unary(vector_math.exp),
    "log": _unary(vector_math.log),
    "erf": _unary(vector_activation.erf),
    "tanh": _unary(vector_activation.tanh),
    **{name: _unary(getattr(vector_trigonometry, name)) for name in _CIRCULAR},
    "add": _binary(arithmetic.add),
    "sub": _binary(arithmetic.subtract),
    "mul": _binary(arithmetic.multiply),
    "div": _binary(division.divide),
    "mod": _modulo,
    "pow": _binary(_power),
    "min": _variadic(arithmetic.smallest),
    "max": _variadic(arithmetic.largest),
    "sum": _variadic(_sum),
    "mean": _variadic(_mean),
    "clip": _clip,
    "equal": _binary(_equal),
    "less": _binary(lambda a, b: a < b),
    "less_or_equal": _binary(lambda a, b: a <= b),
    "greater": _binary(lambda a, b: a > b),
    "greater_or_equal": _binary(lambda a, b: a >= b),
    "is_nan": _unary(not_a_number),
    "is_inf": _is_inf,
    **ACTIVATIONS,
}
# Taken as they are.
_EXACT: dict[str, Scalar] = {
    "identity": _unary(lambda x: x),
    "cast": _cast,
    "not": _unary(tirx.Not),
    "and": _binary(tirx.And),
    "or": _binary(tirx.Or),
    "xor": _binary(_xor),
    "bitwise_not": _unary(tirx.bitwise_not),
    "bitwise_and": _binary(lambda a, b: a & b),
    "bitwise_or": _binary(lambda a, b: a | b),
    "bitwise_xor": _binary(lambda a, b: a ^ b),
    "bit_shift": _bit_shift,
    "bit_cast": _bits_as,
    "where": _where,
}


def _typed(scalar: Scalar, *, wide: bool) -> Scalar:
    def expression(op: Op, xs: list[PrimExpr]) -> PrimExpr:
        if wide:
            types = [value.type.dtype for value in op.operands]
            xs = [widened(decode(x, dtype)) for x, dtype in zip(xs, types, strict=True)]
        return converted(scalar(op, xs), TVM_DTYPE[op.results[0].type.dtype])

    return expression


SCALAR: dict[str, Scalar] = {
    **{name: _typed(scalar, wide=True) for name, scalar in _COMPUTED.items()},
    **{name: _typed(scalar, wide=False) for name, scalar in _EXACT.items()},
    **QUANTIZED_SCALAR,
}
"""The scalar expression of every elementwise operation, on operands that are broadcast already."""


def scalar_of(op: Op) -> Scalar | None:
    """The scalar expression of an operation, None for one that is not elementwise."""
    return _OUTSIDE if is_elementwise(op) else SCALAR.get(op.name)


_OUTSIDE = _typed(extension_scalar, wide=True)


def lower(call: LowerCall) -> Tensor:
    """An elementwise operation as one stage over its result's elements."""
    shape, op = call.shape(), call.op
    scalar = scalar_of(op)
    assert scalar is not None

    def read(slot: int, index: Any) -> PrimExpr:
        known = scalar_constant(op.operands[slot])
        return known if known is not None else broadcast_read(call[slot], len(shape), index, shape)

    def element(*index: Any) -> PrimExpr:
        return scalar(op, [read(slot, index) for slot in range(len(op.operands))])

    return te.compute(shape, element, name=op.name)


def _cast_like(call: LowerCall) -> Tensor:
    x = operand(call)
    return te.compute(call.shape(), lambda *index: _cast(call.op, [x(*index)]), name="cast_like")


def _dropout(call: LowerCall) -> list[Tensor]:
    x = call[0]
    kept = te.compute(call.shape(), lambda *index: x(*index), name="kept")
    true = tirx.const(True, "bool")
    return [kept, te.compute(call.shape(), lambda *_: true, name="mask")]


RULES: dict[str, Rule] = {
    **dict.fromkeys(SCALAR, lower),
    "cast_like": _cast_like,
    "dropout": _dropout,
}


def unsupported_type(op: Op) -> str:
    """Why the operation's element types cannot be computed with; empty if they can."""
    for value in (*op.operands, *op.results):
        if value.type.dtype not in TVM_DTYPE:
            return f"{value.type.dtype} tensors are not supported"
    return ""


def _dropout_reason(op: Op) -> str:
    mode = op.operand("training_mode")
    if mode is not None and (mode.blob is None or bool(mode.blob.array.reshape(()))):
        return "dropout in training mode draws random numbers"
    return unsupported_type(op)


REASONS: dict[str, Reason] = {**dict.fromkeys(RULES, unsupported_type), "dropout": _dropout_reason}
