"""Conversion between real numbers and scaled integers or 8-bit floats."""

from __future__ import annotations

from typing import Any

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim, ceildiv
from leptonc.ir.ops.broadcasting import (
    FLOATS8,
    SUB_BYTE,
    broadcast_shapes,
    check_dtype,
    check_same_dtype,
    normalized_axis,
    shown_shape,
)
from leptonc.ir.ops.cast import cast
from leptonc.ir.ops.rows import widened
from leptonc.ir.table import Attr, Evaluation, Inference, Trait, define
from leptonc.ir.types import DType, TensorType

REAL = frozenset({DType.F32, DType.F16, DType.BF16})
QUANTIZED = FLOATS8 | SUB_BYTE | {DType.I8, DType.U8, DType.I16, DType.U16}


def granularity(type: TensorType, scale: TensorType, axis: int, block_size: int) -> tuple[str, int]:
    """How far one scale reaches: ``tensor``, ``axis`` or ``block``, and along which axis."""
    if scale.shape in ((), (1,)):
        return "tensor", 0
    if block_size:
        return "block", axis % type.rank
    return "axis", 0 if type.rank == 1 else axis % max(type.rank, 1)


def _check_scale(call: Inference, prefix: str) -> None:
    scale = call.type(f"{prefix}_scale")
    assert scale is not None
    type, name, block = call[0].type, call.definition.name, call.int("block_size")
    if block < 0:
        raise LeptonError(f"{name}.block_size is {block}, should be at least 0", code="E108")
    expected: tuple[Dim, ...] = ()
    if scale.shape not in ((), (1,)):
        if block or type.rank != 1:
            normalized_axis(call, call.int("axis"), type.rank)
        kind, axis = granularity(type, scale, call.int("axis"), block)
        expected = (type.shape[axis],)
        if kind == "block":
            blocks = ceildiv(type.shape[axis], block)
            expected = (*type.shape[:axis], blocks, *type.shape[axis + 1 :])
        _check_extents(name, f"{prefix}_scale", scale, expected)
    zero_point = call.type(f"{prefix}_zero_point")
    if zero_point is not None and {zero_point.shape, scale.shape} != {(), (1,)}:
        _check_extents(name, f"{prefix}_zero_point", zero_point, scale.shape)


def _check_extents(name: str, operand: str, type: TensorType, expected: tuple[Dim, ...]) -> None:
    fits = type.rank == len(expected) and all(
        a == b or not (isinstance(a, int) and isinstance(b, int))
        for a, b in zip(type.shape, expected, strict=True)
    )
    if not fits:
        raise LeptonError(
            f"{name}.{operand} has the shape {shown_shape(type.shape)}, "
            f"should be {shown_shape(expected)}",
            code="E103",
        )


def spread(values: Array, shape: tuple[int, ...], axis: int, block_size: int) -> Array:
    """Scales or zero points, so that they broadcast to `shape`."""
    if values.size == 1 and values.ndim <= 1:
        return values.reshape(())
    if block_size:
        return np.repeat(values, block_size, axis).take(range(shape[axis]), axis)
    axis = 0 if len(shape) == 1 else axis % len(shape)
    return values.reshape([-1 if index == axis else 1 for index in range(len(shape))])


def _spread(call: Evaluation, name: str) -> Array:
    values = call.get(name)
    if values is None:
        return np.zeros((), np.float32)
    return spread(values, call[0].shape, call.int("axis"), call.int("block_size"))


# -- from real numbers --------------------------------------------------------------------------


def quantized_dtype(call: Inference | Evaluation) -> DType:
    """The type that quantization gives: the zero point's, else `output_dtype`, else u8."""
    zero_point: Any = call.get("y_zero_point")
    if zero_point is not None:
        return zero_point.type.dtype if isinstance(call, Inference) else DType.of(zero_point.dtype)
    output = call.attrs["output_dtype"]
    return output if isinstance(output, DType) else DType.U8


def division_dtype(call: Inference | Evaluation) -> DType:
    """The type that x is divided by its scale in: `precision`, else the scale's where real."""
    precision = call.attrs["precision"]
    if isinstance(precision, DType):
        return precision
    scale: Any = call[1]
    dtype = scale.type.dtype if isinstance(call, Inference) else DType.of(scale.dtype)
    if dtype in REAL or dtype is DType.F64:
        return dtype
    return DType.F64 if dtype.is_integer else DType.F32


