"""Tensors of a run that share memory: never two at once in the same place."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import leptonc
from leptonc.backends.tvm import build
from leptonc.backends.tvm.arena import MORE, PLACE, Arena, Tensor
from leptonc.backends.tvm.rooms import ALIGNMENT, Room, place
from leptonc.ir.blob import Array
from leptonc.ir.interpret import interpret
from leptonc.ir.text import parse_graph
from leptonc.runtime import Session
from leptonc.runtime.failures import failure
from leptonc.runtime.lanes import GO_ON

EXTENTS = (1, 0, 2, 7, 33)
PLANNING = ("StaticPlanBlockMemory", "ShareArenas")

steps = st.integers(0, 40)
sizes = st.one_of(st.integers(0, 300), st.sampled_from([64, 4096, 10**12]))


@settings(deadline=None, derandomize=True)
@given(st.lists(st.tuples(steps, st.integers(0, 12), sizes), max_size=40))
def test_no_two_tensors_in_use_at_once_overlap(lives: list[tuple[int, int, int]]) -> None:
    """Step by step, the bytes of what is in use are counted, and none is counted twice."""
    rooms = [Room(first, first + length, size) for first, length, size in lives]
    end = place(rooms)
    assert end is not None
    assert [room.size % ALIGNMENT for room in rooms] == [0] * len(rooms)
    assert [room.offset % ALIGNMENT for room in rooms] == [0] * len(rooms)
    for room, (_, _, size) in zip(rooms, lives, strict=True):
        assert size <= room.size < size + ALIGNMENT
        assert 0 <= room.offset <= room.offset + room.size <= end
    needed = 0
    for step in range(60):
        edges = sorted(
            (room.offset, room.offset + room.size)
            for room in rooms
            if room.first <= step <= room.last and room.size
        )
        ends = [stop for _, stop in edges]
        assert all(start >= stop for (start, _), stop in zip(edges[1:], ends, strict=False))
        needed = max(needed, sum(stop - start for start, stop in edges))
    assert needed <= end <= sum(room.size for room in rooms)


def test_chains_of_any_length_take_two_pieces() -> None:
    rooms = [Room(step, step + 1, 64 + 64 * (step % 2)) for step in range(50_000)]
    assert place(rooms) == 192


def test_thousands_of_tensors_at_once_are_left_where_they_are() -> None:
    rooms = [Room(step, 5000, 64) for step in range(2000)]
    assert place(rooms) is None
    assert place(rooms[:1000]) == 64_000


def random_graph(seed: int, name: str) -> str:
    """Operations on [n, width] that stay kernels of their own, results of all ages read again."""
    draw = np.random.default_rng(seed)
    lines: list[str] = []
    values = [("%x", 16, "f32"), ("%y", 3, "f32")]

    def add(call: str, width: int, dtype: str = "f32") -> None:
        lines.append(f"  %v{len(lines)} = {call} : {dtype}[n,{width}]")
        values.append((f"%v{len(lines) - 1}", width, dtype))

    for _ in range(24):
        value, width, dtype = values[-1 - int(draw.integers(2))]
        same = [v for v, w, d in values if (w, d) == (width, dtype)]
        other = same[int(draw.integers(len(same)))]
        kind = int(draw.integers(6))
        if dtype == "f64":
            add(f"cast({value}) {{to = f32}}", width)
        elif kind == 0:
            add(f"cast({value}) {{to = f64}}", width, "f64")
        elif kind <= 2 and width < 40:
            add(f"concat({value}, {other}) {{axis = 1}}", 2 * width)
        elif kind == 3:
            add(f"softmax({value})", width)
        else:
            add(f"add({value}, {other})", width)
    outputs = [values[int(draw.integers(2, len(values) - 1))], values[-1]]
    head = ", ".join(f"o{at}: {d}[n,{w}]" for at, (_, w, d) in enumerate(outputs))
    body = "\n".join(lines)
    result = ", ".join(value for value, _, _ in outputs)
    return (
        f"graph @{name}(%x: f32[n,16], %y: f32[n,3]) -> ({head}) {{\n{body}\n  return {result}\n}}"
    )


Compiled = Callable[[str], Session]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """A way to compile without fusion, where equal kernels are compiled once."""
    folder: Path = tmp_path_factory.mktemp("kernels")

    def make(text: str) -> Session:
        return leptonc.compile(parse_graph(text), level=0, threads=1, isolated=False, cache=folder)

    return make


def feeds(rows: int) -> dict[str, Array]:
    """Inputs of the random graphs."""
    draw = np.random.default_rng(rows)
    shapes = {"x": (rows, 16), "y": (rows, 3)}
    return {name: draw.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


class Memory:
    """Sees where the tensors of a run are, and holds its arenas: nothing else gets their memory."""

    def __init__(self) -> None:
        self.arenas: list[Any] = []
        self.moved = 0
        self.places: list[int] = []
        """Addresses of what kernels read and write."""

    def look(self, function: object, name: str, before: bool, result: object, *given: Any) -> int:
        """Note what a function is given."""
        if before and name == PLACE:
            self.arenas.append(given[0])
            self.moved += 1
        elif before and name.startswith("k_"):
            self.places += [each.data_ptr() for each in given if hasattr(each, "data_ptr")]
        return GO_ON

    def holds(self, address: int) -> bool:
        """Whether an address lies in an arena."""
        return any(0 <= address - each.data_ptr() < prod(each.shape) for each in self.arenas)


def without_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tensor is memory of its own from here on."""
    passes = [each for each in build.memory_passes(1) if each.info.name not in PLANNING]
    assert len(passes) == len(build.memory_passes(1)) - len(PLANNING)

    def unplanned(threads: int) -> list[Any]:
        return passes

    monkeypatch.setattr(build, "memory_passes", unplanned)


