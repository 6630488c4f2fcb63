"""The smallest graphs on which each rule of each pass fires, taken from the textual tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from leptonc.ir.diagnostics import DiagnosticError
from leptonc.ir.graph import Graph
from leptonc.ir.interpret import interpret
from leptonc.ir.text import print_graph
from leptonc.ir.verify import verify
from leptonc.passes.base import Pass, RewritePass, parse_pipeline
from leptonc.passes.check_numbers import random_feeds
from leptonc.passes.clone import clone_graph
from leptonc.passes.context import PassContext
from leptonc.passes.registry import BUILTIN, Registry
from leptonc.tools.reduce import reduce_graph
from tests.passes.cases import textual_cases

REGISTRY = Registry([])
REJECTED = (DiagnosticError, ArithmeticError, LookupError, TypeError, ValueError)
"""What the interpreter raises where inputs do not fit a graph."""
KEPT = 3
"""How many graphs are kept for each rule."""


@dataclass(frozen=True, eq=False)
class Specimen:
    """A graph on which a pass applies a rule."""

    step: Pass
    rule: str
    source: Graph

    @cached_property
    def graph(self) -> Graph:
        """What is left when everything is cut off that the rule does not need."""
        runs = is_computable(self.source)

        def shows(graph: Graph) -> bool:
            return fires(self.step, self.rule, graph) and (not runs or is_computable(graph))

        return reduce_graph(self.source, shows)

    def __str__(self) -> str:
        return f"{self.step.name}: {self.rule}"


def is_computable(graph: Graph) -> bool:
    """True where random inputs fit the graph."""
    try:
        verify(graph)
        interpret(graph, random_feeds(graph))
    except REJECTED:
        return False
    return True


def applied(step: Pass, graph: Graph) -> Sequence[str]:
    """The rules that `step` applies to `graph`, which it changes."""
    context = PassContext(step=step.name)
    step.run(graph, context)
    return [each.rule for each in context.applied]


def fires(step: Pass, rule: str, graph: Graph) -> bool:
    """True where `step` applies `rule` to `graph`, which stays as it is."""
    try:
        verify(graph)
    except DiagnosticError:
        return False
    return rule in applied(step, clone_graph(graph))


def declared_rules() -> Iterator[tuple[str, str]]:
    """Pass and rule of each rule; for passes without any, the pass twice."""
    for name in sorted(BUILTIN):
        kind = REGISTRY[name]
        rules = [each.name for each in kind.rules] if issubclass(kind, RewritePass) else [name]
        yield from ((name, rule) for rule in rules)


@cache
def specimens() -> dict[tuple[str, str], list[Specimen]]:
    """By pass and rule: some graphs on which it fires, the smallest first."""
    found: dict[tuple[str, str], dict[str, Specimen]] = {}
    for _, pipeline, graph in textual_cases():
        for step in parse_pipeline(pipeline, REGISTRY):
            before = clone_graph(graph)
            for rule in dict.fromkeys(applied(step, graph)):
                each = Specimen(step, rule, before)
                found.setdefault((step.name, rule), {})[print_graph(before)] = each
    return {key: _smallest(found[key]) for key in sorted(found)}


def _smallest(found: dict[str, Specimen]) -> list[Specimen]:
    order = sorted(found, key=lambda text: (len(list(found[text].source.walk())), len(text), text))
    return [found[text] for text in order[:KEPT]]
