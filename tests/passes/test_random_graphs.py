"""Any order of passes keeps the numbers of random graphs, and each pass is done after one run."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leptonc.ir.graph import Graph
from leptonc.ir.text import parse_graph, print_graph
from leptonc.ir.verify import verify
from leptonc.passes.base import parse_pipeline
from leptonc.passes.check_numbers import CheckNumbers
from leptonc.passes.clone import clone_graph
from leptonc.passes.manager import PassManager
from leptonc.passes.observers import VerifyEach
from leptonc.passes.registry import BUILTIN, Registry
from leptonc.pipelines import GROUP, OPTIMIZE, RESOLVE, WRITE
from tests.passes.random_graphs import graphs

REGISTRY = Registry([])
OURS = sorted(name for name in BUILTIN if "layout" not in BUILTIN[name])
EXACT_ONES = [
    *(name for name in OURS if REGISTRY[name].numbers.exact),
    "tabulate-bytes{effort=1 elements=0}",  # else it looks at large tensors only
]

often = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def check(graph: Graph, pipeline: str) -> None:
    """Run `pipeline` under all checks, then its last pass again, which has nothing left to do."""
    observers = [VerifyEach(), CheckNumbers.on_random_inputs(graph)]
    passes = parse_pipeline(pipeline, REGISTRY)
    PassManager(passes, observers).run(graph)
    version = graph.version
    PassManager(passes[-1:], observers).run(graph)
    assert graph.version == version, f"{passes[-1]} is not idempotent:\n{print_graph(graph)}"


@often
@given(graphs(), st.lists(st.sampled_from(EXACT_ONES), min_size=1, max_size=4))
def test_exact_passes_keep_every_bit(graph: Graph, names: list[str]) -> None:
    check(graph, ",".join(names))


@often
@given(graphs(smooth=True), st.lists(st.sampled_from(OURS), min_size=1, max_size=5))
def test_any_order_of_passes_keeps_the_numbers(graph: Graph, names: list[str]) -> None:
    check(graph, ",".join(names))


@pytest.mark.parametrize("level", sorted(OPTIMIZE))
@settings(often, max_examples=25)
@given(graph=graphs(smooth=True))
def test_levels_keep_the_numbers(level: int, graph: Graph) -> None:
    check(graph, f"{OPTIMIZE[level]},{RESOLVE},{GROUP[level]}")


@settings(often, max_examples=25)
@given(graphs(smooth=True))
def test_what_is_written_keeps_the_numbers(graph: Graph) -> None:
    check(graph, f"{OPTIMIZE[2]},{WRITE[2]}")


@settings(often, max_examples=30)
@given(graphs())
def test_text_and_clones_are_equal(graph: Graph) -> None:
    text = print_graph(graph)
    again = parse_graph(text)
    verify(again)
    assert print_graph(again) == text
    copy = clone_graph(graph)
    verify(copy)
    assert print_graph(copy) == text
