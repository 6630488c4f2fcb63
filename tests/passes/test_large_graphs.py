"""Work and memory grow as the graph does; calls are counted, as seconds vary."""

from __future__ import annotations

import cProfile
import tracemalloc
from collections.abc import Callable

import onnx
import pytest

import leptonc
from leptonc.driver import run_passes
from leptonc.ir.location import MOST_NODES
from leptonc.onnx_import import import_model
from leptonc.pipelines import OPTIMIZE
from tests.passes.large_graphs import (
    concatenations,
    factors,
    large_model,
    near_misses,
    parts,
    readers,
)  # fmt: skip

SMALL, TIMES = 200, 6
ALLOWED = 1.15
"""How much more than in proportion work may grow; n log n would be 1.3, quadratic work 6."""


def calls(nodes: int, model: Callable[[int], onnx.ModelProto] = large_model) -> int:
    """How many functions are called to optimise a model of so many nodes."""
    graph = import_model(model(nodes), {})
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


@pytest.mark.parametrize("model", [near_misses, concatenations, factors, parts, readers])
def test_work_is_linear_where_rules_might_look_at_everything_each_time(
    model: Callable[[int], onnx.ModelProto],
) -> None:
    calls(25, model)
    small, large = calls(50, model), calls(50 * TIMES, model)
    assert large <= small * TIMES * ALLOWED


def test_location_of_a_chain_that_became_one_operation_has_a_limit() -> None:
    graph = import_model(factors(2 * MOST_NODES), {})
    run_passes(graph, OPTIMIZE[2])
    (product,) = (op for op in graph.walk() if op.name == "mul")
    assert len(product.location.nodes) == MOST_NODES


def test_every_block_is_recognised() -> None:
    graph = import_model(large_model(250), {})
    counts = run_passes(graph, OPTIMIZE[2]).counts
    assert counts["gelu-spelled-out"] == 10
    names = [op.name for op in graph.walk()]
    assert names.count("layer_normalization") == names.count("linear") == 10
    assert not {"erf", "reduce_mean", "transpose", "reshape", "gather"} & set(names)
