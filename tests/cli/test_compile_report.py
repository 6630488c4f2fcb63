"""leptonc compile: what it tells of the passes, and how they are chosen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from leptonc.ir.graph import Graph
from leptonc.ir.text import parse_graph
from leptonc.onnx_export import save_model
from tests.cli.test_cli import run
from tests.cli.test_optimize import parsed, save


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(parsed(), tmp_path / "net.onnx")


def report(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    assert run("compile", *arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_the_report_tells_of_every_pass(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = report(capsys, model)
    applied = {row["rule"]: row for row in document["explain"]["applied"]}
    assert applied["drop-identity"]["nodes"] == ["same"]
    assert document["rules"]["drop-identity"] == 1
    assert document["unused_inputs"] == ["idle"]
    steps = [row["pass"] for row in document["passes"]]
    assert steps[:2] == ["eliminate-dead-code", "simplify"]
    assert any(step.startswith("group-operations") for step in steps)
    assert document["passes"][1]["nodes"] == {"before": 10, "after": 9}


def test_tables_tell_people_the_same(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compile", model, "--explain", "--timing") == 0
    text = capsys.readouterr().out
    for word in ("drop-identity", "'same'", "FLOPs", "group-operations", "planned memory"):
        assert word in text
    assert "nothing reads the inputs 'idle'" in text


def test_rules_and_passes_are_left_out(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What forms kernels runs in any case, whatever is disabled or the only one wanted."""
    assert "gelu-spelled-out" in report(capsys, model)["rules"]
    without = report(capsys, model, "--disable", "gelu-spelled-out,fold-constants")
    assert "gelu-spelled-out" not in without["rules"]
    only = report(capsys, model, "--only", "simplify")
    steps = [row["pass"] for row in only["passes"]]
    assert steps.count("simplify") >= 1
    assert "recognize-activations" not in steps
    assert steps[-1].startswith("group-operations")
    direct = report(capsys, model, "--disable", "choose-winograd,narrow-integers")
    names = {row["pass"].split("{")[0] for row in direct["passes"]}
    assert "block-channels" in names
    assert not names & {"choose-winograd", "narrow-integers"}
    assert run("compile", model, "--disable", "group-operations") == 1
    assert "cannot be left out" in capsys.readouterr().err
    assert run("compile", model, "--disable", "gelu-speled-out") == 1
    assert "did you mean gelu-spelled-out" in capsys.readouterr().err


def test_changes_are_printed(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compile", model, "--print-after-change", "--only", "simplify") == 0
    assert "-  %s = identity(%q) : f32[batch,4]" in capsys.readouterr().err


def _spoil(self: object, graph: Graph, context: object) -> None:
    """Compute the first output's negative."""
    from leptonc.ir.build import Builder

    last = graph.terminator
    last.set_operands([Builder(graph, before=last).neg(last.operands[0]), *last.operands[1:]])


def test_numbers_are_verified(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("compile", model, "--verify-numbers") == 0
    monkeypatch.setattr("leptonc.passes.cleanup.simplify.Simplify.run", _spoil)
    assert run("compile", model, "--verify-numbers") == 70


def test_planned_memory_is_told_for_each_product_of_extents(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chain = [f"%v{at + 1} = softmax(%v{at}) : f32[n,512]" for at in range(3)]
    text = "graph @m(%v0: f32[n,512]) -> (y: f32[n,512]) {" + "\n".join(chain) + " return %v3 }"
    model = tmp_path / "open.onnx"
    save_model(parse_graph(text), model)
    assert report(capsys, model)["bytes"]["planned_for_each"] == {"n": 6144}
    assert run("compile", model) == 0
    assert "0 B + 6.1 KB * n" in capsys.readouterr().out
    assert run("inspect", model.with_suffix(".lepton")) == 0
    assert "bytes for each n" in capsys.readouterr().out
