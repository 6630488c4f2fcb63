"""Sizes that the program computes itself, bound in the middle of it and checked there."""

from __future__ import annotations

import resource
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

import leptonc
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.text import parse_graph
from leptonc.runtime import Session

# The last two operations depend on no operand that was bound; they stand before the binding.
SIZES = """graph @m(%x: f32[n,4], %r: i64[2], %q: i32[1], %same: i64[2])
-> (a: f32[u1_,u2_], b: i64[2], c: f32[u3_,n,4], d: i64[2], e: i32[1], f: f32[u1_,4]) {
  %row = extents(%r) {names = [u1_, u2_]} : i64[2] loc("ToShape")
  %more = dims() {value = [u3_, 3*u1_], shape = [2]} : i64[2]
  %to = dims() {value = [u3_, n, 4], shape = [3]} : i64[3]
  %c = expand(%x, %to) : f32[u3_,n,4]
  %a0 = exp(%x) : f32[n,4]
  %v = reshape(%a0, %row) : f32[u1_,u2_] loc("Reshape")
  %a = exp(%v) : f32[u1_,u2_]
  %count = extents(%q) {names = [u3_]} : i32[1] loc("Count")
  %known = extents(%same) {names = [u1_, 4]} : i64[2] loc("Again")
  %flat = reshape(%a, %known) : f32[u1_,4]
  return %a, %row, %c, %more, %count, %flat
}"""


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with leptonc.compile(parse_graph(SIZES), threads=1, isolated=False) as session:
        yield session


def run(
    session: Session, rows: int, shape: Sequence[int], count: int, again: Sequence[int] = ()
) -> None:
    """The session gives what numpy gives."""
    x = np.random.default_rng(rows).random((rows, 4), np.float32)
    found = session.run({
        "x": x, "r": np.array(shape, np.int64), "q": np.array([count], np.int32),
        "same": np.array(again or (shape[0], 4), np.int64),
    })  # fmt: skip
    a = np.exp(np.exp(x).reshape(shape))
    np.testing.assert_allclose(found["a"], a, rtol=1e-5)
    np.testing.assert_array_equal(found["b"], shape)
    np.testing.assert_array_equal(found["c"], np.broadcast_to(x, (count, rows, 4)))
    np.testing.assert_array_equal(found["d"], [count, 3 * shape[0]])
    np.testing.assert_array_equal(found["e"], [count])
    np.testing.assert_array_equal(found["f"], found["a"].reshape(-1, 4))


@pytest.mark.parametrize(
    ("rows", "shape", "count"), [(3, (3, 4), 2), (5, (5, 4), 0), (0, (0, 4), 3), (1, (1, 4), 1)]
)
def test_sizes_are_what_the_numbers_say(
    session: Session, rows: int, shape: tuple[int, int], count: int
) -> None:
    run(session, rows, shape, count)


@pytest.mark.parametrize(
    ("shape", "count", "again", "node", "message"),
    [
        ((-3, -4), 1, (), "ToShape", "size 0 is -3, should be from 0 to 999999999"),
        ((3, 10**9), 1, (), "ToShape", "size 1 is 1000000000, should be from 0 to 999999999"),
        ((3, 2**62), 1, (), "ToShape", "size 1 is"),
        ((6, 2), -1, (6, 4), "Count", "size 0 is -1, should be from 0"),
        ((4, 4), 1, (), "Reshape", r"12 elements cannot become one of shape \[u1_, u2_\]"),
        ((3, 4), 1, (4, 4), "Again", "size 0 is 4, should be u1_"),
        ((3, 4), 1, (3, 5), "Again", "size 1 is 5, should be 4"),
    ],
)
def test_what_cannot_be_a_size_ends_the_run(
    session: Session,
    shape: tuple[int, int],
    count: int,
    again: tuple[int, ...],
    node: str,
    message: str,
) -> None:
    """The error names node and number, and the session goes on."""
    with pytest.raises(LeptonError, match=message) as raised:
        run(session, 3, shape, count, again)
    assert raised.value.code == "E707"
    assert raised.value.location.nodes == (node,)
    run(session, 3, (3, 4), 2)


