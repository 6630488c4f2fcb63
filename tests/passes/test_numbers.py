"""What the textual tests show keeps the numbers, by the contract of each pass."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from leptonc.ir.graph import Graph
from leptonc.ir.interpret import interpret
from leptonc.ir.text import parse_graph
from leptonc.passes.base import parse_pipeline
from leptonc.passes.check_numbers import CheckNumbers
from leptonc.passes.manager import PassManager
from leptonc.passes.observers import VerifyEach
from leptonc.passes.registry import Registry

FOLDER = Path(__file__).parent
RUN = "// RUN: leptonc-opt "


def cases() -> list[tuple[str, Graph]]:
    """Each graph of each textual test with the passes that run on it."""
    found: list[tuple[str, Graph]] = []
    folders = ("cleanup", "fusion", "precision")
    for file in sorted(file for name in folders for file in FOLDER.glob(f"{name}/*.lir")):
        text = file.read_text(encoding="utf-8")
        command = shlex.split(text.splitlines()[0].removeprefix(RUN).partition("|")[0])
        pipeline = command[command.index("-p") + 1]
        found += [(pipeline, parse_graph(part, file.name)) for part in text.split("// -----\n")]
    return found


@pytest.mark.parametrize(
    ("pipeline", "graph"), [pytest.param(p, g, id=f"{p}-{g.name}") for p, g in cases()]
)
def test_numbers_are_kept(pipeline: str, graph: Graph) -> None:
    checks = CheckNumbers.on_random_inputs(graph)
    try:
        for feeds in (*checks.feeds, *checks.exact_feeds):
            interpret(graph, feeds)
    except ValueError:
        pytest.skip("random inputs do not fit it")
    passes = parse_pipeline(pipeline, Registry([]))
    PassManager(passes, [VerifyEach(), checks]).run(graph)
    version = graph.version
    PassManager(passes).run(graph)
    assert graph.version == version, "the pass is not idempotent"
