"""Activation functions."""

from __future__ import annotations

import math

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.ops.broadcasting import (
    FLOATS,
    NUMBERS,
    SIGNED,
    broadcast_shapes,
    check_dtype,
    check_same_dtype,
)
from leptonc.ir.ops.error_function import erf
from leptonc.ir.ops.rows import evaluated, unary
from leptonc.ir.table import Attr, Inference, Trait, define
from leptonc.ir.types import TensorType


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    return np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))


def gelu_erf(x: Array) -> Array:
    """The exact GELU, in double precision where the tail cancels."""
    wide = x.astype(np.float64)
    return (0.5 * wide * (1 + erf(wide / math.sqrt(2)))).astype(x.dtype)


def gelu_tanh(x: Array) -> Array:
    """The GELU by tanh, in double precision where the tail cancels."""
    wide = x.astype(np.float64)
    inner = math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)
    return (0.5 * wide * (1 + np.tanh(inner))).astype(x.dtype)


def _relu(x: Array) -> Array:
    return np.maximum(x, x.dtype.type(0))


def _leaky_relu(x: Array, alpha: float) -> Array:
    return np.where(x < 0, x * x.dtype.type(alpha), x)


def _thresholded_relu(x: Array, alpha: float) -> Array:
    return np.where(x > alpha, x, x.dtype.type(0))


def _elu(x: Array, alpha: float) -> Array:
    return np.where(x < 0, x.dtype.type(alpha) * np.expm1(x), x)


def _selu(x: Array, alpha: float, gamma: float) -> Array:
    return x.dtype.type(gamma) * _elu(x, alpha)


def _celu(x: Array, alpha: float) -> Array:
    scale = x.dtype.type(alpha)
    return np.maximum(x, 0) + np.minimum(scale * np.expm1(x / scale), 0)


def _hard_sigmoid(x: Array, alpha: float, beta: float) -> Array:
    line = x.dtype.type(alpha) * x + x.dtype.type(beta)
    return np.maximum(np.minimum(line, 1), 0)


def _hard_swish(x: Array) -> Array:
    return x * _hard_sigmoid(x, 1 / 6, 0.5)


def _swish(x: Array, alpha: float) -> Array:
    return x * sigmoid(x.dtype.type(alpha) * x)


def _softplus(x: Array) -> Array:
    return np.logaddexp(x, x.dtype.type(0))


def _softsign(x: Array) -> Array:
    return x / (1 + np.abs(x))


def _mish(x: Array) -> Array:
    return x * np.tanh(_softplus(x))


def _gelu(x: Array, approximate: str) -> Array:
    return gelu_tanh(x) if approximate == "tanh" else gelu_erf(x)


def _shrink(x: Array, bias: float, lambd: float) -> Array:
    wide = x.astype(np.float64) if x.dtype.kind in "iu" else x
    below, above = wide + wide.dtype.type(bias), wide - wide.dtype.type(bias)
    zero = np.zeros_like(wide)
    return np.where(x < -lambd, below, np.where(x > lambd, above, zero)).astype(x.dtype)


def _check_gelu(call: Inference) -> None:
    if call.str("approximate") not in ("none", "tanh"):
        raise LeptonError(
            f'gelu.approximate is "{call.str("approximate")}", should be "none" or "tanh"',
            code="E108",
        )


