# pyright: standard
"""Lowering of conversions between real numbers and scaled integers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from leptonc.backends.tvm.binding import PrimExpr, tirx
from leptonc.backends.tvm.lower.arithmetic import constant, converted, larger, let, smaller, widened
from leptonc.backends.tvm.lower.broadcasting import Tensor, operand, scalar_constant, te
from leptonc.backends.tvm.lower.combine import MAX, MIN
from leptonc.backends.tvm.lower.elementwise import unsupported_type
from leptonc.backends.tvm.lower.narrow import decode
from leptonc.backends.tvm.lower.parts import reduce_axes
from leptonc.backends.tvm.lower.requantize import difference, rounded
from leptonc.backends.tvm.lowering import TVM_DTYPE, LowerCall, Reason, Rule
from leptonc.ir.graph import Value
from leptonc.ir.ops.quantize import division_dtype, granularity
from leptonc.ir.types import DType

Index = Sequence[Any]


class _Scales:
    """Reads scales and zero points at an index of the tensor that they belong to."""

    def __init__(self, call: LowerCall, scale: str) -> None:
        op = call.op
        value = op.operand(scale)
        assert value is not None
        self.call, self.block = call, op.int("block_size")
        type = op.operands[0].type
        self.kind, self.axis = granularity(type, value.type, op.int("axis"), self.block)

    def read(self, name: str, index: Index) -> PrimExpr | None:
        """The number in the operand called `name`, None where it is absent."""
        value = self.call.op.operand(name)
        if value is None:
            return None
        return decode(self._element(name, value, index), value.type.dtype)

    def _element(self, name: str, value: Value, index: Index) -> PrimExpr:
        known = scalar_constant(value)
        if known is not None:
            return known
        tensor = self.call.get(name)
        assert tensor is not None
        if self.kind == "axis":
            return tensor(index[self.axis])
        if self.kind == "tensor":
            return tensor(*(self.call.index(0) for _ in tensor.shape))
        at = list(index)
        at[self.axis] = tirx.floordiv(at[self.axis], self.call.index(self.block))
        return tensor(*at)


def _quantize(call: LowerCall) -> Tensor:
    x, scales = operand(call), _Scales(call, "y_scale")
    precision = TVM_DTYPE[division_dtype(call.known)]
    to, saturate = call.op.results[0].type.dtype, bool(call.op.int("saturate"))

    def element(*index: Any) -> PrimExpr:
        scale = scales.read("y_scale", index)
        assert scale is not None
        value = widened(converted(x(*index), precision)) / widened(converted(scale, precision))
        value = widened(converted(value, precision))
        zero_point = scales.read("y_zero_point", index)
        shift = constant(0, value) if zero_point is None else zero_point
        return rounded(value, shift, to, saturate=saturate)

    return te.compute(call.shape(), element, name="quantize")


def _dequantize(call: LowerCall) -> Tensor:
    x, scales, dtype = operand(call), _Scales(call, "x_scale"), call.dtype()
    source = call.op.operands[0].type.dtype

    def element(*index: Any) -> PrimExpr:
        scale = scales.read("x_scale", index)
        assert scale is not None
        zero_point, stored = scales.read("x_zero_point", index), decode(x(*index), source)
        return converted(difference(stored, zero_point) * widened(scale), dtype)

    return te.compute(call.shape(), element, name="dequantize")


def _dynamic(call: LowerCall) -> list[Tensor]:
    x = operand(call)
    zero, one, top = (tirx.const(number, "float32") for number in (0, 1, 255))
    axes = reduce_axes(x.shape)
    at = [axis.var for axis in axes]

    def extreme(reducer: Any, name: str) -> Tensor:
        """The extreme, or 0 where no element is; 0 belongs to the range anyway."""
        if not axes:
            return te.compute((), lambda: x(), name=name)
        found = te.compute((), lambda: reducer(x(*at), axis=axes), name=name)
        empty = _is_empty(call)
        return te.compute((), lambda: tirx.Select(empty, zero, found()), name=f"{name}_or_0")

    low, high = extreme(MIN.reducer, "low"), extreme(MAX.reducer, "high")

    def scale_of() -> PrimExpr:
        span = larger(high(), zero) - smaller(low(), zero)
        return let(span / top, lambda size: tirx.Select(tirx.EQ(size, zero), one, size))

    scale = te.compute((), scale_of, name="scale")

    def zero_point_of() -> PrimExpr:
        return rounded((zero - smaller(low(), zero)) / scale(), zero, DType.U8)

    def element(*index: Any) -> PrimExpr:
        return rounded(x(*index) / scale(), zero_point(), DType.U8)

    zero_point = te.compute((), zero_point_of, name="zero_point")
    return [te.compute(x.shape, element, name="quantize"), scale, zero_point]


def _is_empty(call: LowerCall) -> PrimExpr:
    count: Any = call.index(1)
    for extent in operand(call).shape:
        count = count * extent
    return count < call.index(1)


RULES: dict[str, Rule] = {
    "quantize_linear": _quantize,
    "dequantize_linear": _dequantize,
    "dynamic_quantize_linear": _dynamic,
}
REASONS: dict[str, Reason] = dict.fromkeys(RULES, unsupported_type)
