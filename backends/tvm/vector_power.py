# pyright: standard
"""Powers and roots as vectorisable expressions: see `vector_math`."""

from __future__ import annotations

import math

from leptonc.backends.tvm.binding import PrimExpr, expression, let, tirx
from leptonc.backends.tvm.vector_math import (
    SMALLEST_NORMAL,
    absolute,
    clamp,
    exp_remainder,
    f32,
    fma,
    horner,
    i32,
    is_nan,
    nearest,
    scaled,
    vectorised,
)

# 2 / ((2 n + 1) ln 2), highest power first: log2((1 + s) / (1 - s)) over s, in s**2.
LOG2_SERIES = tuple(2 / ((2 * n + 1) * math.log(2)) for n in range(7, -1, -1))


def sqrt(x: PrimExpr) -> PrimExpr:
    """The square root."""
    return tirx.sqrt(x)


def rsqrt(x: PrimExpr) -> PrimExpr:
    """The reciprocal of the square root."""
    x = expression(x)
    return tirx.const(1.0, str(x.ty)) / tirx.sqrt(x)


def log2_wide(x: PrimExpr) -> PrimExpr:
    """The logarithm to base 2 of a finite fp32 > 0, as fp64 good to 2**-36."""

    def series(s: PrimExpr) -> PrimExpr:
        return s * let(s * s, lambda z: horner(z, LOG2_SERIES))

    def split(y: PrimExpr, bias: PrimExpr) -> PrimExpr:
        def parts(bits: PrimExpr) -> PrimExpr:
            m = tirx.reinterpret("float32", (bits & i32(0x7FFFFF)) + i32(0x3F3504F3))
            e = (bits >> i32(23)) - bias
            one = tirx.const(1.0, "float64")
            return e.astype("float64") + let(
                m.astype("float64"), lambda m: let((m - one) / (m + one), series)
            )

        return let(tirx.reinterpret("int32", y) - i32(0x3F3504F3), parts)

    tiny = x < f32(SMALLEST_NORMAL)
    return split(x * tirx.Select(tiny, f32(2.0**24), f32(1.0)), tirx.Select(tiny, i32(24), i32(0)))


def magnitude_power(a: PrimExpr, y: PrimExpr) -> PrimExpr:
    """`a ** y` for a >= 0."""
    zero, one, infinite = (f32(c) for c in (0.0, 1.0, math.inf))

    def scale(t: PrimExpr, k: PrimExpr) -> PrimExpr:
        r = ((t - k) * tirx.const(math.log(2), "float64")).astype("float32")
        return let(r, lambda r: scaled(fma(exp_remainder(r), r * r, r + one), k))

    exponent = clamp(y.astype("float64") * log2_wide(a), -160.0, 130.0)
    inside = let(exponent, lambda t: let(nearest(t), lambda k: scale(t, k)))
    # Zero and infinity have no logarithm that the series finds.
    is_zero = tirx.EQ(a, zero)
    edge = tirx.Select(tirx.Select(is_zero, y < zero, y > zero), infinite, zero)
    result = tirx.Select(tirx.Or(is_zero, tirx.EQ(a, infinite)), edge, inside)
    result = tirx.Select(is_nan(a), a, tirx.Select(is_nan(y), y, result))
    return tirx.Select(tirx.Or(tirx.EQ(a, one), tirx.EQ(y, zero)), one, result)


def signed_power(x: PrimExpr, y: PrimExpr) -> PrimExpr:
    """`x ** y`, for negative x only of integers y."""
    zero, half, two = (f32(c) for c in (0.0, 0.5, 2.0))

    def signed(magnitude: PrimExpr) -> PrimExpr:
        negative = tirx.reinterpret("int32", x) < i32(0)
        odd = tirx.And(tirx.EQ(nearest(y), y), tirx.NE(nearest(y * half) * two, y))
        value = tirx.Select(tirx.And(negative, odd), zero - magnitude, magnitude)
        fraction = tirx.Or(tirx.NE(nearest(y), y), is_nan(y))
        undefined = tirx.And(tirx.And(x < zero, x > f32(-math.inf)), fraction)
        return tirx.Select(undefined, f32(math.nan), value)

    return let(magnitude_power(absolute(x), y), signed)


@vectorised(tirx.pow)
def general_power(x: PrimExpr, y: PrimExpr) -> PrimExpr:
    """`x ** y`."""
    return let(x, lambda x: let(y, lambda y: signed_power(x, y)))


def pow(x: PrimExpr, y: PrimExpr) -> PrimExpr:
    """`x ** y` of one type; small constant exponents become products."""
    x = expression(x)
    exponent = float(y.value) if isinstance(y, tirx.FloatImm) else None
    one = tirx.const(1.0, str(x.ty))
    if exponent == 0.5:
        return tirx.sqrt(x)
    if exponent == -1.0:
        return one / x
    if exponent == 1.0:
        return x
    if exponent == 2.0:
        return let(x, lambda x: x * x)
    if exponent == 3.0:
        return let(x, lambda x: x * x * x)
    return general_power(x, y)
