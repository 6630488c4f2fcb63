"""Softmax and its kin: exponentials and maxima along one axis."""

from __future__ import annotations

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.ops.broadcasting import FLOATS, check_dtype, normalized_axis
from leptonc.ir.ops.extents import natural
from leptonc.ir.table import Attr, Evaluation, Inference, Trait, define
from leptonc.ir.types import TensorType

AXIS = {"axis": Attr("int", -1)}


def _along_axis(call: Inference) -> TensorType:
    check_dtype(call, "x", FLOATS)
    normalized_axis(call, call.int("axis"), call.types[0].rank)
    return call.types[0]


def _shifted(x: Array, axis: int) -> Array:
    wide = x.astype(natural(x.dtype))
    with np.errstate(invalid="ignore", over="ignore"):
        return wide - wide.max(axis=axis, keepdims=True, initial=-np.inf)


def _softmax_evaluate(call: Evaluation) -> Array:
    axis = call.int("axis")
    powers = np.exp(_shifted(call[0], axis))
    return (powers / powers.sum(axis=axis, keepdims=True)).astype(call[0].dtype)


def _log_softmax_evaluate(call: Evaluation) -> Array:
    axis = call.int("axis")
    shifted = _shifted(call[0], axis)
    with np.errstate(divide="ignore"):
        return (shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))).astype(
            call[0].dtype
        )


def _hardmax_evaluate(call: Evaluation) -> Array:
    x, axis = call[0], call.int("axis")
    y = np.zeros_like(x)
    if x.size:
        first = np.expand_dims(x.astype(natural(x.dtype)).argmax(axis=axis), axis)
        np.put_along_axis(y, first, 1, axis=axis)
    return y


SOFTMAX = define(
    "softmax(x)", "Exponentials along one axis, divided by their sum.",
    infer=_along_axis, evaluate=_softmax_evaluate, attrs=AXIS, traits=[Trait.REDUCTION],
    onnx="Softmax", since=13,
)  # fmt: skip
LOG_SOFTMAX = define(
    "log_softmax(x)", "The logarithm of softmax.",
    infer=_along_axis, evaluate=_log_softmax_evaluate, attrs=AXIS, traits=[Trait.REDUCTION],
    onnx="LogSoftmax", since=13,
)  # fmt: skip
HARDMAX = define(
    "hardmax(x)", "1 at the first largest element along one axis, 0 elsewhere.",
    infer=_along_axis, evaluate=_hardmax_evaluate, attrs=AXIS, traits=[Trait.REDUCTION],
    onnx="Hardmax", since=13,
)  # fmt: skip
