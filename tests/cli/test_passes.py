"""leptonc passes: the list, and the page of a pass and of a rule."""

from __future__ import annotations

import json
from typing import Any

import pytest

from leptonc.ir.text import parse_graph, print_graph
from leptonc.passes.base import parse_pipeline
from leptonc.passes.manager import PassManager
from leptonc.passes.registry import BUILTIN, Registry
from tests.cli.test_cli import run


def pages(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert run("passes", *arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_every_pass_is_listed_with_what_is_to_be_known(capsys: pytest.CaptureFixture[str]) -> None:
    listed = {page["name"]: page for page in pages(capsys)}
    assert set(BUILTIN) <= set(listed)
    for page in listed.values():
        assert page["summary"]
        assert page["meaning"]
        assert all(page["rules"].values())
    assert listed["fold-constants"]["numbers"] == "EXACT"
    assert listed["fold-constants"]["levels"] == [0, 1, 2, 3]
    assert listed["fold-constants"]["options"]["megabytes"]["default"] == 64
    assert listed["fold-batch-norm"]["levels"] == [1, 2, 3]
    assert listed["block-channels"]["levels"] == []
    assert run("passes") == 0
    text = capsys.readouterr().out
    assert all(name in text for name in BUILTIN)


def test_the_example_of_a_pass_is_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    (page,) = pages(capsys, "fold-pad")
    graph = parse_graph(page["example"]["before"], "example")
    PassManager(parse_pipeline("fold-pad", Registry())).run(graph)
    assert print_graph(graph) == page["example"]["after"]
    assert run("passes", "fold-pad") == 0
    text = capsys.readouterr().out
    for part in (
        "fold-pad",
        "numbers: ",
        "runs at: -O1",
        "options:",
        "rules:",
        "before:",
        "after:",
    ):
        assert part in text
    assert page["text"].splitlines()[0] in text


def test_a_rule_has_a_page_too(capsys: pytest.CaptureFixture[str]) -> None:
    (page,) = pages(capsys, "drop-identity")
    assert page["pass"] == "simplify"
    assert "identity(" in page["example"]["before"]
    assert "identity(" not in page["example"]["after"]
    assert run("passes", "drop-identity") == 0
    assert "drop-identity, a rule of simplify" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "right"), [("fold-constant", "fold-constants"), ("drop-identiy", "drop-identity")]
)
def test_misspelt_names_get_a_suggestion(
    wrong: str, right: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("passes", wrong) == 1
    said = capsys.readouterr().err
    assert "error[E402]" in said
    assert f"did you mean {right}" in said
