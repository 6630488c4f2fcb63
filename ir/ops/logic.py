"""Comparisons, logic, bits and choice."""

from __future__ import annotations

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.ops import contents
from leptonc.ir.ops.broadcasting import (
    ANY,
    FLOATS,
    FLOATS8,
    INTEGERS,
    NUMBERS,
    broadcast_shapes,
    check_dtype,
    check_same_dtype,
)
from leptonc.ir.ops.rows import binary, fitted, unary
from leptonc.ir.table import Attr, Evaluation, Inference, Trait, define
from leptonc.ir.types import DType, TensorType

_BOOL = frozenset({DType.BOOL})

NOT = unary(
    "not(x)", "True for false.", np.logical_not, dtypes=_BOOL,
    content=contents.elementwise(contents.negation), onnx="Not",
)  # fmt: skip
AND = binary(
    "and(a, b)", "True where both are.", np.logical_and, dtypes=_BOOL, commutative=True,
    content=contents.elementwise(contents.conjunction), onnx="And", since=7,
)  # fmt: skip
OR = binary(
    "or(a, b)", "True where one is.", np.logical_or, dtypes=_BOOL, commutative=True,
    content=contents.elementwise(contents.disjunction), onnx="Or", since=7,
)  # fmt: skip
XOR = binary(
    "xor(a, b)", "True where just one is.", np.logical_xor, dtypes=_BOOL, commutative=True,
    onnx="Xor",
    since=7,
)  # fmt: skip
EQUAL = binary(
    "equal(a, b)", "True where a = b; NaN equals nothing.", np.equal,
    dtypes=NUMBERS | {DType.BOOL, DType.STR}, result=DType.BOOL, commutative=True,
    content=contents.elementwise(contents.equal), onnx="Equal", since=19,
)  # fmt: skip
LESS = binary(
    "less(a, b)", "True where a < b.", np.less, dtypes=NUMBERS, result=DType.BOOL,
    content=contents.elementwise(contents.less), onnx="Less", since=13,
)  # fmt: skip
LESS_OR_EQUAL = binary(
    "less_or_equal(a, b)", "True where a <= b.", np.less_equal, dtypes=NUMBERS, result=DType.BOOL,
    content=contents.elementwise(contents.less_or_equal), onnx="LessOrEqual", since=16,
)  # fmt: skip
GREATER = binary(
    "greater(a, b)", "True where a > b.", np.greater, dtypes=NUMBERS, result=DType.BOOL,
    content=contents.elementwise(contents.greater), onnx="Greater", since=13,
)  # fmt: skip
GREATER_OR_EQUAL = binary(
    "greater_or_equal(a, b)", "True where a >= b.", np.greater_equal, dtypes=NUMBERS,
    result=DType.BOOL, content=contents.elementwise(contents.greater_or_equal),
    onnx="GreaterOrEqual",
    since=16,
)  # fmt: skip


def _is_inf(x: Array, detect_negative: int, detect_positive: int) -> Array:
    negative, positive = np.isneginf(x), np.isposinf(x)
    nothing = np.zeros_like(negative)
    return (negative if detect_negative else nothing) | (positive if detect_positive else nothing)


IS_NAN = unary(
    "is_nan(x)", "True for NaN.", np.isnan, dtypes=FLOATS | FLOATS8, result=DType.BOOL,
    onnx="IsNaN",
    since=20,
)  # fmt: skip
IS_INF = unary(
    "is_inf(x)", "True for infinities of the wanted signs.", _is_inf, dtypes=FLOATS | FLOATS8,
    result=DType.BOOL, onnx="IsInf", since=20,
    attrs={"detect_negative": Attr("int", 1), "detect_positive": Attr("int", 1)},
)  # fmt: skip

BITWISE_NOT = unary(
    "bitwise_not(x)", "Every bit flipped.", np.invert, dtypes=INTEGERS, onnx="BitwiseNot", since=18
)
BITWISE_AND = binary(
    "bitwise_and(a, b)", "The bits set in both.", np.bitwise_and, dtypes=INTEGERS,
    commutative=True, onnx="BitwiseAnd", since=18,
)  # fmt: skip
BITWISE_OR = binary(
    "bitwise_or(a, b)", "The bits set in one or both.", np.bitwise_or, dtypes=INTEGERS,
    commutative=True, onnx="BitwiseOr", since=18,
)  # fmt: skip
BITWISE_XOR = binary(
    "bitwise_xor(a, b)", "The bits set in just one.", np.bitwise_xor, dtypes=INTEGERS,
    commutative=True, onnx="BitwiseXor", since=18,
)  # fmt: skip


def _bit_shift(x: Array, y: Array, direction: str) -> Array:
    bits = x.dtype.itemsize * 8
    inside = (y >= 0) & (y < bits)
    distance = np.where(inside, y, np.zeros_like(y))
    if direction == "LEFT":
        return np.where(inside, np.left_shift(x, distance), np.zeros_like(x))
    return np.right_shift(x, np.where(inside, y, np.full_like(y, bits - 1))) * _kept(x, inside)


def _kept(x: Array, inside: Array) -> Array:
    """0 where an unsigned number is shifted out altogether; a sign stays when shifted out."""
    keeps = np.ones_like(x) if x.dtype.kind == "i" else np.zeros_like(x)
    return np.where(inside, np.ones_like(x), keeps)


def _check_shift(call: Inference) -> None:
    if call.str("direction") not in ("LEFT", "RIGHT"):
        raise LeptonError(
            f'bit_shift.direction is "{call.str("direction")}", should be "LEFT" or "RIGHT"',
            code="E108",
        )


BIT_SHIFT = binary(
    "bit_shift(x, y)",
    "x shifted by y bits; to the right a sign stays, shifts out of range leave no other bit.",
    _bit_shift, dtypes=INTEGERS, attrs={"direction": Attr("str", required=True)},
    check=_check_shift, onnx="BitShift", since=28,
)  # fmt: skip


def _where_infer(call: Inference) -> TensorType:
    check_dtype(call, "condition", _BOOL)
    dtype = check_same_dtype(call, "x", "y")
    check_dtype(call, "x", ANY)
    return TensorType(dtype, broadcast_shapes(*(type.shape for type in call.types)))


def _where(call: Evaluation) -> Array:
    condition, x, y = call.items
    return np.where(condition, x, y).astype(x.dtype)


WHERE = define(
    "where(condition, x, y)",
    "x where the condition holds, else y.",
    infer=_where_infer,
    evaluate=_where,
    content=fitted(contents.elementwise(contents.choose)),
    traits=(Trait.ELEMENTWISE,),
    onnx="Where",
    since=16,
)
