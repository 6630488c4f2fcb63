# pyright: standard
"""Scalar expressions of the activation functions, on f32 and f64."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from leptonc.backends.tvm import vector_activation, vector_math
from leptonc.backends.tvm.binding import PrimExpr, tirx
from leptonc.backends.tvm.lower.arithmetic import (
    constant,
    dtype_of,
    is_float,
    let,
    multiply,
)
from leptonc.ir.graph import Op

Scalar = Callable[[Op, list[PrimExpr]], PrimExpr]


def _unary(function: Callable[[Op, PrimExpr], PrimExpr]) -> Scalar:
    return lambda op, xs: let(xs[0], lambda x: function(op, x))


def _number(op: Op, name: str, like: PrimExpr) -> PrimExpr:
    return constant(op.float(name), like)


def _relu(op: Op, x: PrimExpr) -> PrimExpr:
    zero = constant(0, x)
    return tirx.Select(x < zero, zero, x) if is_float(x) else tirx.max(x, zero)


def _leaky_relu(op: Op, x: PrimExpr) -> PrimExpr:
    return tirx.Select(x < constant(0, x), x * _number(op, "alpha", x), x)


def _prelu(op: Op, xs: list[PrimExpr]) -> PrimExpr:
    return let(xs[0], lambda x: tirx.Select(x < constant(0, x), multiply(xs[1], x), x))


def _thresholded_relu(op: Op, x: PrimExpr) -> PrimExpr:
    return tirx.Select(x > _number(op, "alpha", x), x, constant(0, x))


def _elu(op: Op, x: PrimExpr) -> PrimExpr:
    curve = _number(op, "alpha", x) * vector_math.expm1(x)
    return tirx.Select(x < constant(0, x), curve, x)


def _selu(op: Op, x: PrimExpr) -> PrimExpr:
    return _number(op, "gamma", x) * _elu(op, x)


def _celu(op: Op, x: PrimExpr) -> PrimExpr:
    alpha = _number(op, "alpha", x)
    return tirx.Select(x < constant(0, x), alpha * vector_math.expm1(x / alpha), x)


def _hard_sigmoid_of(x: PrimExpr, alpha: float, beta: float) -> PrimExpr:
    line = vector_math.fma(x, constant(alpha, x), constant(beta, x))
    return vector_math.clamp(line, 0.0, 1.0)


def _hard_sigmoid(op: Op, x: PrimExpr) -> PrimExpr:
    return _hard_sigmoid_of(x, op.float("alpha"), op.float("beta"))


def _hard_swish(op: Op, x: PrimExpr) -> PrimExpr:
    return x * _hard_sigmoid_of(x, 1 / 6, 0.5)


def _swish(op: Op, x: PrimExpr) -> PrimExpr:
    if op.float("alpha") == 1.0:
        return vector_activation.silu(x)
    return x * vector_activation.sigmoid(x * _number(op, "alpha", x))


def _softsign(op: Op, x: PrimExpr) -> PrimExpr:
    return x / (constant(1, x) + vector_math.absolute(x))


def _gelu(op: Op, x: PrimExpr) -> PrimExpr:
    tanh = op.str("approximate") == "tanh"
    return vector_activation.gelu_tanh(x) if tanh else vector_activation.gelu(x)


def _shrink(op: Op, x: PrimExpr) -> PrimExpr:
    wide = x if is_float(x) else x.astype("float64")
    bias, limit = _number(op, "bias", wide), op.float("lambd")
    above = tirx.Select(wide > constant(limit, wide), wide - bias, constant(0, wide))
    result = tirx.Select(wide < constant(-limit, wide), wide + bias, above)
    return result if is_float(x) else result.astype("int64").astype(dtype_of(x))


def _plain(function: Callable[[PrimExpr], PrimExpr]) -> Scalar:
    return lambda op, xs: function(xs[0])


def _biased(function: Callable[[PrimExpr], PrimExpr]) -> Scalar:
    return lambda op, xs: function(xs[0] + xs[1] if len(xs) > 1 else xs[0])


ACTIVATIONS: Mapping[str, Scalar] = {
    "relu": _unary(_relu),
    "leaky_relu": _unary(_leaky_relu),
    "prelu": _prelu,
    "thresholded_relu": _unary(_thresholded_relu),
    "elu": _unary(_elu),
    "selu": _unary(_selu),
    "celu": _unary(_celu),
    "sigmoid": _plain(vector_activation.sigmoid),
    "hard_sigmoid": _unary(_hard_sigmoid),
    "hard_swish": _unary(_hard_swish),
    "swish": _unary(_swish),
    "quick_gelu": _unary(_swish),
    "softplus": _plain(vector_activation.softplus),
    "softsign": _unary(_softsign),
    "mish": _plain(vector_activation.mish),
    "gelu": _unary(_gelu),
    "ms_gelu": _plain(vector_activation.gelu),
    "bias_gelu": _biased(vector_activation.gelu),
    "fast_gelu": _biased(vector_activation.gelu_tanh),
    "shrink": _unary(_shrink),
}
