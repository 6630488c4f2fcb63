"""Rules of `simplify` about logic, bits and integers whose operands are known or alike."""

from __future__ import annotations

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.graph import Value
from leptonc.ir.types import DType
from leptonc.passes.constants import filled, require_room, uniform, whole
from leptonc.passes.pattern import Const, Match, Var, pat
from leptonc.passes.rewrite import rule

x, y = Var("x"), Var("y")
c = Const("c")

LATTICE = ("and", "or", "bitwise_and", "bitwise_or", "max", "min")
"""Operations that give x for x and x."""


def _limits(dtype: DType) -> tuple[int, int]:
    if dtype is DType.BOOL:
        return 0, 1
    info = np.iinfo(dtype.numpy)
    return int(info.min), int(info.max)


def _all_ones(dtype: DType) -> int:
    return 1 if dtype is DType.BOOL else _limits(dtype)[1] if not dtype.is_signed else -1


def _neutral(name: str, dtype: DType) -> float | None:
    """What changes nothing as the second operand."""
    if dtype.is_float:
        return {"max": -np.inf, "min": np.inf}.get(name)
    if name in ("and", "bitwise_and"):
        return _all_ones(dtype)
    if name in ("max", "min"):
        return _limits(dtype)[name == "min"]
    return 0


@rule(
    pat.any_of(
        "and", "or", "xor", "bitwise_and", "bitwise_or", "bitwise_xor", "bit_shift", "max", "min"
    )(x, c)
)
def neutral_operand(m: Match, build: Builder) -> Value:
    """True for `and`, no bits for `or`, the lowest number for `max` and so on change nothing."""
    dtype = m[x].type.dtype
    number = uniform(m[c]) if dtype.is_float else whole(m[c])
    m.fits(number is not None and number == _neutral(m.root.name, dtype))
    m.require(m[x].type == m.root.result.type, "the constant broadcasts the other operand")
    return m[x]


def _absorbing(name: str, dtype: DType) -> int:
    if name in ("or", "bitwise_or"):
        return _all_ones(dtype)
    return _limits(dtype)[name == "max"] if name in ("max", "min") else 0


@rule(pat.any_of("and", "or", "bitwise_and", "bitwise_or", "max", "min", "mul")(x, c))
def absorbing_operand(m: Match, build: Builder) -> Value:
    """An integer times 0, or a truth and false, is known whatever the other operand is."""
    dtype, name = m[x].type.dtype, m.root.name
    if dtype.is_float:
        m.fits(name == "mul" and uniform(m[c]) == 0)
        m.require(False, "0 times an infinity or a NaN is a NaN, and times -1 it is -0.0")
    number = whole(m[c])
    m.fits(number is not None and number == _absorbing(name, dtype))
    require_room(m)
    return filled(build, m.root.result.type, number or 0)


@rule(pat.mod(x, c))
def remainder_of_one(m: Match, build: Builder) -> Value:
    """What is left of an integer divided by 1 is nothing."""
    m.fits(whole(m[c]) == 1)
    require_room(m)
    return filled(build, m.root.result.type, 0)


inner_mod = pat.mod(x, c).shared()


@rule(pat.mod(inner_mod, c))
def remainder_of_remainder(m: Match, build: Builder) -> Value:
    """A remainder divided by the same number again is its own remainder."""
    inner = m[inner_mod]
    m.fits(inner.attrs["fmod"] == m.root.attrs["fmod"])
    # the remainder of -1e-20 and 3.0 is rounded to 3.0
    m.require(not m[x].type.dtype.is_float, "rounding may give the divisor itself")
    return inner.result


@rule(pat.any_of(*LATTICE)(x, x))
def twice_the_same(m: Match, build: Builder) -> Value:
    """The larger of x and x, or x and x, is x."""
    return m[x]


@rule(pat.any_of("sub", "xor", "bitwise_xor", "mod")(x, x))
def difference_to_itself(m: Match, build: Builder) -> Value:
    """An integer or truth differs from itself by nothing."""
    m.require(not m[x].type.dtype.is_float, "infinities and NaNs give a NaN")
    require_room(m)
    return filled(build, m.root.result.type, 0)


@rule(pat.any_of("and", "or", "xor")(x, pat.not_(x).shared()))
def with_its_opposite(m: Match, build: Builder) -> Value:
    """A truth and its opposite are never both true, and one of them always is."""
    require_room(m)
    return filled(build, m.root.result.type, m.root.name != "and")


inner = pat.any_of(*LATTICE)(x, y).shared()


@rule(pat.any_of(*LATTICE)(inner, x))
def operand_again(m: Match, build: Builder) -> Value:
    """What is in `x and y` already changes nothing when added again: min(min(x, y), x)."""
    m.fits(m[inner].name == m.root.name)
    # of 0.0 and -0.0 either may be the larger one
    m.require(not m[x].type.dtype.is_float, "the sign of a zero may depend on the order")
    m.require(m[inner].result.type == m.root.result.type, "the result has another shape")
    return m[inner].result


ABSORBS = {
    "and": "or", "or": "and", "bitwise_and": "bitwise_or", "bitwise_or": "bitwise_and",
    "max": "min", "min": "max",
}  # fmt: skip


@rule(pat.any_of(*LATTICE)(x, inner))
def absorbed_operand(m: Match, build: Builder) -> Value:
    """The larger of x and the smaller of x and y is x, and so on."""
    m.fits(ABSORBS[m.root.name] == m[inner].name)
    m.require(not m[x].type.dtype.is_float, "the other operand may be a NaN")
    m.require(m[x].type == m.root.result.type, "the result has another shape")
    return m[x]


@rule(pat.any_of("and", "or")(pat.not_(x), pat.not_(y)))
def opposites_together(m: Match, build: Builder) -> Value:
    """Neither of two is the opposite of one of them."""
    return build.not_(build.op(ABSORBS[m.root.name], [m[x], m[y]]).result)


@rule(pat.xor(x, c))
def differs_from_true(m: Match, build: Builder) -> Value:
    """What differs from true is the opposite."""
    m.fits(whole(m[c]) == 1)
    m.require(m[x].type == m.root.result.type, "the constant broadcasts the other operand")
    return build.not_(m[x])


@rule(pat.xor(pat.not_(x), pat.not_(y)))
def opposites_differ(m: Match, build: Builder) -> Value:
    """Opposites differ where what they are of does."""
    return build.xor(m[x], m[y])


@rule(pat.bitwise_xor(x, c))
def bits_flipped(m: Match, build: Builder) -> Value:
    """Bits that differ from all ones are flipped."""
    m.fits(whole(m[c]) == _all_ones(m[x].type.dtype))
    m.require(m[x].type == m.root.result.type, "the constant broadcasts the other operand")
    return build.bitwise_not(m[x])


@rule(pat.bitwise_not(pat.bitwise_not(x).shared()))
def flipped_twice(m: Match, build: Builder) -> Value:
    """Bits flipped twice are as before."""
    return m[x]


RULES = (
    neutral_operand, absorbing_operand, remainder_of_one, remainder_of_remainder, twice_the_same,
    difference_to_itself, with_its_opposite, operand_again, absorbed_operand, opposites_together,
    differs_from_true, opposites_differ, bits_flipped, flipped_twice,
)  # fmt: skip
