"""Patterns and rules: what matches, what does not, and that broken rules are found out."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import ClassVar

import pytest

from leptonc.ir.build import Builder
from leptonc.ir.diagnostics import LeptonBug, LeptonError
from leptonc.ir.graph import Graph, Op, Value
from leptonc.ir.text import parse_graph, print_graph
from leptonc.ir.verify import verify
from leptonc.passes.base import RewritePass
from leptonc.passes.context import PassContext
from leptonc.passes.contract import EXACT, Contract
from leptonc.passes.matching import match
from leptonc.passes.pattern import Const, Match, OpPattern, Var, pat
from leptonc.passes.registry import BUILTIN, Registry
from leptonc.passes.rewrite import Rewriter, Rule, RuleSet, rule

x, y, c, b = Var("x"), Var("y"), Const("c"), Var("b")


def graph_of(inputs: str, *lines: str) -> Graph:
    """A graph that returns what its last line defines."""
    name, _, type = lines[-1].partition(" = ")[0], 0, lines[-1].rpartition(" : ")[2]
    body = "".join(f"  {line}\n" for line in lines)
    return parse_graph(f"graph @g({inputs}) -> (out: {type}) {{\n{body}  return {name}\n}}\n")


def apply(graph: Graph, *rules: Rule, budget: int = 100) -> PassContext:
    """Run the rules until none fits."""
    context = PassContext()
    Rewriter(RuleSet(rules), budget, context).run(graph)
    verify(graph)
    return context


def fits(pattern: OpPattern, graph: Graph) -> int:
    """The number of ways in which `pattern` fits at the operation before the return."""
    return sum(1 for _ in match(pattern, list(graph)[-2]))


def test_commutative_operations_match_in_both_orders() -> None:
    graph = graph_of(
        "%a: f32[2], %b: f32[2]", "%r = relu(%a) : f32[2]", "%s = add(%b, %r) : f32[2]"
    )
    assert fits(pat.add(pat.relu(x), y), graph) == 1
    assert fits(pat.add(x, y), graph) == 2
    assert fits(pat.sub(pat.relu(x), y), graph) == 0


def test_holes_with_one_name_are_one_value() -> None:
    graph = graph_of("%a: f32[2], %b: f32[2]", "%s = add(%a, %b) : f32[2]")
    assert fits(pat.add(x, x), graph) == 0
    graph = graph_of("%a: f32[2], %b: f32[2]", "%s = sub(%a, %a) : f32[2]")
    assert fits(pat.sub(x, x), graph) == 1


def test_constants_fill_constant_holes_only() -> None:
    graph = graph_of(
        "%a: f32[2]", "%k = const() {value = splat(1.0)} : f32[2]", "%s = sub(%a, %k) : f32[2]"
    )
    assert fits(pat.sub(x, c), graph) == 1
    assert fits(pat.sub(c, x), graph) == 0


def test_optional_operands_may_be_absent() -> None:
    inputs = "%x: f32[2,3], %w: f32[3,2], %b: f32[2]"
    with_bias = graph_of(inputs, "%y = gemm(%x, %w, bias=%b) : f32[2,2]")
    without = graph_of(inputs, "%y = gemm(%x, %w) : f32[2,2]")
    pattern = pat.gemm(x, y, bias=b.optional())
    assert [fits(pattern, graph) for graph in (with_bias, without)] == [1, 1]
    assert [m.get(b) is None for m in match(pattern, list(without)[-2])] == [True]
    assert [fits(pat.gemm(x, y), graph) for graph in (with_bias, without)] == [0, 1]
    assert [fits(pat.gemm(x, y, bias=b), graph) for graph in (with_bias, without)] == [1, 0]
    assert [fits(pat.gemm(...), graph) for graph in (with_bias, without)] == [1, 1]


def test_attributes_and_alternatives_decide() -> None:
    graph = graph_of("%x: f32[2,3]", "%y = softmax(%x) {axis = 0} : f32[2,3]")
    assert fits(pat.softmax(x, axis=0), graph) == 1
    assert fits(pat.softmax(x, axis=1), graph) == 0
    assert fits(pat.any_of("log_softmax", "softmax")(x), graph) == 1


def test_pattern_says_which_result() -> None:
    graph = graph_of(
        "%x: f32[4]",
        "%a, %b = split(%x) {num_outputs = 2} : f32[2], f32[2]",
        "%y = relu(%b) : f32[2]",
    )
    assert fits(pat.relu(pat.split(...)), graph) == 0
    assert fits(pat.relu(pat.split(...).result(1)), graph) == 1


def test_inner_result_read_elsewhere_does_not_match_unless_shared() -> None:
    graph = graph_of(
        "%x: f32[2]",
        "%r = relu(%x) : f32[2]",
        "%e = exp(%r) : f32[2]",
        "%n = neg(%r) : f32[2]",
        "%s = add(%e, %n) : f32[2]",
    )
    negation = list(graph)[2]
    assert not list(match(pat.neg(pat.relu(x)), negation))
    assert len(list(match(pat.neg(pat.relu(x).shared()), negation))) == 1
    assert fits(pat.add(pat.exp(pat.relu(x)), pat.neg(pat.relu(x))), graph) == 1


def test_pattern_asks_for_one_of_several_feeders_at_any_depth() -> None:
    graph = graph_of(
        "%x: f32[2]", "%e = exp(%x) : f32[2]", "%s = add(%x, %e) : f32[2]", "%n = neg(%s) : f32[2]"
    )
    sums = [pat.add(...).fed_by(*names) for names in (("exp",), ("relu", "exp"), ("relu",))]
    assert [fits(pat.neg(each), graph) for each in sums] == [1, 1, 0]
    assert [len(list(match(each, list(graph)[1]))) for each in sums] == [1, 1, 0]


def test_rules_tried_on_one_operation_ask_about_it_once() -> None:
    asked: list[str] = []

    def ask(op: Op) -> int:
        asked.append(op.name)
        return len(op.operands)

    def made(name: str, operands: int) -> Rule:
        @rule(pat.any_of("relu", "exp")(...))
        def make(m: Match, build: Builder) -> Value:
            """A rule."""
            m.fits(m.once(ask) == operands)
            return build.abs(m.root.operands[0])

        return Rule(name, make.pattern, make.body, make.doc)

    graph = graph_of("%x: f32[2]", "%r = relu(%x) : f32[2]", "%e = exp(%r) : f32[2]")
    rules = RuleSet([made("first", 2), made("second", 3)])
    Rewriter(rules, 10, PassContext()).run(graph)
    assert asked == ["relu", "exp"]


def test_one_pattern_in_two_places_is_one_operation() -> None:
    inner = pat.relu(x)
    two = graph_of(
        "%x: f32[2]",
        "%a = relu(%x) : f32[2]",
        "%b = relu(%x) : f32[2]",
        "%s = sub(%a, %b) : f32[2]",
    )
    one = graph_of("%x: f32[2]", "%a = relu(%x) : f32[2]", "%s = sub(%a, %a) : f32[2]")
    assert [fits(pat.sub(inner, inner), graph) for graph in (two, one)] == [0, 1]


def test_unknown_operation_in_a_pattern_is_a_bug() -> None:
    with pytest.raises(LeptonBug, match="no operation is called reluu"):
        pat.reluu(x)


@rule(pat.add(x, y))
def add_to_mul(m: Match, build: Builder) -> Value:
    """Loops with the next one."""
    return build.mul(m[x], m[y])


@rule(pat.mul(x, y))
def mul_to_add(m: Match, build: Builder) -> Value:
    """Loops with the one before."""
    return build.add(m[x], m[y])


def test_rules_that_loop_are_named() -> None:
    graph = graph_of("%a: f32[2], %b: f32[2]", "%s = add(%a, %b) : f32[2]")
    with pytest.raises(LeptonError) as caught:
        apply(graph, add_to_mul, mul_to_add, budget=100)
    assert caught.value.code == "E301"
    assert caught.value.message == "rewriting did not settle within 100 rewrites"
    assert caught.value.notes == ["add-to-mul applied 51 times", "mul-to-add applied 50 times"]


@rule(pat.relu(x))
def relu_to_sum(m: Match, build: Builder) -> Value:
    """Gives another type."""
    return build.reduce_sum(m[x])


def test_rule_that_changes_the_type_is_a_bug() -> None:
    with pytest.raises(LeptonBug, match=r"relu-to-sum replaces a f32\[2\] by a f32\[1\]") as caught:
        apply(graph_of("%a: f32[2]", "%s = relu(%a) : f32[2]"), relu_to_sum)
    assert caught.value.code == "E302"


@rule(pat.relu(x))
def build_then_require(m: Match, build: Builder) -> Value:
    """Leaves half of its work behind."""
    value = build.neg(m[x])
    m.require(False, "too late")
    return value


def test_rule_that_builds_before_it_requires_is_a_bug() -> None:
    with pytest.raises(LeptonBug, match="build-then-require builds before it requires"):
        apply(graph_of("%a: f32[2]", "%s = relu(%a) : f32[2]"), build_then_require)


def test_rule_without_a_docstring_is_a_bug() -> None:
    def nameless(m: Match, build: Builder) -> Value:
        return m[x]

    with pytest.raises(LeptonBug, match="rule nameless needs a docstring"):
        rule(pat.relu(x))(nameless)


@rule(pat.non_zero(x))
def known_non_zero(m: Match, build: Builder) -> Value:
    """Claims to know how many there are."""
    from leptonc.ir.types import DType

    source = build.cast(m[x], to=DType.I64)
    return build.unsqueeze(source, build.const(_zeros()))


def _zeros():
    import numpy as np

    return np.zeros(1, np.int64)


def test_better_known_extents_flow_on() -> None:
    graph = graph_of(
        "%x: f32[4]",
        "%i = non_zero(%x) : i64[1,u1_]",
        "%j = neg(%i) : i64[1,u1_]",
        "%t = transpose(%j) : i64[u1_,1]",
    )
    apply(graph, known_non_zero)
    assert "u1_" not in print_graph(graph)
    assert "transpose(%j) : i64[4,1]" in print_graph(graph)


def test_rewriting_a_long_chain_takes_no_recursion() -> None:
    lines = ["%v0 = neg(%x) : f32[2]"]
    lines += [f"%v{i} = neg(%v{i - 1}) : f32[2]" for i in range(1, 5000)]
    graph = graph_of("%x: f32[2]", *lines)
    context = apply(graph, negate_twice, budget=10_000)
    assert len(graph) == 1
    assert context.counts == {"negate-twice": 2500}


@rule(pat.neg(pat.neg(x)))
def negate_twice(m: Match, build: Builder) -> Value:
    """Undoes."""
    return m[x]


@dataclass(frozen=True)
class Plugged(RewritePass):
    """A pass of another package."""

    name: ClassVar[str] = "plugged"
    numbers: ClassVar[Contract] = EXACT
    rules: ClassVar[tuple[Rule, ...]] = (negate_twice,)


def point(name: str, value: str = f"{__name__}:Plugged") -> EntryPoint:
    return EntryPoint(name, value, "leptonc.passes")


def test_entry_points_add_passes() -> None:
    registry = Registry([point("plugged")])
    assert registry["plugged"].name == "plugged"
    assert set(registry) == {*BUILTIN, "plugged"}
    assert len(registry) == len(BUILTIN) + 1


@pytest.mark.parametrize("names", [["simplify"], ["plugged", "plugged"]])
def test_names_that_clash_are_refused(names: list[str]) -> None:
    with pytest.raises(LeptonError, match=f"two passes are called '{names[0]}'") as caught:
        Registry([point(name) for name in names])
    assert caught.value.code == "E405"


def test_entry_point_that_is_no_pass_is_refused() -> None:
    registry = Registry([point("other")])
    with pytest.raises(LeptonError, match="is no pass called 'other'") as caught:
        _ = registry["other"]
    assert caught.value.code == "E405"
