"""Rules about constants that are added or multiplied one after the other.

On integers, which wrap, they are exact and part of `simplify`; on floats `merge-constants` has
them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.build import Builder
from leptonc.ir.graph import Op, Value
from leptonc.passes.constants import array_of, whole
from leptonc.passes.pattern import Const, Match, Var, pat
from leptonc.passes.rewrite import Rule, rule

x = Var("x")
c, d = Const("c"), Const("d")

Check = Callable[[Match, Array, Array, Array], None]
"""Asks of two constants and of the one in their place whether that is good enough."""


def integers_only(m: Match, first: Array, second: Array, merged: Array) -> None:
    """Integers wrap, so the order does not matter."""
    m.fits(merged.dtype.kind in "iu")


def _terms(op: Op) -> tuple[int, Value, Array] | None:
    """The sign of the operand that is no constant, that operand, and the constant's terms."""
    first, second = array_of(op.operands[0]), array_of(op.operands[1])
    if (first is None) == (second is None):
        return None
    if second is not None:
        return 1, op.operands[0], second if op.name == "add" else _negative(second)
    assert first is not None
    return 1 if op.name == "add" else -1, op.operands[1], first


def _negative(array: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.asarray(np.negative(array), array.dtype)


def shortest(array: Array) -> Array:
    """One number in place of many that are the same bit by bit."""
    first = array.reshape(-1)[:1]
    same = array.size > 1 and array.tobytes() == first.tobytes() * array.size
    return first.reshape(()) if same else array


def _require_alike(m: Match, source: Value, first: Array, second: Array) -> None:
    alike = first.size == 1 or second.size == 1 or first.shape == second.shape
    m.require(alike, "the constants broadcast each other")
    m.require(source.type == m.root.result.type, "the constants broadcast the other operand")


def sums(check: Check) -> Rule:
    """The rule about sums of constants that pass `check`."""

    @rule(pat.any_of("add", "sub")(...))
    def constants_added(m: Match, build: Builder) -> Value:
        """Constants that are added or subtracted one after the other are one constant."""
        outside = _terms(m.root)
        m.fits(outside is not None)
        sign, middle, last = outside or (0, m.root.result, np.zeros(0))
        op = middle.producer
        m.fits(op is not None and op.name in ("add", "sub") and op.region is m.root.region)
        assert op is not None
        inside = _terms(op)
        m.fits(inside is not None)
        inner_sign, source, first = inside or (0, m.root.result, np.zeros(0))
        _require_alike(m, source, first, last)
        signed = first if sign > 0 else _negative(first)
        with np.errstate(all="ignore"):
            total = np.asarray(signed + last, last.dtype)
        check(m, signed, last, total)
        m.require(middle.use_count == 1, "something else reads the first sum")
        m.also.append(op)
        number = build.const(shortest(total))
        return build.add(source, number) if sign * inner_sign > 0 else build.sub(number, source)

    return constants_added


def products(check: Check) -> Rule:
    """The rule about products of constants that pass `check`."""

    @rule(pat.mul(pat.mul(x, c), d))
    def constants_multiplied(m: Match, build: Builder) -> Value:
        """Constants that something is multiplied by one after the other are one constant."""
        first, second = array_of(m[c]), array_of(m[d])
        assert first is not None
        assert second is not None
        m.fits(m[x].blob is None)
        _require_alike(m, m[x], first, second)
        with np.errstate(all="ignore"):
            merged = np.asarray(first * second, first.dtype)
        check(m, first, second, merged)
        return build.mul(m[x], build.const(shortest(merged)))

    return constants_multiplied


@rule(pat.div(pat.div(x, c), d))
def constant_divisors(m: Match, build: Builder) -> Value:
    """Integer divisors that follow each other are one."""
    first, second = whole(m[c]), whole(m[d])
    m.fits(first is not None and second is not None)
    dtype = m[x].type.dtype
    a, b = first or 0, second or 0
    fits = a > 0 and 0 < a * b <= int(np.iinfo(dtype.numpy).max)
    m.require(fits, "the product of the divisors is not positive, or too large")
    m.require(m[x].type == m.root.result.type, "the constants broadcast the other operand")
    return build.div(m[x], build.const(np.array(a * b, dtype.numpy)))


RULES = (sums(integers_only), products(integers_only), constant_divisors)
