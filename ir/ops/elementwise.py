"""Arithmetic on elements: one operand, two that broadcast, or any number."""

from __future__ import annotations

import functools

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim
from leptonc.ir.graph import Content
from leptonc.ir.ops import contents
from leptonc.ir.ops.broadcasting import (
    FLOATS,
    NUMBERS,
    SIGNED,
    broadcast_shapes,
    check_dtype,
    check_same_dtype,
)
from leptonc.ir.ops.error_function import erf
from leptonc.ir.ops.rows import binary, fitted, unary, variadic, widened
from leptonc.ir.table import Attr, Evaluation, Inference, Trait, define
from leptonc.ir.types import TensorType


def _reciprocal(x: Array) -> Array:
    return 1 / x


# -- one operand --------------------------------------------------------------------------------

ABS = unary(
    "abs(x)", "The absolute value; the smallest signed integer stays itself.", np.abs,
    dtypes=NUMBERS, content=contents.elementwise(contents.absolute), onnx="Abs", since=13,
)  # fmt: skip
NEG = unary(
    "neg(x)", "The negated value; the smallest signed integer stays itself.", np.negative,
    dtypes=FLOATS | SIGNED, content=contents.elementwise(contents.negate), onnx="Neg", since=13,
)  # fmt: skip
SIGN = unary(
    "sign(x)", "-1, 0 or 1, and NaN for NaN.", np.sign, dtypes=NUMBERS, onnx="Sign", since=13
)
CEIL = unary("ceil(x)", "The next integer above.", np.ceil, onnx="Ceil", since=13)
FLOOR = unary("floor(x)", "The next integer below.", np.floor, onnx="Floor", since=13)
ROUND = unary(
    "round(x)", "The nearest integer, the even one of two.", np.rint, onnx="Round", since=22
)
SQRT = unary("sqrt(x)", "The square root.", np.sqrt, onnx="Sqrt", since=13)
RECIPROCAL = unary("reciprocal(x)", "1 / x.", _reciprocal, onnx="Reciprocal", since=13)
EXP = unary("exp(x)", "e to the power of x.", np.exp, onnx="Exp", since=13)
LOG = unary("log(x)", "The natural logarithm.", np.log, onnx="Log", since=13)
ERF = unary("erf(x)", "The error function.", erf, onnx="Erf", since=13)
SIN = unary("sin(x)", "The sine.", np.sin, onnx="Sin", since=22)
COS = unary("cos(x)", "The cosine.", np.cos, onnx="Cos", since=22)
TAN = unary("tan(x)", "The tangent.", np.tan, onnx="Tan", since=22)
SINH = unary("sinh(x)", "The hyperbolic sine.", np.sinh, onnx="Sinh", since=22)
COSH = unary("cosh(x)", "The hyperbolic cosine.", np.cosh, onnx="Cosh", since=22)
TANH = unary("tanh(x)", "The hyperbolic tangent.", np.tanh, onnx="Tanh", since=13)
ASIN = unary("asin(x)", "The arc sine.", np.arcsin, onnx="Asin", since=22)
ACOS = unary("acos(x)", "The arc cosine.", np.arccos, onnx="Acos", since=22)
ATAN = unary("atan(x)", "The arc tangent.", np.arctan, onnx="Atan", since=22)
ASINH = unary("asinh(x)", "The inverse hyperbolic sine.", np.arcsinh, onnx="Asinh", since=22)
ACOSH = unary("acosh(x)", "The inverse hyperbolic cosine.", np.arccosh, onnx="Acosh", since=22)
ATANH = unary("atanh(x)", "The inverse hyperbolic tangent.", np.arctanh, onnx="Atanh", since=22)

# -- two operands -------------------------------------------------------------------------------

ADD = binary(
    "add(a, b)", "a + b; integers wrap.", np.add, dtypes=NUMBERS, commutative=True,
    content=contents.elementwise(contents.add), onnx="Add", since=14,
)  # fmt: skip
SUB = binary(
    "sub(a, b)", "a - b; integers wrap.", np.subtract, dtypes=NUMBERS,
    content=contents.elementwise(contents.subtract), onnx="Sub", since=14,
)  # fmt: skip
MUL = binary(
    "mul(a, b)", "a * b; integers wrap.", np.multiply, dtypes=NUMBERS, commutative=True,
    content=contents.elementwise(contents.multiply), onnx="Mul", since=14,
)  # fmt: skip


def _divide(a: Array, b: Array) -> Array:
    if a.dtype.kind not in "iu":
        return a / b
    divisor = np.where(b == 0, np.ones_like(b), b)
    quotient = np.floor_divide(a, divisor)
    inexact = (quotient * divisor != a) & ((a < 0) != (b < 0))
    return np.where(b == 0, np.zeros_like(a), quotient + inexact.astype(a.dtype))


DIV = binary(
    "div(a, b)",
    "a / b; integers round towards zero, give 0 for a zero divisor, and wrap.",
    _divide, dtypes=NUMBERS, content=contents.elementwise(contents.divide), onnx="Div", since=14,
)  # fmt: skip


def _modulo(a: Array, b: Array, fmod: int) -> Array:
    return np.fmod(a, b) if fmod else np.mod(a, b)


