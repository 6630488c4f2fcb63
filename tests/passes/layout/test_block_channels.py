"""block-channels keeps the numbers, interpreted and compiled, for channel counts of every kind."""

from __future__ import annotations

import numpy as np
import pytest

import leptonc
from leptonc.ir.graph import Graph
from leptonc.ir.interpret import interpret
from leptonc.ir.text import parse_graph
from leptonc.ir.verify import verify
from leptonc.passes.base import parse_pipeline
from leptonc.passes.manager import PassManager
from leptonc.passes.registry import Registry

NETWORK = """graph @m(%x: f32[n,{first},h,w]) -> (y: f32[n,{last}]) {{
  %w0 = const() {{value = random(1)}} : f32[{inner},{first},3,3]
  %b0 = const() {{value = random(2)}} : f32[{inner}]
  %w1 = const() {{value = random(3)}} : f32[{inner},1,3,3]
  %b1 = const() {{value = random(4)}} : f32[{inner}]
  %w2 = const() {{value = random(5)}} : f32[{last},{inner},1,1]
  %scale = const() {{value = random(6)}} : f32[1,{inner},1,1]
  %axes = const() {{value = dense([2, 3])}} : i64[2]
  %c0 = conv(%x, %w0, bias=%b0) {{pads = [1, 1, 1, 1]}} : f32[n,{inner},h,w]
  %r0 = relu(%c0) : f32[n,{inner},h,w]
  %c1 = conv(%r0, %w1, bias=%b1) {{group = {inner}, pads = [1, 1, 1, 1]}} : f32[n,{inner},h,w]
  %s1 = sigmoid(%c1) : f32[n,{inner},h,w]
  %m1 = mul(%s1, %scale) : f32[n,{inner},h,w]
  %a1 = add(%m1, %r0) : f32[n,{inner},h,w]
  %p = average_pool(%a1) {{kernel_shape = [2, 2], pads = [0, 0, 1, 1]}} : f32[n,{inner},h,w]
  %c2 = conv(%p, %w2) : f32[n,{last},h,w]
  %g = global_average_pool(%c2) : f32[n,{last},1,1]
  %y = squeeze(%g, axes=%axes) : f32[n,{last}]
  return %y
}}"""


def network(first: int, inner: int, last: int) -> Graph:
    """A small network with a depthwise layer, a scale for each channel and a residual."""
    return parse_graph(NETWORK.format(first=first, inner=inner, last=last))


SIZES = [(3, 16, 8), (8, 8, 8), (5, 12, 10), (16, 20, 3), (1, 1, 1)]


@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize("sizes", SIZES)
def test_the_numbers_stay(sizes: tuple[int, int, int], lanes: int) -> None:
    """The rewritten graph means the same, up to the order of sums; a second run does nothing."""
    x = np.random.default_rng(0).standard_normal((2, sizes[0], 5, 7)).astype(np.float32)
    expected = interpret(network(*sizes), {"x": x})["y"]
    graph = network(*sizes)
    pipeline = parse_pipeline(f"block-channels{{lanes={lanes}}},eliminate-dead-code", Registry())
    PassManager(pipeline).run(graph)
    verify(graph)
    assert any(op.name == "conv_blocked" for op in graph)
    np.testing.assert_allclose(interpret(graph, {"x": x})["y"], expected, rtol=2e-5, atol=2e-5)
    version = graph.version
    PassManager(pipeline).run(graph)
    assert graph.version == version


@pytest.mark.parametrize("sizes", SIZES)
def test_compiled_networks_agree_at_several_sizes(sizes: tuple[int, int, int]) -> None:
    """One artefact serves every batch and image size; odd ones meet the tails of the tiles."""
    with leptonc.compile(network(*sizes), threads=1, isolated=False) as session:
        for batch, height, width in ((1, 8, 8), (3, 5, 13), (2, 17, 2)):
            x = (
                np.random.default_rng(width)
                .standard_normal((batch, sizes[0], height, width))
                .astype(np.float32)
            )
            expected = interpret(network(*sizes), {"x": x}, widen=True)["y"]
            np.testing.assert_allclose(session.run({"x": x})["y"], expected, rtol=5e-5, atol=5e-5)


UP = """graph @up(%x: f32[n,{first},h,w]) -> (y: f32[n,{last},2*h,3*w], g: f32[n,{last},1,1]) {{
  %w0 = const() {{value = random(1)}} : f32[{first},{last},2,3]
  %b0 = const() {{value = random(2)}} : f32[{last}]
  %scale = const() {{value = random(3)}} : f32[{last},1,1]
  %c = conv_transpose(%x, %w0, bias=%b0) {{strides = [2, 3]}} : f32[n,{last},2*h,3*w]
  %y = relu(%c) : f32[n,{last},2*h,3*w]
  %m = mul(%y, %scale) : f32[n,{last},2*h,3*w]
  %s = sigmoid(%m) : f32[n,{last},2*h,3*w]
  %g = global_average_pool(%s) : f32[n,{last},1,1]
  return %y, %g
}}"""


@pytest.mark.parametrize("sizes", [(8, 16), (20, 5), (9, 1)])
def test_transposed_convolutions_and_means_of_what_is_scaled(sizes: tuple[int, int]) -> None:
    """Windows that do not overlap move as blocks or numbers; a mean takes what comes before it."""
    text = UP.format(first=sizes[0], last=sizes[1])
    with leptonc.compile(parse_graph(text), threads=1, isolated=False) as session:
        for batch, height, width in ((1, 4, 4), (2, 1, 7)):
            shape = (batch, sizes[0], height, width)
            x = np.random.default_rng(width).standard_normal(shape).astype(np.float32)
            expected = interpret(parse_graph(text), {"x": x}, widen=True)
            found = session.run({"x": x})
            for name, value in expected.items():
                np.testing.assert_allclose(found[name], value, rtol=5e-5, atol=5e-5)
