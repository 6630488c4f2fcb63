# pyright: standard
"""Circular and hyperbolic functions, their inverses and powers: see `vector_math`."""

from __future__ import annotations

import math
from collections.abc import Callable

from leptonc.backends.tvm.binding import PrimExpr, let, tirx
from leptonc.backends.tvm.vector_math import (
    absolute,
    clamp,
    exp,
    expm1,
    extern,
    f32,
    fma,
    horner,
    i32,
    log,
    log1p,
    nearest,
    vectorised,
    with_sign,
)

SINE = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
COSINE = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
ARCSINE = (4.2163199048e-2, 2.4181311049e-2, 4.5470025998e-2, 7.4953002686e-2, 1.6666752422e-1)
ARCTANGENT = (8.05374449538e-2, -1.38776856032e-1, 1.99777106478e-1, -3.33329491539e-1)


def f64(value: float) -> PrimExpr:
    """A constant."""
    return tirx.const(value, "float64")


def quarter_turns(x: PrimExpr, body: Callable[[PrimExpr, PrimExpr], PrimExpr]) -> PrimExpr:
    """`body(q, r)` with `x = (4 n + q) pi/2 + r`, r within pi/4.

    Reduced in fp64: exact for all arguments below 2**40, where the floats are farther apart than
    the period; beyond that r stays in range but means nothing.
    """

    def remainder(x: PrimExpr, k: PrimExpr) -> PrimExpr:
        r = fma(k, f64(-6.123233995736766e-17), fma(k, f64(-math.pi / 2), x))
        return clamp(r.astype("float32"), -0.7853982, 0.7853982)

    def turn(k: PrimExpr) -> PrimExpr:
        whole = tirx.call_llvm_pure_intrin("float64", "llvm.floor", k * f64(0.25))
        return fma(whole, f64(-4.0), k).astype("int32")

    return let(
        x.astype("float64"),
        lambda x: let(
            nearest(x * f64(2 / math.pi)),
            lambda k: let(remainder(x, k), lambda r: body(turn(k), r)),
        ),
    )


def sine(r: PrimExpr) -> PrimExpr:
    """The sine within pi/4."""
    return let(r * r, lambda z: fma(horner(z, SINE) * z, r, r))


def cosine(r: PrimExpr) -> PrimExpr:
    """The cosine within pi/4."""
    return let(r * r, lambda z: fma(horner(z, COSINE) * z, z, fma(f32(-0.5), z, f32(1.0))))


def circular(x: PrimExpr, phase: int) -> PrimExpr:
    """The sine of x and so many quarter turns more."""

    def body(q: PrimExpr, r: PrimExpr) -> PrimExpr:
        turn = q + i32(phase)
        value = tirx.Select(tirx.EQ(turn & i32(1), i32(0)), sine(r), cosine(r))
        flip = (turn & i32(2)) << i32(30)
        return tirx.reinterpret("float32", tirx.reinterpret("int32", value) ^ flip)

    return quarter_turns(x, body)


@vectorised(tirx.sin)
def sin(x: PrimExpr) -> PrimExpr:
    """The sine."""
    return circular(x, 0)


@vectorised(tirx.cos)
def cos(x: PrimExpr) -> PrimExpr:
    """The cosine."""
    return circular(x, 1)


@vectorised(extern("tan"))
def tan(x: PrimExpr) -> PrimExpr:
    """The tangent."""

    def body(q: PrimExpr, r: PrimExpr) -> PrimExpr:
        even = tirx.EQ(q & i32(1), i32(0))
        return let(
            sine(r),
            lambda s: let(
                cosine(r), lambda c: tirx.Select(even, s, f32(0.0) - c) / tirx.Select(even, c, s)
            ),
        )

    return quarter_turns(x, body)


@vectorised(extern("sinh"))
def sinh(x: PrimExpr) -> PrimExpr:
    """The hyperbolic sine."""

    def body(x: PrimExpr, a: PrimExpr) -> PrimExpr:
        small = let(expm1(a), lambda u: f32(0.5) * (u + u / (u + f32(1.0))))
        return with_sign(tirx.Select(a > f32(80.0), half_exp(a), small), x)

    return let(x, lambda x: let(absolute(x), lambda a: body(x, a)))


