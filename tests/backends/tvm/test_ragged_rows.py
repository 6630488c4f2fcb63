"""Rows that are no whole number of vectors: whole ones first, and what is behind them."""

from __future__ import annotations

import numpy as np
import pytest

import leptonc
from leptonc.ir.interpret import interpret
from leptonc.ir.text import parse_graph

ROWS_WITH_SUMS = """graph @g(%x: f32[37,83], %b: f32[37,1]) -> (y: f32[37,1], z: f32[37,83]) {
  %a = add(%x, %b) : f32[37,83]
  %g = gelu(%a) : f32[37,83]
  %ax = const() {value = dense([1])} : i64[1]
  %y = reduce_sum(%g, axes=%ax) : f32[37,1]
  %z = sub(%g, %y) : f32[37,83]
  return %y, %z
}"""
POOLED = """graph @g(%x: f32[n,5,83], %b: f32[5,1]) -> (z: f32[n,5,1], w: f32[n,5,83]) {
  %a = add(%x, %b) : f32[n,5,83]
  %g = gelu(%a) : f32[n,5,83]
  %z = global_max_pool(%g) : f32[n,5,1]
  %w = mul(%g, %z) : f32[n,5,83]
  return %z, %w
}"""
TURNED = """graph @g(%x: f32[6,17,31], %b: f32[17,1]) -> (z: f32[31,6,17]) {
  %a = add(%x, %b) : f32[6,17,31]
  %g = erf(%a) : f32[6,17,31]
  %z = transpose(%g) {perm = [2, 0, 1]} : f32[31,6,17]
  return %z
}"""
ONE_ROW = """graph @g(%x: f32[100003]) -> (z: f32[100003]) {
  %z = erf(%x) : f32[100003]
  return %z
}"""


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("isa", ["avx2", "avx512-vnni"])
@pytest.mark.parametrize("text", [ROWS_WITH_SUMS, POOLED, TURNED, ONE_ROW])
def test_rows_that_are_no_whole_vectors(text: str, isa: str, threads: int) -> None:
    graph, random = parse_graph(text), np.random.default_rng(1)
    shapes = [[d if isinstance(d, int) else 3 for d in value.type.shape] for value in graph.inputs]
    feeds = {
        value.name: random.standard_normal(shape, np.float32)
        for value, shape in zip(graph.inputs, shapes, strict=True)
    }
    wanted = interpret(graph, feeds)
    target = f"cpu:isa={isa},spelled_out=true"
    session = leptonc.compile(graph, target=target, isolated=False, threads=threads)
    for name, found in session.run(feeds).items():
        np.testing.assert_allclose(found, wanted[name], rtol=3e-5, atol=1e-5)
