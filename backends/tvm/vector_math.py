# pyright: standard
"""Elementary functions as expressions over fp32 scalars that vectorise to arithmetic alone.

TVM's own `exp`, `tanh` and the like become one libm call a lane, ten times as slow. These build
polynomials of a few units in the last place; not-a-number propagates, infinities and results out
of range behave as numpy's. fp64 arguments go to libm, fp16 and bf16 through fp32.

Clamps are written with `Select`, whose order of operands decides what becomes of not-a-number:
`tirx.max` and `tirx.min` may be reordered. Sums that the simplifier must not touch (it takes
`(x + c) - c` for `x`) go through an intrinsic.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps

from leptonc.backends.tvm.binding import PrimExpr, expression, let, tirx

Function = Callable[..., PrimExpr]
LOG2_E = 1.44269504088896341
LOG2_E_SHORT = 1.4426950216293335  # rounded to fp32
# ln 2 in two parts, the first short enough that its product with an exponent is exact.
LN2_HIGH, LN2_LOW = 0.693359375, -2.12194440e-4
LARGEST = 3.4028234663852886e38
SMALLEST_NORMAL = 1.17549435e-38
# (2**f - 1) / f for f within a half: 2e-8 of 2**f at most.
EXP2_REST = (
    0.00015370704932138324, 0.0013399848248809576, 0.009618373587727547,
    0.05550329014658928, 0.24022647738456726, 0.6931471824645996,
)  # fmt: skip
# The same with an operation less: 1.1e-7 of 2**f at most, about a rounding.
EXP2_REST_SHORT = (
    0.001326472032815218, 0.009671512991189957, 0.05550733953714371, 0.24022242426872253,
    0.6931470036506653,
)  # fmt: skip
# A number of this size has no bits below 1, and those of the exponent of 1 in its lowest ones.
ROUNDER = 1.5 * 2**23 + 127


def f32(value: float) -> PrimExpr:
    """A constant."""
    return tirx.const(value, "float32")


def i32(value: int) -> PrimExpr:
    """A constant."""
    return tirx.const(value, "int32")


def is_nan(x: PrimExpr) -> PrimExpr:
    """Whether an fp32 is not-a-number, in a way that the simplifier does not take for false."""
    return (tirx.reinterpret("int32", x) & i32(0x7FFFFFFF)) > i32(0x7F800000)


def fma(a: PrimExpr, b: PrimExpr, c: PrimExpr) -> PrimExpr:
    """`a * b + c`, rounded once where the CPU can."""
    return tirx.call_llvm_pure_intrin(str(c.ty), "llvm.fmuladd", a, b, c)


def nearest(x: PrimExpr) -> PrimExpr:
    """The nearest integer, as a float."""
    return tirx.call_llvm_pure_intrin(str(x.ty), "llvm.nearbyint", x)


def absolute(x: PrimExpr) -> PrimExpr:
    """The value without its sign."""
    return tirx.call_llvm_pure_intrin(str(x.ty), "llvm.fabs", x)


def with_sign(magnitude: PrimExpr, sign: PrimExpr) -> PrimExpr:
    """The magnitude with the sign of the second argument."""
    return tirx.call_llvm_pure_intrin(str(sign.ty), "llvm.copysign", magnitude, sign)


def at_least(x: PrimExpr, bound: float) -> PrimExpr:
    """The larger of a value and a bound; not-a-number stays."""
    limit = tirx.const(bound, str(x.ty))
    return let(x, lambda x: tirx.Select(x < limit, limit, x))


def at_most(x: PrimExpr, bound: float) -> PrimExpr:
    """The smaller of a value and a bound; not-a-number stays."""
    limit = tirx.const(bound, str(x.ty))
    return let(x, lambda x: tirx.Select(x > limit, limit, x))


def clamp(x: PrimExpr, low: float, high: float) -> PrimExpr:
    """The value between two bounds; not-a-number stays."""
    return at_most(at_least(x, low), high)


def horner(x: PrimExpr, coefficients: tuple[float, ...]) -> PrimExpr:
    """The polynomial with these coefficients, highest power first."""
    first, *rest = (tirx.const(c, str(x.ty)) for c in coefficients)
    for coefficient in rest:
        first = fma(first, x, coefficient)
    return first


def vectorised(libm: Function) -> Callable[[Function], Function]:
    """Makes a function of fp32 one of every float: fp64 by libm, the short ones through fp32."""

    def decorate(function: Function) -> Function:
        @wraps(function)
        def any_float(*values: PrimExpr) -> PrimExpr:
            args = [expression(value) for value in values]
            dtype = str(args[0].ty)
            if dtype == "float32":
                return function(*args)
            if dtype == "float64":
                return libm(*args)
            return any_float(*(arg.astype("float32") for arg in args)).astype(dtype)

        return any_float

    return decorate


def extern(name: str) -> Function:
    """The function of libm so called, of fp64."""
    return lambda *args: tirx.call_pure_extern("float64", name, *args)


def power_of_two(exponent: PrimExpr) -> PrimExpr:
    """2 to an int32 exponent of a normal number."""
    return tirx.reinterpret("float32", (exponent + i32(127)) << i32(23))


def scaled(x: PrimExpr, exponent: PrimExpr) -> PrimExpr:
    """`x * 2**exponent` in two steps, so that results may overflow or be subnormal."""
    return let(
        exponent.astype("int32") >> i32(1),
        lambda half: x * power_of_two(half) * power_of_two(exponent.astype("int32") - half),
    )


def exp_remainder(r: PrimExpr) -> PrimExpr:
    """`exp(r) - 1 - r` over `r**2`, for r within half of ln 2."""
    return horner(
        r,
        (
            1.9875691500e-4,
            1.3981999507e-3,
            8.3334519073e-3,
            4.1665795894e-2,
            1.6666665459e-1,
            5.0000001201e-1,
        ),
    )


def reduced(x: PrimExpr, body: Callable[[PrimExpr, PrimExpr], PrimExpr]) -> PrimExpr:
    """`body(k, r)` with `x = k ln 2 + r`."""
    return let(
        x,
        lambda x: let(
            nearest(x * f32(LOG2_E)),
            lambda k: let(fma(k, f32(-LN2_LOW), fma(k, f32(-LN2_HIGH), x)), lambda r: body(k, r)),
        ),
    )


@vectorised(tirx.exp)
def exp(x: PrimExpr) -> PrimExpr:
    """E to the x."""
    return reduced(
        clamp(x, -104.0, 89.0),
        lambda k, r: scaled(fma(exp_remainder(r), r * r, r + f32(1.0)), k),
    )


def exp_flushed(x: PrimExpr) -> PrimExpr:
    """E to an fp32 x up to 88, cheaper: results below the normal numbers become zero.

    Off by 1.3e-8 of the result for each 1 that x is away from zero, besides rounding.
    """
    return let(at_least(x, -88.02), lambda x: power_of_e(x, 1, lambda part, whole: part * whole))


def exp2_flushed(x: PrimExpr) -> PrimExpr:
    """2 to an fp32 x up to 127, within 1.1e-7; results below the normal numbers become zero.

    What takes k out of x only adds: the polynomial keeps the units that multiply busy, not those.
    """

    def power(x: PrimExpr, rounded: PrimExpr) -> PrimExpr:
        f = x + (f32(ROUNDER) - rounded)
        whole = tirx.reinterpret("float32", tirx.reinterpret("int32", rounded) << i32(23))
        return let(f, lambda f: fma(f, horner(f, EXP2_REST_SHORT), f32(1.0)) * whole)

    return let(
        at_least(x, -127.0),
        lambda x: let(fma(x, f32(1.0), f32(ROUNDER)), lambda rounded: power(x, rounded)),
    )


def power_of_e(
    x: PrimExpr,
    sign: int,
    body: Callable[[PrimExpr, PrimExpr], PrimExpr],
    rest: tuple[float, ...] = EXP2_REST,
) -> PrimExpr:
    """`body(part, whole)`, whose product is `exp(sign * x)`, in half the operations of `exp`.

    The power is 2 to k + f. Adding a large number rounds to k and leaves it in the lowest bits,
    from where it is shifted into the exponent. `rest` is the polynomial for 2 to f.
    """
    short = sign * LOG2_E_SHORT

    def power(rounded: PrimExpr) -> PrimExpr:
        f = fma(x, f32(short), f32(ROUNDER) - rounded)
        whole = tirx.reinterpret("float32", tirx.reinterpret("int32", rounded) << i32(23))
        return let(f, lambda f: body(fma(f, horner(f, rest), f32(1.0)), whole))

    return let(fma(x, f32(short), f32(ROUNDER)), power)


@vectorised(tirx.exp2)
def exp2(x: PrimExpr) -> PrimExpr:
    """2 to the x."""
    return let(
        clamp(x, -151.0, 129.0),
        lambda x: let(
            nearest(x),
            lambda k: let(
                (x - k) * f32(math.log(2)),
                lambda r: scaled(fma(exp_remainder(r), r * r, r + f32(1.0)), k),
            ),
        ),
    )


@vectorised(extern("expm1"))
def expm1(x: PrimExpr) -> PrimExpr:
    """`exp(x) - 1`, exact for small x."""

    def body(k: PrimExpr, r: PrimExpr) -> PrimExpr:
        # Half of the power, since 2**128 is out of range while twice 2**127 * 0.99 is not.
        half = power_of_two(k.astype("int32") - i32(1))
        small = fma(exp_remainder(r), r * r, r)
        return let(half, lambda half: fma(small, half, half - f32(0.5)) * f32(2.0))

    return reduced(clamp(x, -25.0, 89.0), body)


def log_parts(x: PrimExpr, body: Callable[[PrimExpr, PrimExpr], PrimExpr]) -> PrimExpr:
    """`body(e, log(m))` with `x = m * 2**e`, m around 1, for finite x > 0."""

    def split(y: PrimExpr, bias: PrimExpr) -> PrimExpr:
        # Shifted so that the mantissa is between the roots of 1/2 and 2.
        bits = tirx.reinterpret("int32", y) - i32(0x3F3504F3)
        return let(
            bits,
            lambda bits: let(
                tirx.reinterpret("float32", (bits & i32(0x7FFFFF)) + i32(0x3F3504F3)) - f32(1.0),
                lambda f: body((bits >> i32(23)).astype("float32") - bias, log_around_one(f)),
            ),
        )

    def normal(x: PrimExpr) -> PrimExpr:
        tiny = x < f32(SMALLEST_NORMAL)
        bias = tirx.Select(tiny, f32(24.0), f32(0.0))
        return split(x * tirx.Select(tiny, f32(2.0**24), f32(1.0)), bias)

    return let(x, normal)


def log_around_one(f: PrimExpr) -> PrimExpr:
    """`log(1 + f)` for 1 + f between the roots of 1/2 and 2."""
    p = horner(
        f,
        (
            7.0376836292e-2,
            -1.1514610310e-1,
            1.1676998740e-1,
            -1.2420140846e-1,
            1.4249322787e-1,
            -1.6668057665e-1,
            2.0000714765e-1,
            -2.4999993993e-1,
            3.3333331174e-1,
        ),
    )
    return let(f * f, lambda z: fma(p, f * z, fma(f32(-0.5), z, f)))


def log_guarded(x: PrimExpr, result: Callable[[PrimExpr], PrimExpr]) -> PrimExpr:
    """The result for x > 0; at 0 minus infinity, below it not-a-number."""

    def guard(x: PrimExpr) -> PrimExpr:
        low = tirx.Select(tirx.EQ(x, f32(0.0)), f32(-math.inf), f32(math.nan))
        inside = tirx.Select(x > f32(LARGEST), x, result(x))
        return tirx.Select(x > f32(0.0), inside, low)

    return let(x, guard)


@vectorised(tirx.log)
def log(x: PrimExpr) -> PrimExpr:
    """The natural logarithm."""
    parts = lambda e, p: fma(e, f32(LN2_HIGH), fma(e, f32(LN2_LOW), p))  # noqa: E731
    return log_guarded(x, lambda x: log_parts(x, parts))


@vectorised(tirx.log2)
def log2(x: PrimExpr) -> PrimExpr:
    """The logarithm to base 2, exact for powers of 2."""
    return log_guarded(x, lambda x: log_parts(x, lambda e, p: fma(p, f32(LOG2_E), e)))


@vectorised(tirx.log10)
def log10(x: PrimExpr) -> PrimExpr:
    """The logarithm to base 10."""
    return log(x) * f32(1 / math.log(10))


@vectorised(extern("log1p"))
def log1p(x: PrimExpr) -> PrimExpr:
    """`log(1 + x)`, exact for small x."""

    def body(x: PrimExpr, u: PrimExpr) -> PrimExpr:
        # What the sum lost; u is bound, so that the simplifier cannot cancel the difference.
        lost = (x - (u - f32(1.0))) / u
        sound = tirx.And(u > f32(0.0), u < f32(LARGEST))
        return log(u) + tirx.Select(sound, lost, f32(0.0))

    return let(x, lambda x: let(x + f32(1.0), lambda u: body(x, u)))
