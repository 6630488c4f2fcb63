"""What is to be known of each pass, from its declaration and from an example of what it does."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from leptonc.passes.base import Pass, parse_pipeline
from leptonc.passes.registry import Registry
from leptonc.pipelines import GROUP, OPTIMIZE, RESOLVE, WRITE

MEANING = {
    "EXACT": "not a bit of any output changes, except the payloads of NaNs",
    "REASSOCIATES": "sums and products may be taken in another order, so roundings differ",
}
"""What numeric contracts say, by the word they begin with."""

EXAMPLES = "examples.json"
"""Beside the passes: what each pass and each rule does to a graph of the tests."""

Example = Mapping[str, str]
"""The text of a graph `before` and `after`."""


def page_of(kind: type[Pass], examples: Mapping[str, Any]) -> dict[str, Any]:
    """Everything about one pass; its summary is the first line of its text."""
    text = inspect.getdoc(kind) or ""
    known = examples.get(kind.name, {})
    return {
        "name": kind.name,
        "numbers": str(kind.numbers),
        "meaning": meaning_of(str(kind.numbers)),
        "summary": text.partition("\n")[0],
        "text": text,
        "levels": levels_of(kind.name),
        "options": {
            field.name.replace("_", "-"): {
                "default": field.default,
                "help": field.metadata.get("help", ""),
            }
            for field in dataclasses.fields(kind)
        },
        "rules": {rule.name: inspect.cleandoc(rule.doc) for rule in getattr(kind, "rules", ())},
        "example": known.get("example"),
        "rule_examples": known.get("rules", {}),
    }


def meaning_of(contract: str) -> str:
    """A numeric contract in words."""
    for word, meaning in MEANING.items():
        if contract.startswith(word):
            return meaning
    return "outputs may differ by as much as it says, relative to each and to the largest"


def levels_of(name: str) -> list[int]:
    """The optimisation levels at which a pass runs on any target, or before a model is written."""
    registry = Registry()
    texts = {
        level: ",".join(filter(None, (text, WRITE[level], RESOLVE, GROUP[level])))
        for level, text in OPTIMIZE.items()
    }
    return [
        level
        for level, text in texts.items()
        if any(step.name == name for step in parse_pipeline(text, registry))
    ]


def read_examples() -> dict[str, Any]:
    """The examples that come with the passes, by pass."""
    file = resources.files("leptonc.passes").joinpath(EXAMPLES)
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
