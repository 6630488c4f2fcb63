"""Weights are packed wherever they stand."""

from __future__ import annotations

import numpy as np
import pytest

import leptonc
from leptonc.backends.cpu.prepare import prepare
from leptonc.backends.cpu.target import by_name
from leptonc.ir.interpret import interpret
from leptonc.ir.text import parse_graph
from leptonc.ir.verify import verify


@pytest.mark.parametrize("inside", [True, False])
def test_a_weight_is_packed_outside_of_the_group_that_reads_it(inside: bool) -> None:
    constant = "    %w = const() {value = random(1)} : f32[8,8]\n"
    before, within = ("", constant) if inside else (constant, "")
    operand, argument = ("", "") if inside else (", %w", ", %v: f32[8,8]")
    text = f"""graph @product(%x: f32[6,8]) -> (y: f32[6,8]) {{
{before}  %y = group(%x{operand}) (%a: f32[6,8]{argument}) {{
{within}    %m = linear(%a, {"%w" if inside else "%v"}) : f32[6,8]
    return %m
  }} : f32[6,8]
  return %y
}}
"""
    graph = parse_graph(text, "test")
    prepare(graph, by_name("avx2"))
    verify(graph)
    assert [op.name for op in graph] == ["const", "group", "return"]
    group = list(graph)[1]
    assert [op.name for op in group.regions[0]] == ["packed_linear", "return"]
    assert len(group.operands) == len(group.regions[0].inputs) == 2


def test_weights_of_a_branch_are_packed() -> None:
    text = """graph @choice(%x: f32[6,8], %c: bool[]) -> (y: f32[6,8]) {
  %w = const() {value = random(1)} : f32[8,8]
  %y = if(%c) () {
    %a = group(%x, %w) (%p: f32[6,8], %v: f32[8,8]) {
      %m = linear(%p, %v) : f32[6,8]
      return %m
    } : f32[6,8]
    return %a
  } () {
    %u = const() {value = random(2)} : f32[8,8]
    %b = linear(%x, %u) : f32[6,8]
    return %b
  } : f32[6,8]
  return %y
}
"""
    graph = parse_graph(text, "test")
    prepare(graph, by_name("avx2"))
    verify(graph)
    rows = [op.name for op in graph.walk() if "linear" in op.name]
    assert rows == ["packed_linear", "packed_linear"]


CONVOLUTIONS = """graph @shared(%x: f32[1,4,9,7]) -> (y: f32[1,4,9,7]) {
  %w = const() {value = random(1)} : f32[4,4,3,3]
  %a = conv(%x, %w) {pads = [1, 1, 1, 1]} : f32[1,4,9,7]
  %y = conv(%a, %w) {pads = [1, 1, 1, 1]} : f32[1,4,9,7]
  return %y
}
"""
PRODUCTS = """graph @shared(%x: f32[5,4]) -> (y: f32[5,4]) {
  %w = const() {value = random(1)} : f32[4,4]
  %a = linear(%x, %w) : f32[5,4]
  %y = linear(%a, %w) {transposed = true} : f32[5,4]
  return %y
}
"""


@pytest.mark.parametrize("text", [CONVOLUTIONS, PRODUCTS], ids=["convolutions", "products"])
@pytest.mark.parametrize("isa", ["avx2", "avx512,spelled_out=true"])
def test_a_weight_that_is_read_in_two_orders_is_packed_in_both(text: str, isa: str) -> None:
    (value,) = parse_graph(text).inputs
    feeds = {"x": np.random.default_rng(0).random(value.type.extents, np.float32)}
    expected = interpret(parse_graph(text), feeds)["y"]
    target = f"cpu:isa={isa}"
    session = leptonc.compile(parse_graph(text), target=target, cache=False, isolated=False)
    np.testing.assert_allclose(session.run(feeds)["y"], expected, rtol=1e-4, atol=1e-4)


def test_a_weight_that_is_read_in_one_order_is_packed_once() -> None:
    text = PRODUCTS.replace(" {transposed = true}", "")
    graph = parse_graph(text)
    prepare(graph, by_name("avx2"))
    assert [op.name for op in graph] == ["const", "packed_linear", "packed_linear", "return"]
