"""What the README names is there."""

from __future__ import annotations

import re
from pathlib import Path

from leptonc.cli.main import COMMANDS
from leptonc.tools.conformance import KNOWN, read_known
from leptonc.tools.conformance_cases import SUITES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_the_table_of_commands_is_complete() -> None:
    assert sorted(re.findall(r"^\| `leptonc (\w+)", README, re.MULTILINE)) == sorted(COMMANDS)


def test_every_make_target_named_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)", README + CONTRIBUTING))
    assert {"demo", "test", "lint", "conformance", "bench", "setup"} <= named
    assert named <= targets


def test_every_file_linked_exists() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README + CONTRIBUTING):
        assert (ROOT / target).exists(), target


def test_no_more_conformance_is_claimed_than_is_listed() -> None:
    known = read_known(ROOT / KNOWN)
    rows = re.findall(r"^\| ([a-z-]+) \| [\d,]+ \| ([\d,]+) \| ([\d,]+) \|$", README, re.MULTILINE)
    assert [suite for suite, *_ in rows] == list(SUITES)
    for suite, compiled, interpreted in rows:
        assert int(compiled.replace(",", "")) <= len(known["compiled"][suite])
        assert int(interpreted.replace(",", "")) <= len(known["interpreter"][suite])