@pytest.mark.parametrize("seed", range(6))
def test_random_graphs_give_what_they_give_without_a_plan(
    seed: int, compiled: Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit; tensors are aligned, and nothing that is given back lies in an arena."""
    memory = Memory()
    with compiled(random_graph(seed, "planned")) as planned:
        without_a_plan(monkeypatch)
        with compiled(random_graph(seed, "plain")) as plain:
            for rows in EXTENTS:
                expected, found = plain.run(feeds(rows)), planned.run(feeds(rows))
                for name, want in expected.items():
                    np.testing.assert_array_equal(found[name], want, strict=True)
        with planned.observed(memory.look):
            outputs = planned.run_dlpack(feeds(7))
    assert memory.moved > 5
    assert not any(address % ALIGNMENT for address in memory.places)
    assert any(map(memory.holds, memory.places))
    assert not any(memory.holds(tensor.data_ptr()) for tensor in outputs.values())


def test_runs_at_once_have_an_arena_each(compiled: Compiled) -> None:
    """Several sessions and several runs of one, of different sizes."""
    with compiled(random_graph(1, "planned")) as one, compiled(random_graph(2, "planned")) as other:
        work = [(session, rows) for rows in (1, 300, 7, 0, 33) for session in (one, other)] * 4
        expected = {(session, rows): session.run(feeds(rows)) for session, rows in work[:10]}
        with ThreadPoolExecutor(4) as threads:
            for key, found in zip(work, threads.map(run, work), strict=True):
                for name, want in expected[key].items():
                    np.testing.assert_array_equal(found[name], want, strict=True)


def run(work: tuple[Session, int]) -> dict[str, Array]:
    """The outputs of a session for so many rows."""
    session, rows = work
    return session.run(feeds(rows))


SIZED = """graph @sized(%x: f32[3], %count: i64[1], %c: bool[]) -> (y: f32[u1_,24], z: f32[u1_,6]) {
  %k = extents(%count) {names = [u1_]} : i64[1]
  %to = dims() {value = [u1_, 3], shape = [2]} : i64[2]
  %a = expand(%x, %to) : f32[u1_,3]
  %b = concat(%a, %a) {axis = 1} : f32[u1_,6]
  %s = softmax(%b) : f32[u1_,6]
  %d = concat(%s, %b) {axis = 1} : f32[u1_,12]
  %e = softmax(%d) : f32[u1_,12]
  %f = if(%c) () {
    %g = softmax(%e) : f32[u1_,12]
    return %g
  } () {
    return %e
  } : f32[u1_,12]
  %h = concat(%f, %f) {axis = 1} : f32[u1_,24]
  %i = softmax(%h) : f32[u1_,24]
  %j = concat(%i, %d) {axis = 1} : f32[u1_,36]
  %l = softmax(%j) : f32[u1_,36]
  %m = const() {value = random(3)} : f32[36,24]
  %y = matmul(%l, %m) : f32[u1_,24]
  %n = const() {value = random(4)} : f32[24,6]
  %z = matmul(%h, %n) : f32[u1_,6]
  return %y, %z
}"""


def test_sizes_that_a_run_computes_have_arenas_too(compiled: Compiled) -> None:
    """What a choice may hand on lies in none."""
    memory = Memory()
    with compiled(SIZED) as session, session.observed(memory.look):
        for rows, chosen in itertools.product((3, 1, 0, 50), (True, False)):
            x, count = np.arange(3, dtype=np.float32), np.array([rows])
            given = {"x": x, "count": count, "c": np.array(chosen)}
            expected = interpret(parse_graph(SIZED), given)
            for name, found in session.run(given).items():
                np.testing.assert_allclose(found, expected[name], rtol=1e-5, atol=1e-6)
    assert memory.moved


def test_an_arena_that_saves_nothing_is_none(compiled: Compiled) -> None:
    """Tensors of one size take turns in two pieces of memory anyhow, and TVM's plan stays."""
    memory = Memory()
    chain = "\n".join(f"  %v{at + 1} = softmax(%v{at}) : f32[n,16]" for at in range(6))
    text = f"graph @chain(%v0: f32[n,16]) -> (y: f32[n,16]) {{\n{chain}\n  return %v6\n}}"
    with compiled(text) as session, session.observed(memory.look):
        session.run({"v0": np.ones((3, 16), np.float32)})
        assert session.manifest.plan == {"peak": 0, "bytes for each n": 192}  # and the output
        told = failure(MemoryError(), session.manifest)
    assert told.message == "there is not enough memory for this run; a run takes 192 * n"
    assert len(memory.places) == 12
    assert not memory.moved


def test_the_plan_is_told_for_each_product_of_extents(compiled: Compiled) -> None:
    text = """graph @m(%x: f32[peak,m,4], %y: f32[3]) ->
    (a: f32[peak*m,4], b: f32[3], c: f32[m-1,peak]) {
      %s = softmax(%x) : f32[peak,m,4]
      %to = dims() {value = [peak*m, 4], shape = [2]} : i64[2]
      %v = reshape(%s, %to) : f32[peak*m,4]
      %a = softmax(%v) : f32[peak*m,4]
      %b = softmax(%y) : f32[3]
      %z = const() {value = splat(0.5)} : f32[]
      %more = dims() {value = [m-1, peak], shape = [2]} : i64[2]
      %c = expand(%z, %more) : f32[m-1,peak]
      return %a, %b, %c
    }"""
    with compiled(text) as session:
        plan = dict(session.manifest.plan)
    assert plan == {
        "peak": 12,
        "bytes for each m*peak": 32,
        "bytes for each (m - 1)*peak": 4,
    }


IMAGES = """graph @g(%x: f32[1,4,56,56,16]) -> (y: f32[1,4,14,14,16]) {
  %start = const() {value = dense([0, 0])} : i64[2]
  %axes = const() {value = dense([2, 3])} : i64[2]
  %middle = const() {value = dense([28, 28])} : i64[2]
  %end = const() {value = dense([14, 14])} : i64[2]
  %a = erf(%x) : f32[1,4,56,56,16]
  %b = exp(%a) : f32[1,4,56,56,16]
  %c = slice(%b, starts=%start, ends=%middle, axes=%axes) : f32[1,4,28,28,16]
  %d = erf(%c) : f32[1,4,28,28,16]
  %e = exp(%d) : f32[1,4,28,28,16]
  %f = add(%e, %c) : f32[1,4,28,28,16]
  %g = slice(%f, starts=%start, ends=%end, axes=%axes) : f32[1,4,14,14,16]
  %h = erf(%g) : f32[1,4,14,14,16]
  %i = exp(%h) : f32[1,4,14,14,16]
  %y = erf(%i) : f32[1,4,14,14,16]
  return %y
}"""


@pytest.mark.parametrize(("threads", "together"), [(1, True), (2, False)])
def test_threads_find_images_of_different_extents_apart(threads: int, together: bool) -> None:
    """So no row lies where another thread has one."""
    x = np.random.default_rng(1).standard_normal((1, 4, 56, 56, 16)).astype(np.float32)
    graph, seen = parse_graph(IMAGES), dict[int, set[int]]()

    def look(function: object, name: str, before: bool, result: object, *given: Any) -> int:
        for each in given if before and name.startswith("k_") else ():
            if len(each.shape) == 5 and each.data_ptr() != x.ctypes.data:
                lines = range(each.data_ptr(), each.data_ptr() + 4 * prod(each.shape), ALIGNMENT)
                seen.setdefault(int(each.shape[2]), set()).update(lines)
        return GO_ON

    with leptonc.compile(graph, level=0, threads=threads, isolated=False) as session:
        wanted = interpret(graph, {"x": x})["y"]
        with session.observed(look):
            found = session.run({"x": x})["y"]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert sorted(seen) == [14, 28, 56]
    assert together == any(a & b for a, b in itertools.combinations(seen.values(), 2))


@dataclass(eq=False)
class Picture(Tensor):
    """A tensor that is told what image it is."""

    side: int = 0

    @property
    def image(self) -> tuple[int, ...]:
        """Its extents."""
        return (self.side,)


@settings(deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(steps, st.integers(0, 12), sizes, st.integers(0, 4)), max_size=40),
    st.sampled_from([1, 16 << 10]),
)
def test_no_two_images_in_use_at_once_overlap(
    lives: list[tuple[int, int, int, int]], scale: int
) -> None:
    """Whether all lie apart, or only some since there is too much of them."""
    tensors = [
        Picture(first, first + length, scale * min(size, 10**6), side=side)
        for first, length, size, side in lives
    ]
    arena = Arena([], list[Tensor](tensors))
    arena.size = place(tensors) or 0
    plain = arena.size
    arena.move_apart()
    assert arena.size <= plain + MORE
    for one, other in itertools.combinations(tensors, 2):
        apart = one.offset + one.size <= other.offset or other.offset + other.size <= one.offset
        at_once = one.first <= other.last and other.first <= one.last
        assert apart or not at_once
        small = sum(each.size for each in tensors) <= MORE
        assert apart or not small or one.side == other.side
    assert all(each.offset + each.size <= arena.size for each in tensors)
