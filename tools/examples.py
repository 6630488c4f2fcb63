"""Collects what each pass and each rule does to the graphs of its tests: the manual's examples."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.text import parse_graph, print_graph
from leptonc.passes.base import Pass, parse_pipeline
from leptonc.passes.context import PassContext
from leptonc.passes.registry import Registry

RUN = "// RUN: leptonc-opt "
LONGEST = 40
"""Lines of a graph that can be taken in at a glance."""


def examples_of(folder: Path) -> dict[str, Any]:
    """By pass: one example of it, and one of each rule, the first in which it acts alone."""
    found: dict[str, Any] = {}
    partly: dict[tuple[str, str], dict[str, str]] = {}
    for step, before in _graphs(folder):
        shown = _applied(step, before)
        if shown is None:
            continue
        rules, example = shown
        entry = found.setdefault(step.name, {"example": example, "rules": {}})
        for rule in rules if rules != {step.name} else ():
            if len(rules) == 1:
                entry["rules"].setdefault(rule, example)
            else:
                partly.setdefault((step.name, rule), example)
    for (name, rule), example in partly.items():
        found[name]["rules"].setdefault(rule, example)
    return found


def _graphs(folder: Path) -> Iterator[tuple[Pass, str]]:
    """Each graph of the tests, with the pass that the test is of: the first of those it runs."""
    registry = Registry([])
    for path in sorted(folder.rglob("*.lir")):
        text = path.read_text(encoding="utf-8")
        for pipeline in dict.fromkeys(_pipelines(text)):
            for step in parse_pipeline(pipeline, registry)[:1]:
                yield from ((step, part) for part in text.split("// -----\n"))


def _pipelines(text: str) -> Iterator[str]:
    """What the tests of one file run."""
    for line in text.splitlines():
        if line.startswith(RUN):
            words = shlex.split(line.removeprefix(RUN))
            yield from (after for word, after in pairwise(words) if word in ("-p", "--passes"))


def _applied(step: Pass, text: str) -> tuple[set[str], dict[str, str]] | None:
    """The rules that a pass applies to a graph, and the graph before and after."""
    context = PassContext(step=step.name)
    try:
        graph = parse_graph(text, "example")
        before = print_graph(graph)
        step.run(graph, context)
    except LeptonError:
        return None
    after = print_graph(graph)
    if after == before or before.count("\n") > LONGEST:
        return None
    return {item.rule for item in context.applied}, {"before": before, "after": after}


def examples_text(folder: Path) -> str:
    """The file of examples."""
    return json.dumps(examples_of(folder), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
