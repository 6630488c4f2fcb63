# pyright: standard
"""Scalar expressions of quantized arithmetic."""

from __future__ import annotations

from collections.abc import Callable

from leptonc.backends.tvm.binding import PrimExpr, tirx
from leptonc.backends.tvm.lower.activation import Scalar
from leptonc.backends.tvm.lower.arithmetic import constant, dtype_of, is_float, let
from leptonc.backends.tvm.lower.narrow import encode
from leptonc.backends.tvm.vector_math import nearest
from leptonc.ir.graph import Op
from leptonc.ir.ops.quantize import integer_limits
from leptonc.ir.types import DType


def rounded(x: PrimExpr, zero_point: PrimExpr, to: DType, *, saturate: bool = True) -> PrimExpr:
    """`x`, an f32 or f64, rounded to even plus the zero point, in the limits of an integer type.

    Not-a-number becomes the lowest integer: both comparisons are false for it. Floats are rounded
    by their conversion.
    """
    if to.is_float:
        return encode(x + zero_point.astype(dtype_of(x)), to, saturate=saturate)
    low, high = (constant(limit, x) for limit in integer_limits(to))

    def limited(value: PrimExpr) -> PrimExpr:
        above = tirx.Select(value > low, value, low)
        return let(above, lambda value: tirx.Select(value < high, value, high))

    shifted = nearest(x) + zero_point.astype(dtype_of(x))
    return encode(let(shifted, limited), to)


def difference(x: PrimExpr, zero_point: PrimExpr | None) -> PrimExpr:
    """`x - zero_point` as f32; in integers where they hold it, which is exact and quick."""
    if zero_point is None:
        return x.astype("float32")
    if is_float(x) or dtype_of(x) == "int32":
        return x.astype("float32") - zero_point.astype("float32")
    return (x.astype("int32") - zero_point.astype("int32")).astype("float32")


def _combined(function: Callable[[PrimExpr, PrimExpr], PrimExpr]) -> Scalar:
    def expression(op: Op, xs: list[PrimExpr]) -> PrimExpr:
        given = dict(zip(op.operand_names, xs, strict=True))

        def real(name: str) -> PrimExpr:
            shifted = difference(given[name], given.get(f"{name}_zero_point"))
            return shifted * given[f"{name}_scale"]

        zero = tirx.const(0, "float32")
        total = function(real("a"), real("b")) / given["c_scale"]
        return rounded(total, given.get("c_zero_point", zero), op.results[0].type.dtype)

    return expression


QUANTIZED_SCALAR: dict[str, Scalar] = {
    "qlinear_add": _combined(lambda a, b: a + b),
    "qlinear_mul": _combined(lambda a, b: a * b),
}
