"""Choices and loops in compiled programs, beside the interpreter."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import leptonc
from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.interpret import interpret
from leptonc.ir.text import parse_graph
from leptonc.runtime import Session

Compiled = Callable[[str], Session]

X = np.random.default_rng(7).standard_normal((3, 4)).astype(np.float32)

CHOICE = """graph @m(%x: f32[n,4], %c: bool[1], %d: bool[])
-> (a: f32[u1_,4], b: f32[n,4], c: f32[n,4]) {
  %w = const() {value = random(3)} : f32[4]
  %e = exp(%x) : f32[n,4]
  %a, %b, %s = if(%c) () {
    %p = add(%e, %w) : f32[n,4]
    %z = if(%d) () {
      %one = const() {value = dense([2.5])} : f32[]
      %m = mul(%p, %one) : f32[n,4]
      return %m
    } () {
      return %e
    } : f32[n,4]
    return %p, %x, %z
  } () {
    %k = const() {value = random(5)} : f32[4,4]
    %q = concat(%e, %x) {axis = 0} : f32[2*n,4]
    %r = matmul(%x, %k) : f32[n,4]
    return %q, %r, %r
  } : f32[u1_,4], f32[n,4], f32[n,4]
  return %a, %b, %s
}"""

LOOP = """graph @m(%x: f32[n,4], %m: i64[], %c: bool[])
-> (a: f32[n,4], b: f32[n,4], s: f32[u1_,4], t: f32[u2_,n,4], i: i64[u2_]) {
  %w = const() {value = random(3)} : f32[4]
  %row = const() {value = splat(0.5)} : f32[1,4]
  %a, %b, %s, %t, %i = loop(max_trip=%m, cond=%c, carried=%x, carried=%x, carried=%row)
  (%n: i64[], %go: bool[], %p: f32[n,4], %o: f32[n,4], %q: f32[u3_,4]) {
    %scale = const() {value = random(4)} : f32[4]
    %limit = const() {value = splat(9.0)} : f32[]
    %next = add(%p, %w) : f32[n,4]
    %scaled = mul(%q, %scale) : f32[u3_,4]
    %longer = concat(%scaled, %row) {axis = 0} : f32[u3_+1,4]
    %largest = reduce_max(%next) {keepdims = 0} : f32[]
    %again = less(%largest, %limit) : bool[]
    return %again, %o, %next, %longer, %next, %n
  } : f32[n,4], f32[n,4], f32[u1_,4], f32[u2_,n,4], i64[u2_]
  return %a, %b, %s, %t, %i
}"""

NESTED = """graph @m(%x: f32[n,3], %m: i64[], %flag: bool[])
-> (a: f32[n,3], s: f32[u1_], b: f32[u5_,3]) {
  %two = const() {value = dense([2])} : i64[]
  %a, %s = loop(max_trip=%m, carried=%x) (%i: i64[], %go: bool[], %p: f32[n,3]) {
    %f = cast(%i) {to = f32} : f32[]
    %q, %t = loop(max_trip=%i, carried=%p) (%j: i64[], %on: bool[], %y: f32[n,3]) {
      %g = cast(%j) {to = f32} : f32[]
      %rest = mod(%j, %two) : i64[]
      %odd = cast(%rest) {to = bool} : bool[]
      %z = if(%odd) () {
        %minus = neg(%y) : f32[n,3]
        %v = add(%minus, %f) : f32[n,3]
        return %v
      } () {
        %u = add(%y, %g) : f32[n,3]
        return %u
      } : f32[n,3]
      return %on, %z, %g
    } : f32[n,3], f32[u2_]
    %sum = reduce_sum(%t) {keepdims = 0} : f32[]
    return %go, %q, %sum
  } : f32[n,3], f32[u1_]
  %b = if(%flag) () {
    %l = loop(max_trip=%m, carried=%x) (%k: i64[], %yes: bool[], %r: f32[u3_,3]) {
      %h = concat(%r, %a) {axis = 0} : f32[u3_+n,3]
      return %yes, %h
    } : f32[u4_,3]
    return %l
  } () {
    return %x
  } : f32[u5_,3]
  return %a, %s, %b
}"""

SCAN = """graph @m(%h: f32[4], %x: f32[2,n], %y: f32[n,4])
-> (h: f32[4], a: f32[4,n], b: f32[n], c: f32[2,n,4]) {
  %h1, %a, %b, %c = scan(%h, %x, %y) {num_scan_inputs = 2, scan_input_axes = [1, 0],
    scan_input_directions = [0, 1], scan_output_axes = [1, 0, -2],
    scan_output_directions = [0, 1, 1]} (%s: f32[4], %p: f32[2], %q: f32[4]) {
    %t = add(%s, %q) : f32[4]
    %axis = const() {value = dense([1])} : i64[1]
    %column = unsqueeze(%p, %axis) : f32[2,1]
    %table = add(%column, %t) : f32[2,4]
    %sum = reduce_sum(%p) {keepdims = 0} : f32[]
    return %t, %t, %sum, %table
  } : f32[4], f32[4,n], f32[n], f32[2,n,4]
  return %h1, %a, %b, %c
}"""

DEEP = """graph @m(%x: f32[n], %m: i64[]) -> (y: f32[n]) {
  %y = loop(max_trip=%m, carried=%x) (%i: i64[], %a: bool[], %p: f32[n]) {
    %z = loop(max_trip=%m, carried=%p) (%j: i64[], %b: bool[], %q: f32[n]) {
      %w, %s = loop(max_trip=%i, carried=%q) (%k: i64[], %c: bool[], %r: f32[n]) {
        %half = const() {value = splat(0.5)} : f32[]
        %t = mul(%r, %half) : f32[n]
        return %c, %t, %r
      } : f32[n], f32[u1_,n]
      %axis = const() {value = dense([0])} : i64[1]
      %sum = reduce_sum(%s, %axis) {keepdims = 0} : f32[n]
      %v = add(%w, %sum) : f32[n]
      return %b, %v
    } : f32[n]
    return %a, %z
  } : f32[n]
  return %y
}"""

COUNTER = """graph @m(%m: i64[], %top: f32[]) -> (r: f32[], s: i64[u1_]) {
  %zero = const() {value = dense([0.0])} : f32[]
  %r, %s = loop(max_trip=%m, carried=%zero) (%i: i64[], %go: bool[], %p: f32[]) {
    %one = const() {value = dense([1.0])} : f32[]
    %q = add(%p, %one) : f32[]
    %again = less(%q, %top) : bool[]
    return %again, %q, %i
  } : f32[], i64[u1_]
  return %r, %s
}"""

# In each turn a size is computed, bound and used; the first element decides about all.
SIZES = """graph @m(%m: i64[], %sizes: i64[k]) -> (r: f32[u1_], s: f32[u2_,u3_]) {
  %none = const() {value = splat(0.0)} : f32[1]
  %r, %s = loop(max_trip=%m, carried=%none) (%i: i64[], %go: bool[], %p: f32[u4_]) {
    %axis = const() {value = dense([0])} : i64[1]
    %at = unsqueeze(%i, %axis) : i64[1]
    %size = gather(%sizes, %at) : i64[1]
    %row = extents(%size) {names = [u5_]} : i64[1] loc("Size")
    %one = const() {value = dense([1.5])} : f32[]
    %element = expand(%one, %row) : f32[u5_]
    %longer = concat(%p, %element) {axis = 0} : f32[u4_+u5_]
    return %go, %longer, %element
  } : f32[u1_], f32[u2_,u3_] loc("Collect")
  return %r, %s
}"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compiled]:
    """Sessions by text, each compiled once."""
    sessions: dict[str, Session] = {}

    def session(text: str) -> Session:
        if text not in sessions:
            graph = parse_graph(text)
            sessions[text] = leptonc.compile(graph, threads=1, isolated=False)
        return sessions[text]

    yield session
    for one in sessions.values():
        one.close()


