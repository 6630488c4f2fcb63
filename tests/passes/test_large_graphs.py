"""Work and memory grow as the graph does; calls are counted, as seconds vary."""

from __future__ import annotations

import cProfile
import tracemalloc
from collections.abc import Callable

import pytest

import leptonc
from leptonc.driver import run_passes
from leptonc.onnx_import import import_model
from leptonc.pipelines import OPTIMIZE
from tests.passes.large_graphs import large_model

SMALL, TIMES = 200, 6
ALLOWED = 1.15
"""How much more than in proportion work may grow; n log n would be 1.3, quadratic work 6."""


def calls(nodes: int) -> int:
    """How many functions are called to optimise a model of so many nodes."""
    graph = import_model(large_model(nodes), {})
    profile = cProfile.Profile()
    profile.runcall(run_passes, graph, OPTIMIZE[2])
    return sum(entry.callcount for entry in profile.getstats())


def memory(nodes: int) -> int:
    """The most bytes that optimising takes at once."""
    model = large_model(nodes)
    tracemalloc.start()
    try:
        leptonc.optimize(model)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("measure", [calls, memory])
def test_costs_are_linear_in_the_number_of_nodes(measure: Callable[[int], int]) -> None:
    measure(25)  # what is imported and cached on first use belongs to no graph
    small, large = measure(SMALL), measure(SMALL * TIMES)
    assert large <= small * TIMES * ALLOWED


def test_every_block_is_recognised() -> None:
    graph = import_model(large_model(250), {})
    counts = run_passes(graph, OPTIMIZE[2]).counts
    assert counts["gelu-spelled-out"] == 10
    names = [op.name for op in graph.walk()]
    assert names.count("layer_normalization") == names.count("linear") == 10
    assert not {"erf", "reduce_mean", "transpose", "reshape", "gather"} & set(names)