def _check_modulo(call: Inference) -> None:
    if call.int("fmod") not in (0, 1):
        raise LeptonError(f"mod.fmod is {call.int('fmod')}, should be 0 or 1", code="E108")


def _modulo_content(call: Inference) -> Content | None:
    return None if call.int("fmod") else contents.elementwise(contents.remainder)(call)


MOD = binary(
    "mod(a, b)",
    "The remainder, with the sign of b, or of a with `fmod`; 0 for a zero integer divisor.",
    _modulo, dtypes=NUMBERS, attrs={"fmod": Attr("int", 0)}, check=_check_modulo,
    content=_modulo_content, onnx="Mod", since=28,
)  # fmt: skip


def _pow_infer(call: Inference) -> TensorType:
    check_dtype(call, "x", NUMBERS)
    check_dtype(call, "y", NUMBERS)
    return TensorType(call[0].type.dtype, broadcast_shapes(call[0].type.shape, call[1].type.shape))


def _pow(call: Evaluation) -> Array:
    base, exponent = map(widened, call.items)
    if base.dtype.kind in "iu" and exponent.dtype.kind in "iu":
        return _integer_power(base, exponent)
    power = np.power(base, exponent) if base.dtype.kind == "f" else _float_power(base, exponent)
    return np.asarray(power).astype(call[0].dtype)


def _float_power(base: Array, exponent: Array) -> Array:
    return np.power(base.astype(np.float64), exponent.astype(np.float64))


def _integer_power(base: Array, exponent: Array) -> Array:
    """Powers that wrap; negative exponents round 1 / x**|y| towards zero, and give 0 for x = 0.

    Exponents from 64, whose powers overflow but for -1, 0 and 1, count as 62 or 63.
    """
    negative = exponent < 0
    odd = (exponent & 1).astype(bool)
    limited = np.where(exponent < 64, exponent, 62 + (exponent & 1))
    steps = np.where(negative, np.zeros_like(exponent), limited).astype(np.uint64)
    result = np.power(base.astype(np.int64).view(np.uint64), steps).astype(base.dtype)
    minus = np.where(odd, base, np.abs(base))
    inverse = np.where(np.abs(base) == 1, minus, np.zeros_like(base))
    return np.asarray(np.where(negative, inverse, result))


POW = define(
    "pow(x, y)",
    "x to the power of y, of x's type; integer powers wrap.",
    infer=_pow_infer,
    evaluate=_pow,
    traits=(Trait.ELEMENTWISE,),
    onnx="Pow",
    since=15,
)

# -- any number of operands ---------------------------------------------------------------------


def _minimum(*arrays: Array) -> Array:
    return functools.reduce(np.minimum, arrays)


def _maximum(*arrays: Array) -> Array:
    return functools.reduce(np.maximum, arrays)


def _sum(*arrays: Array) -> Array:
    return functools.reduce(np.add, arrays)


def _mean(*arrays: Array) -> Array:
    return _sum(*arrays) / arrays[0].dtype.type(len(arrays))


MIN = variadic(
    "min(x*)", "The smallest of the operands; NaN if one is.", _minimum, dtypes=NUMBERS,
    content=contents.elementwise(contents.folded(contents.lower)), onnx="Min", since=13,
)  # fmt: skip
MAX = variadic(
    "max(x*)", "The largest of the operands; NaN if one is.", _maximum, dtypes=NUMBERS,
    content=contents.elementwise(contents.folded(contents.higher)), onnx="Max", since=13,
)  # fmt: skip
SUM = variadic("sum(x*)", "The sum of the operands.", _sum, dtypes=FLOATS, onnx="Sum", since=13)
MEAN = variadic(
    "mean(x*)", "The mean of the operands.", _mean, dtypes=FLOATS, onnx="Mean", since=13
)

# -- limits -------------------------------------------------------------------------------------


def _clip_infer(call: Inference) -> TensorType:
    for name in ("x", "min", "max"):
        check_dtype(call, name, NUMBERS)
    check_same_dtype(call, "x", "min", "max")
    for name in ("min", "max"):
        type = call.type(name)
        if type is not None and type.shape not in ((), (1,)):
            raise LeptonError(f"clip.{name} is {type}, should be a scalar", code="E103")
    return call[0].type


def _clip(call: Evaluation) -> Array:
    def clip(x: Array) -> Array:
        low, high = call.get("min"), call.get("max")
        if low is not None:
            x = np.maximum(x, widened(low).reshape(()))
        return x if high is None else np.minimum(x, widened(high).reshape(()))

    return np.asarray(clip(widened(call[0]))).astype(call[0].dtype)


def _clip_content(call: Inference) -> Content | None:
    def clip(x: Dim, *limits: Dim) -> Dim:
        for name, limit in zip(call.names[1:], limits, strict=True):
            x = contents.higher(x, limit) if name == "min" else contents.lower(x, limit)
        return x

    return contents.elementwise(clip)(call)


CLIP = define(
    "clip(x, min?, max?)",
    "x within limits: min(max, max(x, min)); NaN stays NaN.",
    infer=_clip_infer,
    evaluate=_clip,
    content=fitted(_clip_content),
    traits=(Trait.ELEMENTWISE,),
    onnx="Clip",
    since=13,
)
