"""Weights are packed wherever they stand."""

from __future__ import annotations

import pytest

from leptonc.backends.cpu.prepare import prepare
from leptonc.backends.cpu.target import by_name
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
