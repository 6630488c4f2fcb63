"""Indices that are data: those inside are read, others end the run with the node's name."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import leptonc
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.text import parse_graph

GRAPH = """
graph @places(%x: f32[4,3], %open: f32[n,3], %none: f32[z,3], %at: i64[k], %here: i32[k],
    %nowhere: i64[m], %each: i64[2,3], %pair: i64[k,2], %fixed: i32[5], %turn: bool[]) -> (
    a: f32[k,3], b: f32[k,3], c: f32[m,3], d: f32[2,3], e: f32[k], f: f32[4,3], g: f32[n,3],
    h: f32[k,3], i: f32[5,3]) {
  %u = const() {value = random(1)} : f32[2,3]
  %a = gather(%x, %at) {axis = 0} : f32[k,3]
  %b = gather(%open, %here) {axis = 0} : f32[k,3]
  %c = gather(%none, %nowhere) {axis = 0} : f32[m,3]
  %d = gather_elements(%x, %each) {axis = 0} : f32[2,3]
  %e = gather_nd(%x, %pair) : f32[k]
  %f = scatter_elements(%x, %each, %u) {axis = 0} : f32[4,3]
  %g = scatter_nd(%open, %pair, %e) : f32[n,3]
  %h = if(%turn) () {
    %p = gather(%open, %at) {axis = 0} : f32[k,3]
    return %p
  } () {
    %q = neg(%a) : f32[k,3]
    return %q
  } : f32[k,3]
  %i = gather(%x, %fixed) {axis = 0} : f32[5,3]
  return %a, %b, %c, %d, %e, %f, %g, %h, %i
}
"""
LEAST, MOST = -(2**63), 2**63 - 1
WRONG = [
    ("at", [0, 4], "gather: 1 of the indices are outside an extent of 4: they may be -4 to 3"),
    ("at", [-5, 9], "gather: 2 of the indices are outside an extent of 4"),
    ("at", [LEAST, MOST], "gather: 2 of the indices are outside an extent of 4"),
    ("at", [0, 3], "gather: 1 of the indices are outside an extent of n: they may be -n to"),
    ("here", [3, 0], "gather: 1 of the indices are outside an extent of n"),
    ("here", [-(2**31), 2**31 - 1], "gather: 2 of the indices are outside an extent of n"),
    ("nowhere", [0], "gather: 1 of the indices are outside an extent of z"),
    ("each", [[0, 1, 4], [0, 0, 0]], "gather_elements: 1 of the indices are outside .* of 4"),
    ("fixed", [4, 0, -5, 7, 3], "gather: 3 of the indices are outside an extent of 4"),
    ("pair", [[0, 3], [0, 0]], "gather_nd: 1 of the indices are outside extents of 4, 3"),
    ("pair", [[-5, 0], [0, 0]], "gather_nd: 1 of the indices are outside extents of 4, 3"),
    ("pair", [[3, 0], [0, 0]], "scatter_nd: 1 of the indices are outside extents of n, 3"),
]


@pytest.fixture(scope="module")
def session() -> Iterator[leptonc.Session]:
    with leptonc.compile(parse_graph(GRAPH), threads=1, isolated=False) as made:
        yield made


def _inputs(**other: object) -> dict[str, np.ndarray]:
    given: dict[str, object] = {
        "x": np.arange(12).reshape(4, 3), "open": np.arange(9).reshape(3, 3),
        "none": np.zeros((0, 3)), "at": [-3, 2], "here": [-3, 2], "nowhere": [],
        "each": [[-4, 3, 0], [1, -1, 2]], "pair": [[-3, 2], [1, -3]], "turn": True,
        "fixed": [-4, 3, 0, 1, -1], **other,
    }  # fmt: skip
    kinds = {"x": np.float32, "open": np.float32, "none": np.float32, "here": np.int32,
             "turn": np.bool_, "fixed": np.int32}  # fmt: skip
    return {name: np.array(data, kinds.get(name, np.int64)) for name, data in given.items()}


def test_indices_inside_are_read(session: leptonc.Session) -> None:
    given = _inputs()
    found = session.run(given)
    x, at = given["x"], given["at"]
    np.testing.assert_array_equal(found["a"], x[at])
    np.testing.assert_array_equal(found["b"], given["open"][at])
    assert found["c"].shape == (0, 3)
    np.testing.assert_array_equal(found["d"], np.take_along_axis(x, given["each"] % 4, 0))
    np.testing.assert_array_equal(found["e"], x[tuple(given["pair"].T)])
    np.testing.assert_array_equal(found["h"], given["open"][at])


def test_what_a_branch_reads_is_checked_where_it_runs(session: leptonc.Session) -> None:
    """Three is in the operand of the one branch, and not in that of the other."""
    given = _inputs(at=[0, 3], turn=False)
    np.testing.assert_array_equal(session.run(given)["h"], -given["x"][[0, 3]])


def test_no_index_is_outside(session: leptonc.Session) -> None:
    found = session.run(_inputs(at=[], here=[], pair=np.zeros((0, 2))))
    assert found["a"].shape == (0, 3)


@pytest.mark.parametrize(("name", "data", "message"), WRONG)
def test_an_index_outside_ends_the_run_and_not_the_session(
    session: leptonc.Session, name: str, data: object, message: str
) -> None:
    for _ in range(2):
        with pytest.raises(LeptonError, match=f"E707.*{message}"):
            session.run(_inputs(**{name: data}))
    session.run(_inputs())
