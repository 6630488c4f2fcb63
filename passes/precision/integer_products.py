"""Products and convolutions of bytes as such of floats, exact as long as sums are small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.build import Builder
from leptonc.ir.graph import Op, Value
from leptonc.ir.types import DType
from leptonc.passes.precision.integral import (
    BYTES,
    LIMIT,
    Integral,
    Integrals,
    largest_difference,
    largest_of,
)
from leptonc.passes.precision.scaling import is_zero, limited, scalar

if TYPE_CHECKING:
    from leptonc.passes.precision.integers_to_float import Rule

MOST_PARTS = 16
"""A product that would take more parts stays one of integers."""
MANY_ROWS = 64
"""From here on reading a weight costs little beside computing with it."""
CONV = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")


def _one_number(value: Value | None) -> bool:
    return value is None or all(dim == 1 for dim in value.type.shape)


def _centred(known: Integrals, build: Builder, x: Value, point: Value | None) -> Value:
    value = known.of(x)
    return value if point is None or is_zero(point) else build.sub(
        value, scalar(build, known.of(point))
    )  # fmt: skip


def _weight(op: Op, name: str, *, last: bool) -> Array | None:
    """A constant weight less its zero points, which belong to its last axis or to its first."""
    value, point = op.operand(name), op.operand(f"{name}_zero_point")
    assert value is not None
    if value.blob is None or (point is not None and point.blob is None):
        return None
    weight = value.blob.array.astype(np.int32)
    if point is None or point.blob is None:
        return weight
    offset = point.blob.array.astype(np.int32)
    if offset.size == 1:
        return weight - offset.reshape(())
    if offset.ndim != 1:
        return None
    return weight - (offset if last else offset.reshape(-1, *(1,) * (weight.ndim - 1)))


def _parts(sums: Array, factor: int) -> list[slice] | None:
    """Stretches of the depth, `sums[depth, filters]` of magnitudes, whose products are exact."""
    parts: list[slice] = []
    start, total = 0, np.zeros(sums.shape[1:], np.int64)
    for index, row in enumerate(sums):
        if int((total + row).max(initial=0)) * factor >= LIMIT:
            if index == start or len(parts) >= MOST_PARTS:
                return None
            parts.append(slice(start, index))
            start, total = index, np.zeros_like(total)
        total += row
    parts.append(slice(start, len(sums)))
    return parts


def _bound(sums: Array, factor: int) -> int:
    return int(sums.sum(0).max(initial=0)) * factor


def _convolved(op: Op, known: Integrals, build: Builder) -> Integral | Value | None:
    """The convolution's sums: floats, or 32-bit integers where they are too large for those."""
    x, point = op.operand("x"), op.operand("x_zero_point")
    weight = _weight(op, "w", last=False)
    assert x is not None
    if weight is None or not _one_number(point):
        return None
    factor = largest_difference(x, point)
    sums = np.abs(weight).sum(axis=tuple(range(2, weight.ndim)), dtype=np.int64).T
    parts = _parts(sums, factor)
    if parts is None or (len(parts) > 1 and op.int("group") != 1):
        return None
    source = _centred(known, build, x, point)
    attrs = {name: op.attrs[name] for name in CONV}

    def convolve(part: slice) -> Value:
        data = build.const(np.ascontiguousarray(weight[:, part].astype(np.float32)))
        return build.op("conv", [_cut(build, source, part, 1, len(parts)), data], attrs).result

    return _summed(build, [convolve(part) for part in parts], _bound(sums, factor))


def _multiplied(op: Op, known: Integrals, build: Builder) -> Integral | Value | None:
    """The matrix product's sums, as those of a convolution."""
    a, b, point = op.operand("a"), op.operand("b"), op.operand("a_zero_point")
    assert a is not None
    assert b is not None
    if not _one_number(point):
        return None
    weight = _weight(op, "b", last=True)
    if weight is None:
        return _both_free(op, known, build)
    if weight.ndim != 2 or a.type.rank < 2:
        return None
    factor = largest_difference(a, point)
    sums = np.abs(weight).astype(np.int64)
    parts = _parts(sums, factor)
    if parts is None:
        return None
    source, axis = _centred(known, build, a, point), a.type.rank - 1

    few = not any(isinstance(dim, int) and dim >= MANY_ROWS for dim in a.type.shape[:-1])
    fits = weight.min(initial=0) >= -128 and weight.max(initial=0) <= 127

    def multiply(part: slice) -> Value:
        rows = _cut(build, source, part, axis, len(parts))
        if few and fits:
            return build.linear_bytes(rows, build.const(weight[part].astype(np.int8)))
        return build.linear(rows, build.const(weight[part].astype(np.float32)))

    return _summed(build, [multiply(part) for part in parts], _bound(sums, factor))