def _quantize_infer(call: Inference) -> TensorType:
    check_dtype(call, "x", REAL | {DType.I32, DType.F64})
    check_dtype(call, "y_scale", REAL | {DType.I32, DType.F8E8M0, DType.F64})
    check_dtype(call, "y_zero_point", QUANTIZED)
    dtype, output = quantized_dtype(call), call.attrs["output_dtype"]
    if dtype not in QUANTIZED or output not in (None, dtype):
        raise LeptonError(
            f"quantize_linear.output_dtype is {output}, should be "
            + (f"that of the zero point, {dtype}" if dtype in QUANTIZED else "a quantized type"),
            code="E101",
        )
    if division_dtype(call) not in REAL | {DType.F64}:
        raise LeptonError(
            f"quantize_linear.precision is {division_dtype(call)}, should be f32, f16 or bf16",
            code="E102",
        )
    _check_scale(call, "y")
    return call[0].type.with_dtype(dtype)


def _quantize(call: Evaluation) -> Array:
    precision = division_dtype(call)
    x = call[0].astype(precision.numpy)
    scale = _spread(call, "y_scale").astype(precision.numpy)
    quotient = np.asarray(widened(x) / widened(scale)).astype(precision.numpy)
    zero_point = _spread(call, "y_zero_point")
    to = quantized_dtype(call)
    return round_to(widened(quotient), zero_point, to, saturate=bool(call.int("saturate")))


def round_to(x: Array, zero_point: Array, to: DType, *, saturate: bool = True) -> Array:
    """`x` rounded to the nearest even integer plus the zero point, within the limits of `to`.

    NaN gives the lowest integer. Floats are rounded by their conversion.
    """
    if not to.is_integer:
        return cast(x + widened(zero_point).astype(x.dtype), to, saturate=saturate)
    low, high = integer_limits(to)
    shifted = np.rint(x) + zero_point.astype(x.dtype)
    return np.asarray(np.fmin(np.fmax(shifted, low), high).astype(np.int32).astype(to.numpy))


def integer_limits(dtype: DType) -> tuple[int, int]:
    """The lowest and the highest value of an integer type, those below a byte included."""
    bits = int(dtype.value[1:])
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if dtype.is_signed else (0, (1 << bits) - 1)


_GRANULARITY = {"axis": Attr("int", 1), "block_size": Attr("int", 0)}

QUANTIZE_LINEAR = define(
    "quantize_linear(x, y_scale, y_zero_point?)",
    "x / scale, rounded to even, plus the zero point, kept in range; one scale, or many by axis.",
    infer=_quantize_infer,
    evaluate=_quantize,
    attrs={
        **_GRANULARITY, "saturate": Attr("int", 1),
        "output_dtype": Attr("dtype"), "precision": Attr("dtype"),
    },
    onnx="QuantizeLinear",
    since=28,
)  # fmt: skip

# -- to real numbers ----------------------------------------------------------------------------


def _dequantize_infer(call: Inference) -> TensorType:
    check_dtype(call, "x", QUANTIZED | {DType.I32})
    check_dtype(call, "x_scale", REAL | {DType.F8E8M0})
    check_same_dtype(call, "x", "x_zero_point")
    output = call.attrs["output_dtype"] or call[1].type.dtype
    if output not in REAL:
        raise LeptonError(
            f"dequantize_linear gives {output}, should be f32, f16 or bf16",
            notes=["set output_dtype, which is otherwise the type of the scale"],
            code="E102",
        )
    _check_scale(call, "x")
    return call[0].type.with_dtype(output)  # pyright: ignore[reportArgumentType]


def _dequantize(call: Evaluation) -> Array:
    wide = np.float64 if call[1].dtype == np.float64 else np.float32
    difference = call[0].astype(wide) - _spread(call, "x_zero_point").astype(wide)
    result = difference * _spread(call, "x_scale").astype(wide)
    output = call.attrs["output_dtype"]
    dtype = output.numpy if isinstance(output, DType) and wide is np.float32 else call[1].dtype
    return np.asarray(result).astype(dtype)


