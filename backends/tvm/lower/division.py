# pyright: standard
"""Division, powers and shifts as ONNX means them: nothing traps, integers wrap."""

from __future__ import annotations

from collections.abc import Callable

from leptonc.backends.tvm.binding import PrimExpr, tirx
from leptonc.backends.tvm.lower.arithmetic import (
    bits_of,
    constant,
    converted,
    dtype_of,
    is_float,
    is_signed,
    let,
    multiply,
    negate,
    unfolded,
)


def _guarded(
    a: PrimExpr, b: PrimExpr, function: Callable[[PrimExpr, PrimExpr], PrimExpr],
    by_minus_one: Callable[[PrimExpr], PrimExpr],
) -> PrimExpr:  # fmt: skip
    """`function` of integers; 0 for a zero divisor, `by_minus_one` where the quotient may wrap."""
    zero = constant(0, b)
    if isinstance(b, tirx.IntImm):
        return zero if b.value == 0 else by_minus_one(a) if b.value == -1 else function(a, b)
    # branches, not selections: a division that traps must not be computed and then left out, and
    # TVM simplifies a guarded divisor inside the selection that already excludes zero
    is_zero = tirx.EQ(b, zero)
    if not is_signed(b):
        return tirx.if_then_else(is_zero, zero, function(a, b))
    wrapped = tirx.if_then_else(tirx.EQ(b, constant(-1, b)), by_minus_one(a), function(a, b))
    return tirx.if_then_else(is_zero, zero, wrapped)


def divide(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """`a / b`; integers round towards zero, give 0 for a zero divisor, and wrap."""
    if is_float(a):
        return unfolded(a) / unfolded(b)
    return let(b, lambda b: _guarded(a, b, tirx.truncdiv, negate))


def remainder(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """What truncated division leaves, with the sign of `a`; 0 for a zero integer divisor."""
    if is_float(a):
        name = "fmodf" if dtype_of(a) == "float32" else "fmod"
        return tirx.call_pure_extern(dtype_of(a), name, a, b)
    return let(b, lambda b: _guarded(a, b, tirx.truncmod, lambda a: constant(0, a)))


def modulo(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """What division rounded down leaves, with the sign of `b`; 0 for a zero integer divisor."""
    if not is_float(a) and not is_signed(a):
        return remainder(a, b)

    def shifted(r: PrimExpr, b: PrimExpr) -> PrimExpr:
        zero = constant(0, r)
        if not is_float(r):
            # written out: LLVM's code for the inequality of two booleans is broken in TVM
            differs = tirx.Or(tirx.And(r < zero, b > zero), tirx.And(r > zero, b < zero))
            return tirx.Select(differs, r + b, r)
        differs = tirx.Or(tirx.And(r < zero, b > zero), tirx.And(r > zero, b < zero))
        signed = tirx.call_llvm_pure_intrin(dtype_of(r), "llvm.copysign", zero, b)
        return tirx.Select(tirx.EQ(r, zero), signed, tirx.Select(differs, r + b, r))

    return let(b, lambda b: let(remainder(a, b), lambda r: shifted(r, b)))


def integer_power(x: PrimExpr, y: PrimExpr) -> PrimExpr:
    """`x ** y` of integers, wrapping; a negative exponent rounds `1 / x**|y|` towards zero.

    An exponent from 64 counts as 62 or 63, as it is even or odd.
    """
    if isinstance(y, tirx.IntImm) and 0 <= y.value < 64:
        return _constant_power(x, int(y.value))
    odd = y & constant(1, y)
    steps = converted(tirx.Select(y < constant(64, y), y, odd + constant(62, y)), "int32")

    def squared(base: PrimExpr, result: PrimExpr, steps: PrimExpr, step: int) -> PrimExpr:
        bit = tirx.NE(steps & tirx.const(1 << step, "int32"), tirx.const(0, "int32"))
        value = tirx.Select(bit, multiply(result, base), result)
        if step == 5:
            return value
        square = multiply(base, base)
        return let(value, lambda v: let(square, lambda b: squared(b, v, steps, step + 1)))

    def power(x: PrimExpr) -> PrimExpr:
        return let(steps, lambda steps: squared(x, constant(1, x), steps, 0))

    if not is_signed(y):
        return let(x, power)
    return let(x, lambda x: tirx.Select(y < constant(0, y), _inverse(x, y), power(x)))


def _constant_power(x: PrimExpr, exponent: int) -> PrimExpr:
    def power(base: PrimExpr, exponent: int) -> PrimExpr:
        if exponent < 2:
            return base if exponent else constant(1, base)
        half = let(multiply(base, base), lambda square: power(square, exponent // 2))
        return multiply(half, base) if exponent % 2 else half

    return let(x, lambda x: power(x, exponent))


def _inverse(x: PrimExpr, y: PrimExpr) -> PrimExpr:
    one, zero = constant(1, x), constant(0, x)
    odd = tirx.NE(y & constant(1, y), constant(0, y))
    if not is_signed(x):
        return tirx.Select(tirx.EQ(x, one), one, zero)
    minus = tirx.Select(odd, constant(-1, x), one)
    return tirx.Select(tirx.EQ(x, one), one, tirx.Select(tirx.EQ(x, constant(-1, x)), minus, zero))


def shift(x: PrimExpr, y: PrimExpr, *, left: bool) -> PrimExpr:
    """`x` shifted by `y` bits; a distance out of range leaves the sign alone, or nothing."""
    bits = bits_of(x)
    outside = y >= constant(bits, y)
    if is_signed(y):
        outside = tirx.Or(y < constant(0, y), outside)
    if left:
        safe = tirx.Select(outside, constant(0, y), y)
        return tirx.Select(outside, constant(0, x), x << safe)
    farthest = constant(bits - 1, y) if is_signed(x) else constant(0, y)
    shifted = x >> tirx.Select(outside, farthest, y)
    return shifted if is_signed(x) else tirx.Select(outside, constant(0, x), shifted)
