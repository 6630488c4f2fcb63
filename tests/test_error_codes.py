"""The table of error codes, what raises them and what tests them agree."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from leptonc.ir.diagnostics import CODES

ROOT = Path(__file__).parents[1]
CODE = re.compile(r"\b[EW]\d{3}\b")
SOURCES = ("compiler/leptonc", "ir", "passes", "backends", "tools")


def codes_in_sources() -> set[str]:
    """Every code that stands as a string of its own in the sources, the table left out."""
    found: set[str] = set()
    for top in SOURCES:
        for path in (ROOT / top).rglob("*.py"):
            if path.name == "diagnostics.py":
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.update(CODE.findall(node.value) if len(node.value) == 4 else ())
    return found


def codes_in_tests() -> set[str]:
    """Every code that a test but this one mentions."""
    files = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "tests").rglob("*.lir")]
    texts = (path.read_text(encoding="utf-8") for path in files if path != Path(__file__))
    return {code for text in texts for code in CODE.findall(text)}


def test_every_code_that_is_raised_is_in_the_table() -> None:
    assert codes_in_sources() - set(CODES) == set()


@pytest.mark.parametrize("code", sorted(set(CODES) - {"E000"}))
def test_a_code_of_the_table_has_a_test(code: str) -> None:
    assert code in codes_in_tests(), f"no test sees {code}: {CODES[code]}"
