# pyright: standard
"""Scalar arithmetic as ONNX means it: integers wrap and never trap, not-a-number goes through."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir import Expr as PrimExpr

from leptonc.backends.tvm import vector_math
from leptonc.backends.tvm.vector_math import absolute, is_nan

NARROW = ("float16", "bfloat16")


def dtype_of(x: PrimExpr) -> str:
    """The element type of a scalar."""
    return str(x.ty)


def is_float(x: PrimExpr) -> bool:
    """True for every floating-point type."""
    return dtype_of(x).startswith(("float", "bfloat"))


def is_signed(x: PrimExpr) -> bool:
    """True for signed integers."""
    return dtype_of(x).startswith("int")


def bits_of(x: PrimExpr) -> int:
    """The width of an integer in bits."""
    return int(dtype_of(x).lstrip("uint"))


def constant(value: float, like: PrimExpr) -> PrimExpr:
    """`value` in the type of `like`."""
    return tirx.const(value, dtype_of(like))


def let(value: PrimExpr, body: Callable[[PrimExpr], PrimExpr]) -> PrimExpr:
    """`body` of the value, which is computed once however often `body` uses it."""
    dtype = dtype_of(value)
    if isinstance(value, tirx.IntImm | tirx.FloatImm | tirx.Var):
        return body(value)
    if dtype in vector_math.FLOATS:
        return vector_math.let(value, body)
    # only these types can be hidden from the simplifier
    plain = "float32" if "float" in dtype else "int32"
    way = {"uint64": "int64", "uint32": "int32"}.get(dtype, plain)
    return vector_math.let(value.astype(way), lambda held: body(held.astype(dtype)))


def widened(x: PrimExpr) -> PrimExpr:
    """f16 and bf16 as f32, which they are computed in; all else as it is."""
    if dtype_of(x) == "bfloat16":
        # bit by bit: TVM takes the bits for an integer where the conversion is an operand of a call
        bits = tirx.reinterpret("uint16", x).astype("uint32") << tirx.const(16, "uint32")
        return tirx.reinterpret("float32", bits)
    return x.astype("float32") if dtype_of(x) == "float16" else x


def converted(x: PrimExpr, dtype: str) -> PrimExpr:
    """`x` as ONNX casts: high bits drop out of integers, fractions too; all but 0 is true."""
    source = dtype_of(x)
    if source == dtype:
        return x
    if dtype == "bool":
        x = widened(x)
        return tirx.NE(x, constant(0, x))
    if source == "bool":
        return tirx.Select(x, tirx.const(1, dtype), tirx.const(0, dtype))
    if "float" not in dtype and "float" in source:
        # by way of an integer that vector instructions convert to, and that holds the others
        way = "int32" if dtype in ("int8", "uint8", "int16", "uint16") else "int64"
        x = widened(x)
        return x.astype(dtype if dtype in ("int32", "int64", "uint64") else way).astype(dtype)
    if dtype == "bfloat16":
        return let(widened(x).astype("float32"), _bfloat16)
    if dtype == "float16":
        return widened(x).astype("float32").astype("float16")
    return widened(x).astype(dtype)


def _bfloat16(x: PrimExpr) -> PrimExpr:
    """An f32 rounded to the nearest even bf16, bit by bit.

    TVM's own conversion repeats its operand, and is moved behind whatever reads it.
    """
    quiet, bits = tirx.const(0x7FC00000, "uint32"), tirx.reinterpret("uint32", x)
    even = (bits >> tirx.const(16, "uint32")) & tirx.const(1, "uint32")
    rounded = tirx.Select(is_nan(x), quiet, bits + (even + tirx.const(0x7FFF, "uint32")))
    return tirx.reinterpret("bfloat16", (rounded >> tirx.const(16, "uint32")).astype("uint16"))


def not_a_number(x: PrimExpr) -> PrimExpr:
    """Whether a float is not-a-number, which simplification cannot take for false."""
    x = widened(x)
    if dtype_of(x) == "float32":
        return is_nan(x)
    quiet = tirx.const(0x7FF0000000000000, "int64")
    return (tirx.reinterpret("int64", x) & tirx.const(0x7FFFFFFFFFFFFFFF, "int64")) > quiet


def infinite(x: PrimExpr, *, negative: bool, positive: bool) -> PrimExpr:
    """Whether a float is an infinity of one of the wanted signs."""
    x = widened(x)
    limit = constant(math.inf, x)
    if negative and positive:
        return tirx.EQ(absolute(x), limit)
    if not negative and not positive:
        return tirx.const(False, "bool")
    return tirx.EQ(x, limit if positive else constant(-math.inf, x))


# -- integers ------------------------------------------------------------------------------------


def wrapping(function: Callable[..., PrimExpr], *xs: PrimExpr) -> PrimExpr:
    """`function` on the operands; integers are computed without a sign, where overflow is defined.

    Signed overflow is undefined in LLVM as in TVM's simplifier.
    """
    dtype = dtype_of(xs[0])
    if not dtype.startswith("int"):
        return function(*xs)
    return function(*(x.astype(f"u{dtype}") for x in xs)).astype(dtype)


def add(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """`a + b`."""
    return wrapping(lambda a, b: a + b, a, b)


def subtract(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """`a - b`."""
    return wrapping(lambda a, b: a - b, a, b)


def multiply(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """`a * b`."""
    return wrapping(lambda a, b: a * b, a, b)


def negate(x: PrimExpr) -> PrimExpr:
    """`-x`; of a float the sign bit alone changes."""
    return x * constant(-1, x) if is_float(x) else subtract(constant(0, x), x)


def magnitude(x: PrimExpr) -> PrimExpr:
    """`|x|`."""
    if is_float(x):
        return absolute(x)
    if not is_signed(x):
        return x
    return let(x, lambda x: tirx.Select(x < constant(0, x), negate(x), x))


def _guarded(
    a: PrimExpr, b: PrimExpr, function: Callable[[PrimExpr, PrimExpr], PrimExpr],
    by_minus_one: Callable[[PrimExpr], PrimExpr],
) -> PrimExpr:  # fmt: skip
    """`function` of integers; 0 for a zero divisor, `by_minus_one` where the quotient may wrap."""
    zero, one = constant(0, b), constant(1, b)
    if isinstance(b, tirx.IntImm) and b.value not in (0, -1):
        return function(a, b)
    is_zero = tirx.EQ(b, zero)
    if not is_signed(b):
        return tirx.Select(is_zero, zero, function(a, tirx.Select(is_zero, one, b)))
    is_minus_one = tirx.EQ(b, constant(-1, b))
    safe = tirx.Select(tirx.Or(is_zero, is_minus_one), one, b)
    result = tirx.Select(is_minus_one, by_minus_one(a), function(a, safe))
    return tirx.Select(is_zero, zero, result)


def divide(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """`a / b`; integers round towards zero, give 0 for a zero divisor, and wrap."""
    if is_float(a):
        return a / b
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
            differs = tirx.And(tirx.NE(r, zero), tirx.NE(r < zero, b < zero))
            return tirx.Select(differs, r + b, r)
        differs = tirx.Or(tirx.And(r < zero, b > zero), tirx.And(r > zero, b < zero))
        signed = tirx.call_llvm_pure_intrin(dtype_of(r), "llvm.copysign", zero, b)
        return tirx.Select(tirx.EQ(r, zero), signed, tirx.Select(differs, r + b, r))

    return let(b, lambda b: let(remainder(a, b), lambda r: shifted(r, b)))


def integer_power(x: PrimExpr, y: PrimExpr) -> PrimExpr:
    """`x ** y` of integers, wrapping; a negative exponent rounds `1 / x**|y|` towards zero."""
    if isinstance(y, tirx.IntImm) and 0 <= y.value <= 64:
        return _constant_power(x, int(y.value))
    steps = bits_of(y) - (1 if is_signed(y) else 0)

    def squared(base: PrimExpr, result: PrimExpr, step: int) -> PrimExpr:
        bit = tirx.NE(y & constant(1 << step, y), constant(0, y))
        value = tirx.Select(bit, result * base, result)
        if step + 1 == steps:
            return value
        return let(value, lambda value: let(base * base, lambda b: squared(b, value, step + 1)))

    power = wrapping(lambda x: squared(x, constant(1, x), 0), x)
    return power if not is_signed(y) else tirx.Select(y < constant(0, y), _inverse(x, y), power)


def _constant_power(x: PrimExpr, exponent: int) -> PrimExpr:
    def power(base: PrimExpr, exponent: int) -> PrimExpr:
        if exponent < 2:
            return base if exponent else constant(1, base)
        half = let(base * base, lambda square: power(square, exponent // 2))
        return half * base if exponent % 2 else half

    return let(x, lambda x: wrapping(lambda x: power(x, exponent), x))


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
        return tirx.Select(outside, constant(0, x), wrapping(lambda x, y: x << y, x, safe))
    farthest = constant(bits - 1, y) if is_signed(x) else constant(0, y)
    shifted = x >> tirx.Select(outside, farthest, y)
    return shifted if is_signed(x) else tirx.Select(outside, constant(0, x), shifted)


# -- extremes ------------------------------------------------------------------------------------


def largest(*xs: PrimExpr) -> PrimExpr:
    """The largest; not-a-number if one is."""
    return functools.reduce(lambda a, b: _extreme(a, b, lambda a, b: a > b, tirx.max), xs)


def smallest(*xs: PrimExpr) -> PrimExpr:
    """The smallest; not-a-number if one is."""
    return functools.reduce(lambda a, b: _extreme(a, b, lambda a, b: a < b, tirx.min), xs)


def _extreme(
    a: PrimExpr, b: PrimExpr, beats: Callable[[PrimExpr, PrimExpr], PrimExpr], plain: Any
) -> PrimExpr:
    if not is_float(a):
        return plain(a, b)
    if isinstance(b, tirx.FloatImm) and not math.isnan(b.value):
        return let(a, lambda a: tirx.Select(beats(b, a), b, a))
    if tvm_ffi.structural_equal(a, b):
        return a

    def chosen(a: PrimExpr, b: PrimExpr) -> PrimExpr:
        return tirx.Select(not_a_number(a), a, tirx.Select(beats(a, b), a, b))

    return let(a, lambda a: let(b, lambda b: chosen(a, b)))