def check(session: Session, text: str, feeds: Mapping[str, Array]) -> None:
    """The session gives what the interpreter gives."""
    expected = interpret(parse_graph(text), feeds)
    found = session.run(feeds)
    for name, want in expected.items():
        assert found[name].dtype == want.dtype
        np.testing.assert_allclose(found[name], want, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("outer", [True, False])
@pytest.mark.parametrize("inner", [True, False])
@pytest.mark.parametrize("rows", [3, 0])
def test_one_branch_runs(compiled: Compiled, rows: int, *, outer: bool, inner: bool) -> None:
    """Branches read values, weights and sizes around them, and may hand on what they read."""
    feeds = {"x": X[:rows], "c": np.array([outer]), "d": np.array(inner)}
    check(compiled(CHOICE), CHOICE, feeds)


@pytest.mark.parametrize(
    ("limit", "go"), [(5, True), (1, True), (0, True), (-3, True), (5, False), (1000, True)]
)
def test_a_loop_turns_as_often_as_it_is_told(compiled: Compiled, limit: int, go: bool) -> None:
    """By limit and condition; carried values may swap and grow, elements are collected."""
    check(compiled(LOOP), LOOP, {"x": X, "m": np.array(limit), "c": np.array(go)})


def test_a_loop_without_optimisation() -> None:
    with leptonc.compile(parse_graph(LOOP), threads=1, isolated=False, level=0) as session:
        check(session, LOOP, {"x": X, "m": np.array(4), "c": np.array(True)})


@pytest.mark.parametrize(("turns", "flag"), [(4, True), (4, False), (0, True), (1, True)])
def test_loops_and_choices_nest(compiled: Compiled, turns: int, flag: bool) -> None:
    check(compiled(NESTED), NESTED, {"x": X[:, :3], "m": np.array(turns), "flag": np.array(flag)})


def test_what_one_loop_counts_an_inner_one_of_another_uses(compiled: Compiled) -> None:
    check(compiled(DEEP), DEEP, {"x": X[0], "m": np.array(4)})


@pytest.mark.parametrize("length", [5, 1, 0])
def test_scans_in_any_direction(compiled: Compiled, length: int) -> None:
    """Slices and results along any axis, from either end; several of both."""
    x = np.arange(2 * length, dtype=np.float32).reshape(2, length)
    y = np.arange(4 * length, dtype=np.float32).reshape(length, 4)
    check(compiled(SCAN), SCAN, {"h": X[0], "x": x, "y": y})


def test_sequences_of_a_scan_are_equally_long() -> None:
    text = SCAN.replace("%y: f32[n,4]", "%y: f32[m,4]")
    with leptonc.compile(parse_graph(text), threads=1, isolated=False) as session:
        feeds = {"h": X[0], "x": np.ones((2, 3), np.float32), "y": np.ones((2, 4), np.float32)}
        with pytest.raises(LeptonError, match=r"E707.*size 0 is 2, should be n"):
            session.run(feeds)


def test_a_hundred_thousand_turns(compiled: Compiled) -> None:
    """No stack grows with the turns; what is collected finds room."""
    turns = 100_000
    feeds: dict[str, Any] = {"m": np.array(2**62), "top": np.array(turns, np.float32)}
    found = compiled(COUNTER).run(feeds)
    assert found["r"] == turns
    np.testing.assert_array_equal(found["s"], np.arange(turns))


def resident() -> int:
    """The bytes of memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def test_memory_does_not_grow_with_calls(compiled: Compiled) -> None:
    """A thousand calls of different lengths take no more than the largest one."""
    session = compiled(LOOP)
    x = np.full((64, 4), -100.0, np.float32)

    def run(turns: int) -> None:
        session.run({"x": x, "m": np.array(turns), "c": np.array(True)})

    for turns in range(50):
        run(turns)
    before = resident()
    for call in range(1000):
        run(call % 50)
    assert resident() - before < 4_000_000  # what 50 turns collect takes 50 kB


def test_sizes_that_a_turn_computes(compiled: Compiled) -> None:
    feeds = {"m": np.array(3), "sizes": np.array([2, 2, 2])}
    check(compiled(SIZES), SIZES, feeds)
    check(compiled(SIZES), SIZES, {**feeds, "m": np.array(0)})


@pytest.mark.parametrize(
    ("sizes", "node", "message"),
    [
        ([2, -1, 2], "Size", "size 0 is -1, should be from 0"),
        ([2, 2, 5], "Collect", "an element of a scan output has 5 elements along an axis"),
        ([2, 3, 3], "Collect", "has 3 elements"),
    ],
)
def test_what_turns_cannot_give_ends_the_run(
    compiled: Compiled, sizes: list[int], node: str, message: str
) -> None:
    with pytest.raises(LeptonError, match=message) as raised:
        compiled(SIZES).run({"m": np.array(3), "sizes": np.array(sizes)})
    assert raised.value.code == "E707"
    assert raised.value.location.nodes == (node,)


def test_results_may_be_what_went_in(compiled: Compiled) -> None:
    """What a branch hands on is the caller's to change."""
    x = X.copy()
    found = compiled(CHOICE).run({"x": x, "c": np.array([True]), "d": np.array(False)})
    found["b"][:] = 0
    np.testing.assert_array_equal(x, X)


def test_weights_inside_regions_are_packed_parameters() -> None:
    """A loop's matrix product reads its weight like any other."""
    text = """graph @m(%x: f32[2,8], %m: i64[]) -> (y: f32[2,8]) {
      %y = loop(max_trip=%m, carried=%x) (%i: i64[], %go: bool[], %p: f32[2,8]) {
        %w = const() {value = random(3)} : f32[8,8]
        %q = matmul(%p, %w) : f32[2,8]
        return %go, %q
      } : f32[2,8]
      return %y
    }"""
    with leptonc.compile(parse_graph(text), threads=1, isolated=False) as session:
        check(session, text, {"x": X.reshape(-1)[:8].repeat(2).reshape(2, 8), "m": np.array(2)})
        (weight,) = session.manifest.weights
        assert len(weight.shape) == 3