DEQUANTIZE_LINEAR = define(
    "dequantize_linear(x, x_scale, x_zero_point?)",
    "(x - zero point) * scale; one scale, or many by axis.",
    infer=_dequantize_infer,
    evaluate=_dequantize,
    attrs={**_GRANULARITY, "output_dtype": Attr("dtype")},
    onnx="DequantizeLinear",
    since=28,
)

# -- with a scale found at run time -------------------------------------------------------------


def _dynamic_infer(call: Inference) -> tuple[TensorType, TensorType, TensorType]:
    check_dtype(call, "x", {DType.F32})
    return call[0].type.with_dtype(DType.U8), TensorType(DType.F32, ()), TensorType(DType.U8, ())


def _dynamic(call: Evaluation) -> tuple[Array, Array, Array]:
    x = call[0].astype(np.float32)
    zero = np.float32(0)
    low, high = np.min(x, initial=zero), np.max(x, initial=zero)
    scale = np.float32((high - low) / np.float32(255)) if high != low else np.float32(1)
    scale = scale if scale != 0 else np.float32(1)
    zero_point = np.rint(np.fmin(np.fmax(-low / scale, zero), np.float32(255)))
    y = round_to(x / scale, np.asarray(zero_point), DType.U8)
    return y, np.asarray(scale), np.asarray(zero_point).astype(np.uint8)


DYNAMIC_QUANTIZE_LINEAR = define(
    "dynamic_quantize_linear(x)",
    "x as u8 with the scale and zero point that its own range, extended to hold 0, asks for.",
    infer=_dynamic_infer,
    evaluate=_dynamic,
    onnx="DynamicQuantizeLinear",
    since=11,
)

# -- of com.microsoft ---------------------------------------------------------------------------


def _sum_infer(call: Inference) -> TensorType:
    check_dtype(call, "a", {DType.I8, DType.U8})
    present = [name for name in call.names if not name.endswith("_scale")]
    dtype = check_same_dtype(call, *present)
    for name in call.names:
        type = call.type(name)
        assert type is not None
        if name.endswith("_scale"):
            check_dtype(call, name, {DType.F32})
        if name not in ("a", "b") and type.shape not in ((), (1,)):
            raise LeptonError(
                f"{call.definition.name}.{name} is {type}, should be a scalar", code="E103"
            )
    (a,), (b,) = call.all("a"), call.all("b")
    return TensorType(dtype, broadcast_shapes(a.type.shape, b.type.shape))


def _real(call: Evaluation, name: str) -> Array:
    data, zero_point = call.get(name), call.get(f"{name}_zero_point")
    assert data is not None
    shift = zero_point.reshape(()).astype(np.float32) if zero_point is not None else 0
    return (data.astype(np.float32) - shift) * _scale(call, name)


def _scale(call: Evaluation, name: str) -> Array:
    scale = call.get(f"{name}_scale")
    assert scale is not None
    return scale.reshape(()).astype(np.float32)


def _requantized(call: Evaluation, x: Array) -> Array:
    given = call.get("c_zero_point")
    zero_point = given.reshape(()) if given is not None else np.zeros((), call[0].dtype)
    return round_to(x / _scale(call, "c"), zero_point, DType.of(call[0].dtype))


_SCALED = "a, a_scale, a_zero_point?, b, b_scale, b_zero_point?, c_scale, c_zero_point?"

QLINEAR_ADD = define(
    f"qlinear_add({_SCALED})",
    "The sum of two quantized tensors, quantized.",
    infer=_sum_infer,
    evaluate=lambda call: _requantized(call, _real(call, "a") + _real(call, "b")),
    traits=(Trait.ELEMENTWISE,),
    onnx="QLinearAdd",
    domain="com.microsoft",
)
QLINEAR_MUL = define(
    f"qlinear_mul({_SCALED})",
    "The product of two quantized tensors, quantized.",
    infer=_sum_infer,
    evaluate=lambda call: _requantized(call, _real(call, "a") * _real(call, "b")),
    traits=(Trait.ELEMENTWISE,),
    onnx="QLinearMul",
    domain="com.microsoft",
)
