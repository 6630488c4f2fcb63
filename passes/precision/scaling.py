"""Quantisation spelled in elementwise operations."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.graph import Op, Value
from leptonc.ir.ops.quantize import granularity
from leptonc.ir.types import DType
from leptonc.passes.constants import uniform
from leptonc.passes.precision.integral import SMALL, Integral, Integrals, limits_of
from leptonc.passes.refine import replace_value
from leptonc.passes.views import reshape_to

if TYPE_CHECKING:
    from leptonc.passes.precision.integers_to_float import Rule


def number(build: Builder, value: float) -> Value:
    """A constant f32 without dimensions."""
    return build.const(np.array(value, np.float32))


def spread(build: Builder, values: Value, op: Op) -> Value:
    """Scales or zero points in f32, so that they broadcast to the first operand of `op`."""
    type = op.operands[0].type
    kind, axis = granularity(type, values.type, op.int("axis"), 0)
    if kind == "tensor":
        return scalar(build, values)
    shape = tuple(values.type.shape[0] if index == axis else 1 for index in range(type.rank))
    if values.blob is None:
        return reshape_to(build, values, shape)
    return build.const(values.blob.array.reshape([-1 if dim != 1 else 1 for dim in shape]))


def scalar(build: Builder, value: Value) -> Value:
    """One number without dimensions."""
    if value.type.rank == 0:
        return value
    if value.blob is not None:
        return build.const(value.blob.array.reshape(()))
    return reshape_to(build, value, ())


def limited(build: Builder, x: Value, dtype: DType) -> Integral:
    """Integers within the limits of a type; not-a-number becomes the lowest one."""
    low, high = (number(build, limit) for limit in limits_of(dtype))
    above = build.where(build.greater(x, low), x, low)
    value = build.where(build.less(above, high), above, high)
    return Integral(value, max(-limits_of(dtype)[0], limits_of(dtype)[1]))


def is_zero(value: Value | None) -> bool:
    """True for a zero point that changes nothing."""
    return value is None or (value.blob is not None and not value.blob.array.any())


def _is_plain(op: Op, real: Value, small: Value, scale: Value) -> bool:
    """True for f32 and integers of 8 or 16 bits, by tensor or by axis."""
    return (
        real.type.dtype is DType.F32
        and scale.type.dtype is DType.F32
        and small.type.dtype in SMALL
        and op.int("block_size") == 0
        and op.attrs.get("precision") in (None, DType.F32)
    )


def _quantize(op: Op, known: Integrals, build: Builder) -> Integral | None:
    x, scale, point = op.operands[0], op.operands[1], op.operand("y_zero_point")
    if not _is_plain(op, x, op.result, scale):
        return None
    divided = x if uniform(scale) == 1 else build.div(x, spread(build, scale, op))
    rounded = build.round(divided)
    if point is not None and not is_zero(point):
        rounded = build.add(rounded, spread(build, known.of(point), op))
    return limited(build, rounded, op.result.type.dtype)


def _dequantize(op: Op, known: Integrals, build: Builder) -> Value | None:
    x, scale, point = op.operands[0], op.operands[1], op.operand("x_zero_point")
    if x.blob is not None or not _is_plain(op, op.result, x, scale):
        return None
    value = known.of(x)
    if point is not None and not is_zero(point):
        value = build.sub(value, spread(build, known.of(point), op))
    return build.mul(value, spread(build, scale, op))


def _combine(op: Op, known: Integrals, build: Builder) -> Integral:
    """The sum or product of what two operands stand for, quantised."""

    def real(name: str) -> Value:
        value, point = op.operand(name), op.operand(f"{name}_zero_point")
        scale = op.operand(f"{name}_scale")
        assert value is not None
        assert scale is not None
        shifted = known.of(value)
        if point is not None and not is_zero(point):
            shifted = build.sub(shifted, scalar(build, known.of(point)))
        return build.mul(shifted, scalar(build, scale))

    a, b = real("a"), real("b")
    total = build.add(a, b) if op.name == "qlinear_add" else build.mul(a, b)
    scale, point = op.operand("c_scale"), op.operand("c_zero_point")
    assert scale is not None
    rounded = build.round(build.div(total, scalar(build, scale)))
    if point is not None and not is_zero(point):
        rounded = build.add(rounded, scalar(build, known.of(point)))
    return limited(build, rounded, op.result.type.dtype)


def _dynamic(op: Op, known: Integrals, build: Builder) -> Integral:
    """Scale and zero point by the range of the operand, extended to hold 0."""
    x, zero, top = op.operands[0], number(build, 0), number(build, 255)
    low, high = (
        build.op(f"reduce_{name}", [x], {"keepdims": 0}).result for name in ("min", "max")
    )  # fmt: skip
    low, high = build.min(low, zero), build.max(high, zero)
    span = build.div(build.sub(high, low), top)
    scale = build.where(build.equal(span, zero), number(build, 1), span)
    point = limited(build, build.round(build.div(build.sub(zero, low), scale)), DType.U8)
    whole = build.op("cast", [point.value], {"to": DType.U8}).result
    known.floats[whole] = point
    for old, new in zip(op.results[1:], (scale, whole), strict=True):
        new.name = old.name
        replace_value(old, new)
    shifted = build.add(build.round(build.div(x, scale)), point.value)
    return limited(build, shifted, DType.U8)


RULES: Mapping[str, Rule] = MappingProxyType({
    "quantize_linear": _quantize,
    "dequantize_linear": _dequantize,
    "dynamic_quantize_linear": _dynamic,
    "qlinear_add": _combine,
    "qlinear_mul": _combine,
})  # fmt: skip
"""How each operation is spelled."""
