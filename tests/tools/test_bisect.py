"""A wrong rule among right ones is found, and the graph around it made small."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from leptonc.ir.build import Builder
from leptonc.ir.graph import Graph, Value
from leptonc.ir.text import parse_graph, print_graph
from leptonc.passes.base import Pass, RewritePass, parse_pipeline
from leptonc.passes.check_numbers import CheckNumbers, random_feeds
from leptonc.passes.contract import EXACT, Contract
from leptonc.passes.manager import PassManager
from leptonc.passes.pattern import Match, Var, pat
from leptonc.passes.registry import Registry
from leptonc.passes.rewrite import Rule, rule
from leptonc.tools import bisect as bisect_tool
from leptonc.tools import reduce as reduce_tool

x, y = Var("x"), Var("y")

TEXT = """graph @g(%a: f32[3], %b: f32[3]) -> (p: f32[3], q: f32[3]) {
  %i = identity(%a) : f32[3]
  %n = neg(%i) : f32[3]
  %m = neg(%n) : f32[3]
  %s = sub(%m, %b) : f32[3] loc("Sub_3")
  %e = tanh(%s) : f32[3]
  %f = mul(%e, %b) : f32[3]
  return %f, %n
}
"""


@rule(pat.sub(x, y))
def swapped_difference(m: Match, build: Builder) -> Value:
    """Wrong on purpose."""
    return build.add(build.neg(m[x]), m[y])


@rule(pat.neg(pat.neg(x).shared()))
def negate_twice(m: Match, build: Builder) -> Value:
    """Right."""
    return m[x]


@dataclass(frozen=True)
class Mixed(RewritePass):
    """A right rule and a wrong one."""

    name: ClassVar[str] = "mixed"
    numbers: ClassVar[Contract] = EXACT
    rules: ClassVar[tuple[Rule, ...]] = (negate_twice, swapped_difference)


def passes() -> list[Pass]:
    known = {"mixed": Mixed, **Registry([])}
    return parse_pipeline("fold-constants,mixed,eliminate-dead-code", known)


def test_the_first_bad_change_is_named() -> None:
    graph = parse_graph(TEXT)
    culprit = bisect_tool.bisect(graph, passes(), [random_feeds(graph)])
    assert culprit is not None
    assert culprit.applied is not None
    assert (culprit.step, culprit.number) == ("mixed", 2)
    assert culprit.applied.rule == "swapped-difference"
    assert str(culprit).startswith('pass mixed, change 2: swapped-difference at loc("Sub_3"')
    assert print_graph(graph, locations=True) == TEXT


def test_right_passes_are_cleared(tmp_path: Path) -> None:
    file = tmp_path / "g.lir"
    file.write_text(TEXT)
    out = io.StringIO()
    assert bisect_tool.main([str(file), "-p", "simplify,group-operations"], out) == 0
    assert out.getvalue() == "all passes keep their contracts\n"


def test_the_graph_is_reduced_to_what_goes_wrong() -> None:
    def fails(graph: Graph) -> bool:
        checks = CheckNumbers([random_feeds(graph)])
        try:
            PassManager([Mixed()], [checks]).run(graph)
        except Exception:
            return True
        return False

    def fails_on_a_copy(graph: Graph) -> bool:
        return fails(parse_graph(print_graph(graph)))

    small = reduce_tool.reduce_graph(parse_graph(TEXT), fails_on_a_copy)
    assert [op.name for op in small] == ["sub", "return"]


def test_nothing_to_reduce_is_said(tmp_path: Path) -> None:
    file = tmp_path / "g.lir"
    file.write_text(TEXT)
    out = io.StringIO()
    assert reduce_tool.main([str(file), "-p", "simplify"], out) == 1
    assert out.getvalue() == f"simplify does nothing wrong with {file}\n"
