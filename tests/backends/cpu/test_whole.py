# pyright: standard
"""Sums and extremes of whole tensors, compiled, against numpy."""

from __future__ import annotations

import numpy as np
import pytest

import leptonc
from leptonc.ir.text import parse_graph

TEXT = """
graph @g(%x: f32[n,m], %z: f32[k]) -> (sum: f32[], max: f32[1,1], min: f32[], row: f32[]) {
  %sum = reduce_sum(%x) {keepdims = 0} : f32[]
  %max = reduce_max(%x) : f32[1,1]
  %low = reduce_min(%x) {keepdims = 0} : f32[]
  %min = neg(%low) : f32[]
  %row = reduce_sum(%z) {keepdims = 0} : f32[]
  return %sum, %max, %min, %row
}
"""


@pytest.fixture(scope="module", name="session")
def compiled() -> leptonc.Session:
    return leptonc.compile(parse_graph(TEXT, "test"), isolated=False)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 7), (3, 11), (64, 64), (5, 0)])
def test_whole_tensors(session: leptonc.Session, rows: int, columns: int) -> None:
    generator = np.random.default_rng(rows)
    x = generator.standard_normal((rows, columns)).astype(np.float32)
    z = generator.standard_normal(96).astype(np.float32)
    ours = session.run({"x": x, "z": z})
    np.testing.assert_allclose(ours["sum"], x.sum(dtype=np.float64), rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(ours["max"], [[x.max(initial=-np.inf)]])
    np.testing.assert_array_equal(ours["min"], -x.min(initial=np.inf))
    np.testing.assert_allclose(ours["row"], z.sum(dtype=np.float64), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("at", [0, 13, 70])
def test_not_a_number_is_kept(session: leptonc.Session, at: int) -> None:
    x = np.arange(71, dtype=np.float32)[None]
    x[0, at] = np.nan
    ours = session.run({"x": x, "z": np.ones(3, np.float32)})
    assert all(np.isnan(ours[name]).all() for name in ("sum", "max", "min"))


def test_a_sum_of_one_row_of_known_length() -> None:
    text = "graph @g(%x: f32[64]) -> (y: f32[]) {\n  %e = exp(%x) : f32[64]\n"
    text += "  %y = reduce_sum(%e) {keepdims = 0} : f32[]\n  return %y\n}\n"
    session = leptonc.compile(parse_graph(text, "test"), isolated=False)
    x = np.linspace(-1, 1, 64, dtype=np.float32)
    np.testing.assert_allclose(session.run({"x": x})["y"], np.exp(x).sum(), rtol=1e-5)