RELU = unary(
    "relu(x)", "max(x, 0); NaN stays NaN.", _relu, dtypes=FLOATS | SIGNED, onnx="Relu", since=14
)
LEAKY_RELU = unary(
    "leaky_relu(x)", "x, times `alpha` where negative.", _leaky_relu,
    attrs={"alpha": Attr("float", 0.009999999776482582)}, onnx="LeakyRelu", since=16,
)  # fmt: skip
THRESHOLDED_RELU = unary(
    "thresholded_relu(x)", "x where above `alpha`, else 0.", _thresholded_relu,
    attrs={"alpha": Attr("float", 1.0)}, onnx="ThresholdedRelu", since=22,
)  # fmt: skip
ELU = unary(
    "elu(x)", "x, and `alpha` (exp(x) - 1) where negative.", _elu,
    attrs={"alpha": Attr("float", 1.0)}, onnx="Elu", since=22,
)  # fmt: skip
SELU = unary(
    "selu(x)", "`gamma` times x, and times `alpha` (exp(x) - 1) where negative.", _selu,
    attrs={"alpha": Attr("float", 1.6732631921768188), "gamma": Attr("float", 1.0507010221481323)},
    onnx="Selu",
    since=22,
)  # fmt: skip
CELU = unary(
    "celu(x)", "max(0, x) + min(0, `alpha` (exp(x / `alpha`) - 1)).", _celu,
    attrs={"alpha": Attr("float", 1.0)}, onnx="Celu", since=28,
)  # fmt: skip
SIGMOID = unary("sigmoid(x)", "1 / (1 + exp(-x)).", sigmoid, onnx="Sigmoid", since=13)
HARD_SIGMOID = unary(
    "hard_sigmoid(x)", "max(0, min(1, `alpha` x + `beta`)).", _hard_sigmoid,
    attrs={"alpha": Attr("float", 0.20000000298023224), "beta": Attr("float", 0.5)},
    onnx="HardSigmoid",
    since=22,
)  # fmt: skip
HARD_SWISH = unary(
    "hard_swish(x)", "x max(0, min(1, x / 6 + 1 / 2)).", _hard_swish, onnx="HardSwish", since=22
)
SWISH = unary(
    "swish(x)", "x sigmoid(`alpha` x).", _swish, attrs={"alpha": Attr("float", 1.0)},
    onnx="Swish", since=24,
)  # fmt: skip
SOFTPLUS = unary("softplus(x)", "log(exp(x) + 1).", _softplus, onnx="Softplus", since=22)
SOFTSIGN = unary("softsign(x)", "x / (1 + |x|).", _softsign, onnx="Softsign", since=22)
MISH = unary("mish(x)", "x tanh(softplus(x)).", _mish, onnx="Mish", since=22)
GELU = unary(
    "gelu(x)", "x times the normal distribution function, exact or `approximate` by tanh.", _gelu,
    attrs={"approximate": Attr("str", "none")}, check=_check_gelu, onnx="Gelu", since=20,
)  # fmt: skip
SHRINK = unary(
    "shrink(x)", "x moved by `bias` towards zero, 0 where within `lambd` of zero.", _shrink,
    dtypes=NUMBERS, attrs={"bias": Attr("float", 0.0), "lambd": Attr("float", 0.5)},
    onnx="Shrink", since=9,
)  # fmt: skip


def _prelu_infer(call: Inference) -> TensorType:
    check_dtype(call, "x", NUMBERS)
    check_same_dtype(call, "x", "slope")
    shape = call[0].type.shape
    if broadcast_shapes(shape, call[1].type.shape) != shape:
        raise LeptonError(
            f"prelu has a slope of {call[1].type}, which does not broadcast to {call[0].type}",
            notes=["the slope may only repeat along x; x itself is not repeated"],
            code="E103",
        )
    return call[0].type


def _prelu(x: Array, slope: Array) -> Array:
    return np.where(x < 0, slope * x, x)


PRELU = define(
    "prelu(x, slope)",
    "x, times the slope where negative.",
    infer=_prelu_infer,
    evaluate=lambda call: evaluated(_prelu, call),
    traits=(Trait.ELEMENTWISE,),
    onnx="PRelu",
    since=16,
)

# -- of com.microsoft ---------------------------------------------------------------------------

MICROSOFT = "com.microsoft"


def _bias_infer(call: Inference) -> TensorType:
    dtype = check_same_dtype(call, *dict.fromkeys(call.names))
    check_dtype(call, call.names[0], FLOATS)
    return TensorType(dtype, broadcast_shapes(*(type.shape for type in call.types)))


def _fast_gelu(x: Array, bias: Array | None = None) -> Array:
    return gelu_tanh(x if bias is None else x + bias)


def _bias_gelu(a: Array, b: Array) -> Array:
    return gelu_erf(a + b)


FAST_GELU = define(
    "fast_gelu(x, bias?)", "The GELU by tanh of x plus a bias.", infer=_bias_infer,
    evaluate=lambda call: evaluated(_fast_gelu, call),
    traits=(Trait.ELEMENTWISE,), onnx="FastGelu", domain=MICROSOFT,
)  # fmt: skip
BIAS_GELU = define(
    "bias_gelu(a, b)", "The exact GELU of a + b.", infer=_bias_infer,
    evaluate=lambda call: evaluated(_bias_gelu, call),
    traits=(Trait.ELEMENTWISE,), onnx="BiasGelu", domain=MICROSOFT,
)  # fmt: skip
MS_GELU = unary("ms_gelu(x)", "The exact GELU.", gelu_erf, onnx="Gelu", domain=MICROSOFT)
QUICK_GELU = unary(
    "quick_gelu(x)", "x sigmoid(`alpha` x).", _swish,
    attrs={"alpha": Attr("float", 1.7020000219345093)}, onnx="QuickGelu", domain=MICROSOFT,
)  # fmt: skip
