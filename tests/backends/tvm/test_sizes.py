"""Kernels know the sizes of their inputs by name, not how they were computed."""

from __future__ import annotations

import numpy as np
import pytest

import leptonc
from leptonc.backends.tvm.source import KernelSource, kernel_source
from leptonc.ir.interpret import interpret
from leptonc.ir.text import parse_graph

HALF = "floordiv(h+1,2)"
QUARTER = f"floordiv({HALF}+1,2)"
WEIGHT = "%w = const() {value = random(1)} : f32[4,4,3,3]"
STRIDED = "{pads = [1, 1, 1, 1], strides = [2, 2]}"


def source_of(text: str) -> KernelSource:
    """The kernel of the only relu, pool or sum of a graph."""
    graph = parse_graph(text)
    (op,) = [op for op in graph if op.name not in ("const", "return")]
    return kernel_source(op)


def relu(extents: str) -> str:
    return f"graph @g(%x: f32[{extents}]) -> (y: f32[{extents}]) {{\n" + (
        f"  %y = relu(%x) : f32[{extents}]\n  return %y\n}}\n"
    )


def test_an_extent_that_is_computed_gets_a_name() -> None:
    source = source_of(relu(f"b,{QUARTER},4"))
    assert str(source.graph.inputs[0].type) == "f32[b,n0,4]"
    assert str(source.graph.outputs[0].type) == "f32[b,n0,4]"
    assert source.scalars == ()


def test_kernels_of_other_sizes_are_the_same_kernel() -> None:
    names = {source_of(relu(f"b,{extent},4")).name for extent in (HALF, QUARTER, "min(h,w)")}
    assert len(names) == 1


def test_a_name_is_not_one_that_is_taken() -> None:
    source = source_of(relu(f"n0,{HALF},{QUARTER.replace('h', 'w')}"))
    assert str(source.graph.inputs[0].type) == "f32[n0,n1,n2]"


def test_what_is_computed_from_it_still_is() -> None:
    source = source_of(f"""
graph @g(%x: f32[b,4,{HALF},8]) -> (y: f32[b,4,{QUARTER},4]) {{
  %y = max_pool(%x) {{kernel_shape = [2, 2], strides = [2, 2], pads = [0, 0, 1, 0]}}
     : f32[b,4,{QUARTER},4]
  return %y
}}
""")
    assert str(source.graph.inputs[0].type) == "f32[b,4,n0,8]"
    assert str(source.graph.outputs[0].type) == "f32[b,4,floordiv(n0+1,2),4]"


@pytest.mark.parametrize("extents", ["h,floordiv(h+1,2)", "floordiv(h,2),floordiv(h,3)"])
def test_extents_that_belong_together_keep_what_they_are_computed_from(extents: str) -> None:
    source = source_of(relu(extents))
    assert str(source.graph.inputs[0].type) == f"f32[{extents}]"


@pytest.mark.parametrize("size", [1, 2, 7, 18])
def test_layers_of_many_sizes_give_the_same_numbers(size: int) -> None:
    text = f"""
graph @g(%x: f32[b,4,h,w]) -> (y: f32[b,4,h,w]) {{
  {WEIGHT}
  %a = conv(%x, %w) {STRIDED} : f32[b,4,{HALF},{HALF.replace("h", "w")}]
  %r = relu(%a) : f32[b,4,{HALF},{HALF.replace("h", "w")}]
  %c = conv(%r, %w) {STRIDED} : f32[b,4,{QUARTER},{QUARTER.replace("h", "w")}]
  return %c
}}
""".replace("-> (y: f32[b,4,h,w])", f"-> (y: f32[b,4,{QUARTER},{QUARTER.replace('h', 'w')}])")
    feeds = {"x": np.random.default_rng(size).random((2, 4, size, size + 3), np.float32)}
    session = leptonc.compile(parse_graph(text), cache=False, isolated=False)
    expected = interpret(parse_graph(text), feeds)["y"]
    np.testing.assert_allclose(session.run(feeds)["y"], expected, rtol=1e-4, atol=1e-5)