def test_sizes_that_shapes_tell_need_no_numbers() -> None:
    """A row whose elements are extents already is never computed."""
    text = """graph @m(%x: f32[n,m]) -> (y: f32[u1_]) {
      %s = dims() {value = [2*m], shape = [1]} : i64[1]
      %e = extents(%s) {names = [u1_]} : i64[1]
      %z = const() {value = splat(0.5)} : f32[]
      %y = expand(%z, %e) : f32[u1_]
      return %y
    }"""
    with leptonc.compile(parse_graph(text), threads=1, isolated=False) as session:
        assert session.run({"x": np.zeros((3, 4), np.float32)})["y"].shape == (8,)


def test_sizes_that_nothing_tells_are_refused() -> None:
    text = """graph @m(%x: f32[4]) -> (y: f32[u1_]) {
      %s = dims() {value = [u1_], shape = [1]} : i64[1]
      %z = const() {value = splat(0.5)} : f32[]
      %y = expand(%z, %s) : f32[u1_] loc("Expand_1")
      return %y
    }"""
    with pytest.raises(LeptonError, match=r"E802.*the size u1_ before") as raised:
        leptonc.compile(parse_graph(text), threads=1, isolated=False)
    assert raised.value.location.nodes == ("Expand_1",)


GROWING = """graph @m(%x: f32[1024], %q: i64[1]) -> (y: f32[u1_,1024]) {
  %n = extents(%q) {names = [u1_]} : i64[1]
  %to = dims() {value = [u1_, 1024], shape = [2]} : i64[2]
  %y = expand(%x, %to) : f32[u1_,1024]
  return %y
}"""


def test_memory_does_not_grow_with_the_sizes_met() -> None:
    """Hundreds of calls with sizes of their own take no more than a few of the largest."""
    x = np.ones(1024, np.float32)
    with leptonc.compile(parse_graph(GROWING), threads=1, isolated=False) as session:
        session.run({"x": x, "q": np.array([1001])})
        before = resident()
        for call in range(300):
            rows = 1 + call * 7 % 1000
            assert session.run({"x": x, "q": np.array([rows])})["y"].shape == (rows, 1024)
        assert resident() - before < 60_000_000  # all sizes together are 600 MB


def resident() -> int:
    """The bytes of memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


ASSUMED = """graph @m(%x: f32[n,k], %y: f32[m,k], %z: f32[j,2])
-> (a: f32[broadcast(n,m),k], b: f32[broadcast(n,m)+m,k], c: f32[broadcast(n,m),2]) {
  %a = add(%x, %y) : f32[broadcast(n,m),k]
  %e = exp(%a) : f32[broadcast(n,m),k]
  %b = concat(%y, %e) {axis = 0} : f32[broadcast(n,m)+m,k]
  %c = matmul(%e, %z) : f32[broadcast(n,m),2]
  return %e, %b, %c
}"""


def test_extents_that_types_take_for_equal_are_compared() -> None:
    """Symbols of two inputs may turn out equal, or 1 where that broadcasts; else the run ends."""
    with leptonc.compile(parse_graph(ASSUMED), threads=1, isolated=False) as session:

        def call(x: tuple[int, int], y: tuple[int, int], z: int) -> dict[str, np.ndarray]:
            shapes = {"x": x, "y": y, "z": (z, 2)}
            return session.run({name: np.ones(s, np.float32) for name, s in shapes.items()})

        for rows, others in ((3, 3), (3, 1), (1, 3)):
            found = call((rows, 4), (others, 4), 4)
            np.testing.assert_allclose(found["a"], np.full((3, 4), np.exp(2)), rtol=1e-5)
            assert found["b"].shape == (3 + others, 4)
            np.testing.assert_allclose(found["c"], np.full((3, 2), 4 * np.exp(2)), rtol=1e-5)
        for given, message in (
            (((3, 4), (2, 4), 4), r"along an axis, should have broadcast\(m,n\) or 1"),
            (((3, 4), (3, 4), 5), "operand has 5 elements along an axis, should have k"),
        ):
            with pytest.raises(LeptonError, match=f"E707.*{message}"):
                call(*given)
