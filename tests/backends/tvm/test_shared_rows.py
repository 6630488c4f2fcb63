# pyright: standard
"""Threads share the rows of images in blocks of channels, as they do in the kernels around."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import te

import leptonc
from leptonc.backends.cpu.target import by_name, with_threads
from leptonc.backends.tvm.schedule import schedule
from leptonc.ir.interpret import interpret
from leptonc.ir.text import parse_graph

SCALED = """graph @g(%x: f32[2,5,24,20,8], %s: f32[2,5,1,1,8]) -> (y: f32[2,5,24,20,8]) {
  %z = mul(%x, %s) : f32[2,5,24,20,8]
  %e = erf(%z) : f32[2,5,24,20,8]
  %y = add(%e, %x) : f32[2,5,24,20,8]
  return %y
}"""


@pytest.mark.parametrize("threads", [2, 3])
def test_rows_that_threads_share(threads: int) -> None:
    graph, random = parse_graph(SCALED), np.random.default_rng(2)
    feeds = {
        "x": random.standard_normal((2, 5, 24, 20, 8), np.float32),
        "s": random.standard_normal((2, 5, 1, 1, 8), np.float32),
    }
    wanted = interpret(graph, feeds)["y"]
    session = leptonc.compile(graph, target="cpu:isa=avx2", isolated=False, threads=threads)
    np.testing.assert_allclose(session.run(feeds)["y"], wanted, rtol=3e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("rows", "blocks", "kept"), [(28, 6, True), (27, 40, False), (6, 240, False), (14, 96, True)]
)
def test_what_threads_share(rows: int, blocks: int, kept: bool) -> None:
    """Other axes are shared where rows do not divide, or are few beside channels."""
    x: Any = te.placeholder((1, blocks, rows, 40, 16), "float32", "x")
    s: Any = te.placeholder((1, blocks, 1, 1, 16), "float32", "s")
    y: Any = te.compute(x.shape, lambda n, c, h, w, lane: x[n, c, h, w, lane] * s[n, c, 0, 0, lane])
    made = schedule(te.create_prim_func([x, s, y]), with_threads(by_name("avx512"), 2))
    assert ("T.parallel(2)" in made.script()) is kept
    assert "T.parallel(" in made.script()
