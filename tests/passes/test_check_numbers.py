"""The check of numbers names the change that is wrong, and takes roundings for what they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from leptonc.ir.blob import Blob
from leptonc.ir.build import Builder
from leptonc.ir.diagnostics import LeptonBug
from leptonc.ir.graph import Value
from leptonc.ir.text import parse_graph
from leptonc.passes.base import RewritePass
from leptonc.passes.check_numbers import CheckNumbers, random_feeds
from leptonc.passes.context import PassContext
from leptonc.passes.contract import REASSOCIATES, Contract, for_finite
from leptonc.passes.manager import PassManager
from leptonc.passes.pattern import Const, Match, Var, pat
from leptonc.passes.rewrite import Rule, rule

x, y, c = Var("x"), Var("y"), Const("c")


@rule(pat.sub(x, y))
def forgotten(m: Match, build: Builder) -> Value:
    """Wrong: the subtrahend is gone."""
    return build.identity(m[x])


@rule(pat.neg(pat.neg(x)))
def right(m: Match, build: Builder) -> Value:
    """Right."""
    return m[x]


@rule(pat.mul(x, c))
def without_factor(m: Match, build: Builder) -> Value:
    """Right but for NaN and infinities, where the factor is zero."""
    data = m.blob(c).array
    m.fits(not data.any())
    return build.const(Blob.of(np.zeros(m[x].type.extents, data.dtype)))


@rule(pat.mul(x, c))
def nearly(m: Match, build: Builder) -> Value:
    """Right but for roundings."""
    data = m.blob(c).array
    step = np.ones_like(data) + np.finfo(np.float32).eps
    m.fits(bool((data == 3).all()))
    return build.mul(build.mul(m[x], build.const(Blob.of(data * step * 2))), build.const(HALF))


@rule(pat.mul(x, c))
def too_much(m: Match, build: Builder) -> Value:
    """Wrong: more than roundings make of it."""
    data = m.blob(c).array
    m.fits(bool((data == 3).all()))
    return build.mul(m[x], build.const(Blob.of(data * 2)))


@rule(pat.mul(x, c))
def opposite(m: Match, build: Builder) -> Value:
    """Wrong: infinity has the other sign."""
    data = m.blob(c).array
    m.fits(bool((data == np.inf).all()))
    return build.mul(m[x], build.const(Blob.of(-data)))


HALF = Blob.of(np.array(0.5, np.float32))


@dataclass(frozen=True)
class Rules(RewritePass):
    """Some of these rules."""

    name: ClassVar[str] = "rules"
    numbers: ClassVar[Contract] = REASSOCIATES
    rules: ClassVar[tuple[Rule, ...]] = (right, forgotten, without_factor)


@dataclass(frozen=True)
class Near(Rules):
    """One that rounds."""

    rules: ClassVar[tuple[Rule, ...]] = (nearly,)


@dataclass(frozen=True)
class Far(Rules):
    """One that does more."""

    rules: ClassVar[tuple[Rule, ...]] = (too_much,)


@dataclass(frozen=True)
class Turning(Rules):
    """One that takes infinity for its opposite."""

    rules: ClassVar[tuple[Rule, ...]] = (opposite,)


@dataclass(frozen=True)
class OfFinite(Rules):
    """The same, for finite data only."""

    numbers: ClassVar[Contract] = for_finite(REASSOCIATES)


def check(text: str, step: RewritePass, *, singly: int = 0, disabled: str = "") -> PassContext:
    graph = parse_graph(text)
    checks = CheckNumbers.on_random_inputs(graph, singly=singly)
    return PassManager([step], [checks]).run(graph, PassContext(disabled=frozenset([disabled])))


WRONG = """graph @g(%a: f32[3], %b: f32[3]) -> (p: f32[3]) {
  %n = neg(%a) : f32[3]
  %m = neg(%n) : f32[3]
  %s = sub(%m, %b) : f32[3] loc("Sub_3")
  %e = tanh(%s) : f32[3]
  return %e
}
"""

ZERO = """graph @g(%a: f32[3]) -> (p: f32[3]) {
  %z = const() {value = splat(0.0)} : f32[3]
  %m = mul(%a, %z) : f32[3]
  return %m
}
"""


def test_the_rule_and_the_place_are_named() -> None:
    with pytest.raises(LeptonBug, match="rules changed output 'p'") as caught:
        check(WRONG, Rules())
    assert caught.value.location.nodes == ("Sub_3",)
    assert "it is change 2 of the pass, by forgotten" in caught.value.notes


def test_rules_that_are_left_out_are_left_out_again() -> None:
    assert check(WRONG, Rules(), singly=5, disabled="forgotten").counts == {"right": 1}


def test_data_that_is_not_finite_counts_unless_the_contract_says_otherwise() -> None:
    with pytest.raises(LeptonBug, match="changed output"):
        check(ZERO, Rules())
    assert check(ZERO, OfFinite()).counts == {"without-factor": 1}


def test_a_rounding_behind_a_step_is_fine_and_more_is_not() -> None:
    text = """graph @g() -> (p: f32[4]) {
  %a = const() {value = dense([1.0, 2.0, 3.0, 5.0])} : f32[4]
  %m = const() {value = splat(3.0)} : f32[]
  %t = mul(%a, %m) : f32[4]
  %q = neg(%t) : f32[4]
  %f = floor(%q) : f32[4]
  return %f
}
"""
    assert check(text, Near()).counts == {"nearly": 1}
    with pytest.raises(LeptonBug, match="changed output 'p'"):
        check(text, Far())


def test_what_is_as_near_to_float64_as_before_is_fine() -> None:
    want = np.array([1.0, 0.5], np.float32)  # 0.5 is what is left of numbers that cancel
    truth = np.array([1.0, 0.25])
    assert REASSOCIATES.worst(np.array([1.0, 0.1], np.float32), want) > 1
    assert REASSOCIATES.worst(np.array([1.0, 0.1], np.float32), want, truth) < 1
    assert REASSOCIATES.worst(np.array([1.0, 2.0], np.float32), want, truth) > 1


def test_infinities_keep_their_sign_unless_they_are_quotients() -> None:
    text = """graph @g(%a: f32[8]) -> (p: f32[8]) {
  %i = const() {value = splat(inf)} : f32[]
  %one = const() {value = splat(1.0)} : f32[]
  %s = OP(%one, %a) : f32[8]
  %m = mul(%s, %i) : f32[8]
  return %m
}
"""
    assert check(text.replace("OP", "div"), Turning()).counts == {"opposite": 1}
    with pytest.raises(LeptonBug, match="changed output 'p'"):
        check(text.replace("OP", "add"), Turning())


def test_what_overflowed_before_may_be_finite() -> None:
    want = np.array([np.inf, 1.0], np.float32)
    truth = np.array([3e38, 1.0])
    assert REASSOCIATES.worst(np.array([3e38, 1.0], np.float32), want, truth) < 1
    assert REASSOCIATES.worst(np.array([np.nan, 1.0], np.float32), want, truth) > 1


def test_integer_extremes_go_where_they_are_no_sizes() -> None:
    plain = parse_graph("graph @g(%a: i8[64]) -> (p: i8[64]) {\n  return %a\n}\n")
    found = random_feeds(plain, extremes=True)["a"]
    assert {-128, 127} <= set(found.tolist())
    sized = parse_graph(
        "graph @g(%a: f32[2], %n: i64[1]) -> (p: f32[u1_]) {\n"
        "  %r = tile(%a, %n) : f32[u1_]\n  return %r\n}\n"
    )
    assert random_feeds(sized, extremes=True)["n"].max() < 4
