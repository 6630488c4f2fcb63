"""Kernels with several outputs, and with work that others repeat, give the right numbers."""

from __future__ import annotations

import numpy as np

import leptonc
from leptonc.ir.interpret import interpret
from leptonc.ir.text import parse_graph
from leptonc.passes.check_numbers import random_feeds

CELL = """graph @g(%c0: f32[n,33], %f: f32[n,33], %i: f32[n,33], %o: f32[n,33], %u: u8[n,33]) -> (h: f32[n,33], z: f32[n,3], c: f32[n,33], s: f32[n,1]) {
  %w = const() {value = random(1)} : f32[33,3]
  %axes = const() {value = dense([1])} : i64[1]
  %k = mul(%c0, %f) : f32[n,33]
  %q = cast(%u) {to = f32} : f32[n,33]
  %s = reduce_sum(%q, axes=%axes) : f32[n,1]
  %p = mul(%i, %q) : f32[n,33]
  %c = add(%k, %p) : f32[n,33]
  %z = linear(%c, %w) : f32[n,3]
  %t = tanh(%c) : f32[n,33]
  %h = mul(%o, %t) : f32[n,33]
  return %h, %z, %c, %s
}
"""  # noqa: E501


def test_a_cell_stores_its_state_and_its_output() -> None:
    with leptonc.compile(parse_graph(CELL), isolated=False, cache=False) as session:
        for n in (1, 7, 100):
            feeds = random_feeds(parse_graph(CELL), sizes={"n": n})
            expected = interpret(parse_graph(CELL), feeds)
            for name, got in session.run(feeds).items():
                np.testing.assert_allclose(got, expected[name], rtol=1e-5, atol=1e-5)
