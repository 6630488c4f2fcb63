"""Compiled networks along one axis give what the interpreter gives, for extents of every kind."""

from __future__ import annotations

import numpy as np
import pytest

import leptonc
from leptonc.ir.graph import Graph
from leptonc.ir.interpret import interpret
from leptonc.ir.text import parse_graph

NETWORK = """graph @m(%x: f32[n,{first},l]) -> (y: f32[n,{last},l2], z: f32[n,{inner},l1]) {{
  %w0 = const() {{value = random(1)}} : f32[{inner},{first},5]
  %b0 = const() {{value = random(2)}} : f32[{inner}]
  %w1 = const() {{value = random(3)}} : f32[{inner},1,3]
  %w2 = const() {{value = random(5)}} : f32[{last},{inner},3]
  %scale = const() {{value = random(6)}} : f32[{inner},1]
  %c0 = conv(%x, %w0, bias=%b0) {{pads = [2, 2], strides = [2]}} : f32[n,{inner},l1]
  %r0 = relu(%c0) : f32[n,{inner},l1]
  %c1 = conv(%r0, %w1) {{group = {inner}, pads = [1, 1]}} : f32[n,{inner},l1]
  %m1 = mul(%c1, %scale) : f32[n,{inner},l1]
  %z = add(%m1, %r0) : f32[n,{inner},l1]
  %p = average_pool(%z) {{kernel_shape = [2], pads = [0, 1]}} : f32[n,{inner},l1]
  %y = conv(%p, %w2) {{dilations = [2], pads = [1, 1]}} : f32[n,{last},l2]
  return %y, %z
}}"""


def network(first: int, inner: int, last: int, length: int | None) -> Graph:
    """A small network; its length is open where that is None."""
    text = NETWORK.format(first=first, inner=inner, last=last)
    whole = ("floordiv(l+-1,2)+1", "floordiv(l+-1,2)+-1") if length is None else (0, 0)
    if length is not None:
        whole = ((length - 1) // 2 + 1, (length - 1) // 2 - 1)
        text = text.replace(",l]", f",{length}]")
    return parse_graph(text.replace("l1", str(whole[0])).replace("l2", str(whole[1])))


@pytest.mark.parametrize("length", [None, 9, 64])
@pytest.mark.parametrize("sizes", [(1, 16, 10), (9, 12, 8)])
def test_compiled_numbers(sizes: tuple[int, int, int], length: int | None) -> None:
    """Borders, strides, odd channels, groups: all as interpreted, at several lengths."""
    session = leptonc.compile(network(*sizes, length), threads=1, isolated=False)
    for extent in (5, 7, 9, 10, 11, 13, 17, 64) if length is None else (length,):
        x = np.random.default_rng(0).standard_normal((2, sizes[0], extent)).astype(np.float32)
        expected = interpret(network(*sizes, length), {"x": x})
        for name, got in session.run({"x": x}).items():
            np.testing.assert_allclose(got, expected[name], rtol=2e-5, atol=2e-5)
