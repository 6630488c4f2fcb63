"""What the textual tests show keeps the numbers, by the contract of each pass."""

from __future__ import annotations

import pytest

from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.graph import Graph
from leptonc.passes.base import parse_pipeline
from leptonc.passes.check_numbers import CheckNumbers
from leptonc.passes.manager import PassManager
from leptonc.passes.observers import VerifyEach
from leptonc.passes.registry import Registry
from tests.passes.cases import textual_cases

CASES = [
    pytest.param(pipeline, graph, id=f"{pipeline}-{graph.name}")
    for _, pipeline, graph in textual_cases()
]


@pytest.mark.parametrize(("pipeline", "graph"), CASES)
def test_numbers_are_kept(pipeline: str, graph: Graph) -> None:
    checks = CheckNumbers.on_random_inputs(graph, singly=12)
    try:
        checks.before(parse_pipeline(pipeline, Registry([]))[0], graph)
    except (LookupError, ValueError, LeptonError):
        pytest.skip("random inputs do not fit it")
    passes = parse_pipeline(pipeline, Registry([]))
    PassManager(passes, [VerifyEach(), checks]).run(graph)
    version = graph.version
    PassManager(passes).run(graph)
    assert graph.version == version, "the pass is not idempotent"
