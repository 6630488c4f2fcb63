"""Products and convolutions of bytes, summed exactly in 32-bit integers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim
from leptonc.ir.ops.broadcasting import check_dtype, check_same_dtype
from leptonc.ir.ops.conv import CONV_ATTRS, check_channel_vector, conv_shape, convolve, window_at
from leptonc.ir.ops.extents import broadcasts_to, differ
from leptonc.ir.ops.linear import matmul_shape
from leptonc.ir.table import Evaluation, Inference, Trait, define
from leptonc.ir.types import DType, TensorType

BYTES = frozenset({DType.I8, DType.U8})
SCALES = frozenset({DType.F32, DType.F16, DType.BF16})


def is_scalar(type: TensorType) -> bool:
    """True for one number, whatever its rank."""
    return all(dim == 1 for dim in type.shape)


def check_scalar(call: Inference, *names: str) -> None:
    """Raise E103 unless each of the operands, where it is there, holds one number."""
    for name in names:
        type = call.type(name)
        if type is not None and any(isinstance(dim, int) and dim != 1 for dim in type.shape):
            raise LeptonError(
                f"{call.definition.name}: {name} {type} should hold one number", code="E103"
            )


def check_per_channel(call: Inference, channels: Dim, *names: str) -> None:
    """Raise E103 unless each of the operands holds one number, or one for each output channel."""
    for name in names:
        type = call.type(name)
        if type is not None and not is_scalar(type):
            check_channel_vector(call, name, channels)


def _centred(x: Array, zero_point: Array | None, shape: Sequence[int] = ()) -> Array:
    """Bytes less their zero point, as doubles, which hold every sum of their products exactly."""
    wide = x.astype(np.float64)
    if zero_point is None:
        return wide
    offset = zero_point.astype(np.float64)
    return wide - (
        offset.reshape(()) if offset.size == 1 else offset.reshape(shape or offset.shape)
    )


def _as_int32(x: Array) -> Array:
    return x.astype(np.int64).astype(np.int32)


def _conv_integer_infer(call: Inference) -> TensorType:
    for name in ("x", "w"):
        check_dtype(call, name, BYTES)
    check_same_dtype(call, "x", "x_zero_point")
    check_same_dtype(call, "w", "w_zero_point")
    shape = conv_shape(call, call.types[0], call.types[1])
    check_scalar(call, "x_zero_point")
    check_per_channel(call, shape[1], "w_zero_point")
    return TensorType(DType.I32, shape)


def _conv_sums(call: Evaluation, x: Array, w: Array) -> Array:
    centred = _centred(x, call.get("x_zero_point"))
    weight = _centred(w, call.get("w_zero_point"), (-1, *(1,) * (w.ndim - 1)))
    return convolve(centred, weight, window_at(call, x, w), call.int("group"))


CONV_INTEGER = define(
    "conv_integer(x, w, x_zero_point?, w_zero_point?)",
    "Convolution of bytes less their zero points; padding is the zero point.",
    infer=_conv_integer_infer,
    evaluate=lambda call: _as_int32(_conv_sums(call, call[0], call[1])),
    attrs=CONV_ATTRS,
    traits=[Trait.PRODUCT],
    onnx="ConvInteger",
    since=10,
)


def _along(name: str, type: TensorType, operand: TensorType, *, rows: bool) -> tuple[Dim, ...]:
    """How a zero point or scale broadcasts over its matrix: whole, by row or by column."""
    if is_scalar(type):
        return ()
    if type.rank != 1:
        return type.shape
    kept = operand.shape[-2:-1] if rows else operand.shape[-1:]
    if kept and differ(type.shape[0], kept[0]):
        raise LeptonError(
            f"{name}: {type} should hold one number for each of {kept[0]} "
            f"{'rows' if rows else 'columns'} of {operand}",
            code="E103",
        )
    return (type.shape[0], 1) if rows else type.shape


def _check_matrix_points(call: Inference, sides: Sequence[tuple[str, str, bool]]) -> None:
    for matrix, name, rows in sides:
        operand, type = call.type(matrix), call.type(name)
        if type is None or operand is None:
            continue
        if not broadcasts_to(_along(call.definition.name, type, operand, rows=rows), operand.shape):
            raise LeptonError(
                f"{call.definition.name}: {name} {type} does not broadcast over {matrix} {operand}",
                code="E103",
            )


def _spread(x: Array, *, rows: bool) -> Array:
    """A zero point or scale in the shape in which it broadcasts over its matrix."""
    if x.size == 1:
        return x.reshape(())
    return x.reshape(-1, 1) if rows and x.ndim == 1 else x


def _matmul_integer_infer(call: Inference) -> TensorType:
    for name in ("a", "b"):
        check_dtype(call, name, BYTES)
    check_same_dtype(call, "a", "a_zero_point")
    check_same_dtype(call, "b", "b_zero_point")
    _check_matrix_points(call, [("a", "a_zero_point", True), ("b", "b_zero_point", False)])
    shape = matmul_shape("matmul_integer", call.types[0].shape, call.types[1].shape)
    return TensorType(DType.I32, shape)


def _sums(call: Evaluation, a: Array, b: Array) -> Array:
    a_point, b_point = call.get("a_zero_point"), call.get("b_zero_point")
    left = _centred(a, None if a_point is None else _spread(a_point, rows=True))
    right = _centred(b, None if b_point is None else _spread(b_point, rows=False))
    return np.asarray(np.matmul(left, right))


MATMUL_INTEGER = define(
    "matmul_integer(a, b, a_zero_point?, b_zero_point?)",
    "Matrix product of bytes less their zero points.",
    infer=_matmul_integer_infer,
    evaluate=lambda call: _as_int32(_sums(call, call[0], call[1])),
    traits=[Trait.PRODUCT],
    onnx="MatMulInteger",
    since=10,
)


def requantized(sums: Array, multiplier: Array, zero_point: Array) -> Array:
    """Sums times a multiplier, rounded to even in single precision, shifted and saturated."""
    info, offset = np.iinfo(zero_point.dtype), int(zero_point.reshape(()))
    scaled = np.rint(sums.astype(np.float32) * multiplier.astype(np.float32))
    clipped = np.clip(scaled, info.min - offset, info.max - offset)
    return (clipped.astype(np.int32) + offset).astype(zero_point.dtype)


def _qlinear_conv_infer(call: Inference) -> TensorType:
    for name in ("x", "w", "y_zero_point"):
        check_dtype(call, name, BYTES)
    for name in ("x_scale", "w_scale", "y_scale"):
        check_dtype(call, name, {DType.F32})
    check_dtype(call, "bias", {DType.I32})
    check_same_dtype(call, "x", "x_zero_point")
    check_same_dtype(call, "w", "w_zero_point")
    x, w, zero = call.type("x"), call.type("w"), call.type("y_zero_point")
    assert x is not None
    assert w is not None
    assert zero is not None
    shape = conv_shape(call, x, w)
    check_scalar(call, "x_scale", "x_zero_point", "y_scale", "y_zero_point")
    check_per_channel(call, shape[1], "w_scale", "w_zero_point")
    check_channel_vector(call, "bias", shape[1])
    return TensorType(zero.dtype, shape)


def _named(call: Evaluation, name: str) -> Array:
    array = call.get(name)
    assert array is not None
    return array


def _qlinear_conv_evaluate(call: Evaluation) -> Array:
    x, w, bias = _named(call, "x"), _named(call, "w"), call.get("bias")
    sums = _conv_sums(call, x, w)
    column = (-1, *(1,) * (w.ndim - 2))
    if bias is not None:
        sums = sums + bias.reshape(column)
    w_scale = _named(call, "w_scale")
    w_scale = w_scale.reshape(()) if w_scale.size == 1 else w_scale.reshape(column)
    multiplier = _named(call, "x_scale").reshape(()) * w_scale / _named(call, "y_scale").reshape(())
    return requantized(_as_int32(sums), multiplier, _named(call, "y_zero_point"))


QLINEAR_CONV = define(
    "qlinear_conv(x, x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale, y_zero_point, "
    "bias?)",
    "Convolution of quantised data, requantised.",
    infer=_qlinear_conv_infer,
    evaluate=_qlinear_conv_evaluate,
    attrs=CONV_ATTRS,
    traits=[Trait.PRODUCT],
    onnx="QLinearConv",
    since=10,
)


def _qlinear_matmul_infer(call: Inference) -> TensorType:
    for name in ("a", "b", "y_zero_point"):
        check_dtype(call, name, BYTES)
    for name in ("a_scale", "b_scale", "y_scale"):
        check_dtype(call, name, SCALES)
    check_same_dtype(call, "a", "a_zero_point")
    check_same_dtype(call, "b", "b_zero_point")
    check_scalar(call, "y_scale", "y_zero_point")
    sides = [
        (side, f"{side}_{what}", side == "a") for side in "ab" for what in ("scale", "zero_point")
    ]
    _check_matrix_points(call, sides)
    a, b, zero = call.type("a"), call.type("b"), call.type("y_zero_point")
    assert a is not None
    assert b is not None
    assert zero is not None
    return TensorType(zero.dtype, matmul_shape("qlinear_matmul", a.shape, b.shape))


def _qlinear_matmul_evaluate(call: Evaluation) -> Array:
    sums = _sums(call, _named(call, "a"), _named(call, "b"))
    left = _spread(_named(call, "a_scale").astype(np.float32), rows=True)
    right = _spread(_named(call, "b_scale").astype(np.float32), rows=False)
    y_scale = _named(call, "y_scale").astype(np.float32).reshape(())
    return requantized(_as_int32(sums), left * right / y_scale, _named(call, "y_zero_point"))


QLINEAR_MATMUL = define(
    "qlinear_matmul(a, a_scale, a_zero_point, b, b_scale, b_zero_point, y_scale, y_zero_point)",
    "Matrix product of quantised matrices, requantised.",
    infer=_qlinear_matmul_infer,
    evaluate=_qlinear_matmul_evaluate,
    traits=[Trait.PRODUCT],
    onnx="QLinearMatMul",
    since=10,
)