def _both_free(op: Op, known: Integrals, build: Builder) -> Integral | None:
    """Two matrices that only run time knows, of a depth at which nothing can get too large."""
    a, b = op.operand("a"), op.operand("b")
    points = [op.operand("a_zero_point"), op.operand("b_zero_point")]
    assert a is not None
    assert b is not None
    depth = a.type.shape[-1]
    if not isinstance(depth, int) or not _one_number(points[1]) or b.blob is not None:
        return None
    bound = depth * largest_difference(a, points[0]) * largest_difference(b, points[1])
    if not known.holds(bound):
        return None
    left, right = (_centred(known, build, x, p) for x, p in zip((a, b), points, strict=True))
    return Integral(build.matmul(left, right), bound)


def _cut(build: Builder, x: Value, part: slice, axis: int, count: int) -> Value:
    if count == 1:
        return x
    limits = (build.const(np.array([at], np.int64)) for at in (part.start, part.stop))
    return build.slice(x, *limits, axes=build.const(np.array([axis], np.int64)))


def _summed(build: Builder, parts: Sequence[Value], bound: int) -> Integral | Value:
    """The parts together: floats where these hold the sum, else integers."""
    if len(parts) == 1:
        return Integral(parts[0], bound)
    total: Value | None = None
    for part in parts:
        whole = build.op("cast", [part], {"to": DType.I32}).result
        total = whole if total is None else build.add(total, whole)
    assert total is not None
    return total


def _as_float(build: Builder, sums: Integral | Value) -> Value:
    if isinstance(sums, Integral):
        return sums.value
    return build.op("cast", [sums], {"to": DType.F32}).result


def _requantized(
    op: Op, known: Integrals, build: Builder, total: Value, multiplier: Array
) -> Integral:  # fmt: skip
    """Floats times a multiplier, rounded to even, shifted, within the limits of the result."""
    factor = build.const(np.ascontiguousarray(multiplier.astype(np.float32)))
    rounded = build.round(build.mul(total, factor))
    point = op.operand("y_zero_point")
    if point is not None and not is_zero(point):
        rounded = build.add(rounded, scalar(build, known.of(point)))
    return limited(build, rounded, op.result.type.dtype)


def _scales(op: Op, *names: str) -> list[Array] | None:
    found: list[Array] = []
    for name in names:
        value = op.operand(name)
        if value is None or value.blob is None or value.type.dtype is not DType.F32:
            return None
        found.append(value.blob.array)
    return found


def _quantized_conv(op: Op, known: Integrals, build: Builder) -> Integral | None:
    scales, bias = _scales(op, "x_scale", "w_scale", "y_scale"), op.operand("bias")
    if scales is None or (bias is not None and bias.blob is None):
        return None
    sums = _convolved(op, known, build)
    if sums is None:
        return None
    rank = op.result.type.rank
    if bias is not None and bias.blob is not None:
        row = bias.blob.array.reshape(-1, *(1,) * (rank - 2))
        sums = _with_bias(build, sums, row, largest_of(bias))
    x_scale, w_scale, y_scale = scales
    column = w_scale.reshape(()) if w_scale.size == 1 else w_scale.reshape(-1, *(1,) * (rank - 2))
    multiplier = x_scale.reshape(()) * column / y_scale.reshape(())
    return _requantized(op, known, build, _as_float(build, sums), multiplier)


def _with_bias(
    build: Builder, sums: Integral | Value, row: Array, largest: int
) -> Integral | Value:  # fmt: skip
    if isinstance(sums, Integral) and sums.largest + largest < LIMIT:
        data = build.const(row.astype(np.float32))
        return Integral(build.add(sums.value, data), sums.largest + largest)
    whole = sums
    if isinstance(sums, Integral):
        whole = build.op("cast", [sums.value], {"to": DType.I32}).result
    assert isinstance(whole, Value)
    return build.add(whole, build.const(row))


def _quantized_matmul(op: Op, known: Integrals, build: Builder) -> Integral | None:
    scales = _scales(op, "a_scale", "b_scale", "y_scale")
    if scales is None or scales[0].size != 1 or scales[1].ndim > 1:
        return None
    if scales[1].size != 1 and op.operands[0].type.rank < 2:
        return None
    a = op.operand("a")
    if a is None or a.type.dtype not in BYTES:
        return None
    sums = _multiplied(op, known, build)
    if sums is None:
        return None
    a_scale, b_scale, y_scale = scales
    row = b_scale.reshape(()) if b_scale.size == 1 else b_scale
    multiplier = a_scale.reshape(()) * row / y_scale.reshape(())
    return _requantized(op, known, build, _as_float(build, sums), multiplier)


RULES: Mapping[str, Rule] = MappingProxyType({
    "conv_integer": _convolved,
    "matmul_integer": _multiplied,
    "qlinear_conv": _quantized_conv,
    "qlinear_matmul": _quantized_matmul,
})  # fmt: skip
"""How each operation is spelled."""