@vectorised(extern("cosh"))
def cosh(x: PrimExpr) -> PrimExpr:
    """The hyperbolic cosine."""
    small = lambda a: let(exp(a), lambda e: fma(f32(0.5), e, f32(0.5) / e))  # noqa: E731
    return let(absolute(x), lambda a: tirx.Select(a > f32(80.0), half_exp(a), small(a)))


def half_exp(x: PrimExpr) -> PrimExpr:
    """Half of `exp(x)`, finite where only `exp(x)` itself is out of range."""
    return let(exp(x * f32(0.5)), lambda e: f32(0.5) * e * e)


def arcsine_core(a: PrimExpr) -> PrimExpr:
    """The arcsine within 1/2."""
    return let(a * a, lambda z: fma(horner(z, ARCSINE) * z, a, a))


@vectorised(extern("asin"))
def asin(x: PrimExpr) -> PrimExpr:
    """The arcsine; beyond 1 not-a-number."""

    def body(x: PrimExpr, a: PrimExpr) -> PrimExpr:
        outer = f32(math.pi / 2) - f32(2.0) * arcsine_core(tirx.sqrt(f32(0.5) * (f32(1.0) - a)))
        return with_sign(tirx.Select(a > f32(0.5), outer, arcsine_core(a)), x)

    return let(x, lambda x: let(absolute(x), lambda a: body(x, a)))


@vectorised(extern("acos"))
def acos(x: PrimExpr) -> PrimExpr:
    """The arccosine; beyond 1 not-a-number."""

    def body(x: PrimExpr, a: PrimExpr) -> PrimExpr:
        outer = f32(2.0) * arcsine_core(tirx.sqrt(f32(0.5) * (f32(1.0) - a)))
        reflected = let(outer, lambda o: tirx.Select(x < f32(0.0), f32(math.pi) - o, o))
        return tirx.Select(a > f32(0.5), reflected, f32(math.pi / 2) - arcsine_core(x))

    return let(x, lambda x: let(absolute(x), lambda a: body(x, a)))


@vectorised(extern("atan"))
def atan(x: PrimExpr) -> PrimExpr:
    """The arctangent."""

    def core(base: PrimExpr, t: PrimExpr) -> PrimExpr:
        return let(t, lambda t: base + let(t * t, lambda z: fma(horner(z, ARCTANGENT) * z, t, t)))

    def body(x: PrimExpr, a: PrimExpr) -> PrimExpr:
        large, middle = a > f32(2.414213562373095), a > f32(0.4142135623730950)
        base = tirx.Select(large, f32(math.pi / 2), tirx.Select(middle, f32(math.pi / 4), f32(0.0)))
        above = tirx.Select(large, f32(-1.0), tirx.Select(middle, a - f32(1.0), a))
        below = tirx.Select(large, a, tirx.Select(middle, a + f32(1.0), f32(1.0)))
        return with_sign(core(base, above / below), x)

    return let(x, lambda x: let(absolute(x), lambda a: body(x, a)))


@vectorised(extern("asinh"))
def asinh(x: PrimExpr) -> PrimExpr:
    """The inverse hyperbolic sine."""

    def body(x: PrimExpr, a: PrimExpr) -> PrimExpr:
        near = log1p(a + a * a / (f32(1.0) + tirx.sqrt(fma(a, a, f32(1.0)))))
        far = log(a) + f32(math.log(2))
        return with_sign(tirx.Select(a > f32(1e9), far, near), x)

    return let(x, lambda x: let(absolute(x), lambda a: body(x, a)))


@vectorised(extern("acosh"))
def acosh(x: PrimExpr) -> PrimExpr:
    """The inverse hyperbolic cosine; below 1 not-a-number."""

    def body(x: PrimExpr, t: PrimExpr) -> PrimExpr:
        near = log1p(t + tirx.sqrt(t * (t + f32(2.0))))
        inside = tirx.Select(x > f32(1e9), log(x) + f32(math.log(2)), near)
        return tirx.Select(x < f32(1.0), f32(math.nan), inside)

    return let(x, lambda x: let(x - f32(1.0), lambda t: body(x, t)))


@vectorised(extern("atanh"))
def atanh(x: PrimExpr) -> PrimExpr:
    """The inverse hyperbolic tangent; beyond 1 not-a-number."""

    def body(x: PrimExpr, a: PrimExpr) -> PrimExpr:
        return with_sign(f32(0.5) * log1p(f32(2.0) * a / (f32(1.0) - a)), x)

    return let(x, lambda x: let(absolute(x), lambda a: body(x, a)))
