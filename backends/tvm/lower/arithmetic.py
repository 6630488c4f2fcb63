# pyright: standard
"""Scalar arithmetic as ONNX means it: integers wrap and never trap, NaN goes through."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from leptonc.backends.tvm import binding
from leptonc.backends.tvm.binding import PrimExpr, tirx
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
    if dtype in binding.FLOATS:
        return binding.let(value, body)
    # only these types can be hidden from the simplifier
    plain = "float32" if "float" in dtype else "int32"
    way = {"uint64": "int64", "uint32": "int32"}.get(dtype, plain)
    return binding.let(value.astype(way), lambda held: body(held.astype(dtype)))


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
        return _truth(widened(x))
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


def _truth(x: PrimExpr) -> PrimExpr:
    """Whether a number is not 0; not-a-number is not, which TVM's comparison would deny."""
    if not is_float(x):
        return tirx.NE(x, constant(0, x))
    bits = dtype_of(x).replace("float", "int")
    size = tirx.reinterpret(bits, absolute(x))
    return tirx.NE(size, tirx.const(0, bits))


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
    """`function`, of sums and products, on the operands; integers wrap.

    TVM tells LLVM that numbers of 32 and 64 bits never overflow. Those of 32 bits take the way
    over 64, which LLVM shortens to arithmetic that wraps. Those of 64 bits are computed with a
    sign, where LLVM has nothing to conclude from zero being the lowest.
    """
    dtype = dtype_of(xs[0])
    if is_float(xs[0]) or bits_of(xs[0]) < 32 or dtype == "int64":
        return function(*xs)
    return function(*(x.astype("int64") for x in xs)).astype(dtype)


def add(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """`a + b`."""
    return wrapping(lambda a, b: a + b, a, b)


def subtract(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """`a - b`."""
    return wrapping(lambda a, b: a - b, a, b)


def unfolded(x: PrimExpr) -> PrimExpr:
    """`x`, where it is the float 0 hidden from TVM, which takes 0 * NaN for 0 and dies of 1 / 0."""
    is_zero = isinstance(x, tirx.FloatImm) and x.value == 0
    return binding.opaque(x) if is_zero else x


def multiply(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """`a * b`."""
    return wrapping(lambda a, b: unfolded(a) * unfolded(b), a, b)


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


# -- extremes ------------------------------------------------------------------------------------


def largest(*xs: PrimExpr) -> PrimExpr:
    """The largest; not-a-number if one is."""
    return functools.reduce(larger, xs)


def smallest(*xs: PrimExpr) -> PrimExpr:
    """The smallest; not-a-number if one is."""
    return functools.reduce(smaller, xs)


def larger(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """The larger of two; not-a-number if one is."""
    return _extreme(a, b, lambda a, b: a > b, tirx.max)


def smaller(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """The smaller of two; not-a-number if one is."""
    return _extreme(a, b, lambda a, b: a < b, tirx.min)


def _extreme(
    a: PrimExpr, b: PrimExpr, beats: Callable[[PrimExpr, PrimExpr], PrimExpr], plain: Any
) -> PrimExpr:
    if not is_float(a):
        return plain(a, b)
    if isinstance(b, tirx.FloatImm) and not math.isnan(b.value):
        return let(a, lambda a: tirx.Select(beats(b, a), b, a))
    if a.same_as(b):
        return a

    def chosen(a: PrimExpr, b: PrimExpr) -> PrimExpr:
        return tirx.Select(not_a_number(a), a, tirx.Select(beats(a, b), a, b))

    return let(a, lambda a: let(b, lambda b: chosen(a, b)))
