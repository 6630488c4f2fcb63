"""What passed of onnx's conformance suites keeps passing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from leptonc.tools.conformance import KNOWN, read_known
from leptonc.tools.conformance_cases import SUITES, load_suite

ROOT = Path(__file__).parents[1]
LIMITS = ROOT / "tests/data/conformance_limits.json"
"""What does not pass when compiled: lists of tests, each with the reason they share."""
AT_LEAST = {"compiled": 1851, "interpreter": 1850}


@pytest.mark.parametrize(
    ("column", "part"),
    [("interpreter", "1 1"), *(("compiled", f"{part} 6") for part in range(1, 7))],
)
def test_no_test_falls_that_is_known_to_pass(
    column: str, part: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    options = [f"--{column}-only", "--known-only", "--report", str(tmp_path / "failures.json")]
    options += ["--part", *part.split()]
    # the parts, in whatever process they run, share the kernels they have in common
    options += ["--kernels", str(tmp_path_factory.getbasetemp().parent / "kernels")]
    done = subprocess.run(
        [sys.executable, "-m", "leptonc.tools.conformance", "--jobs", "1", *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "compiler")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("column", AT_LEAST)
def test_the_list_of_passing_tests_is_long(column: str) -> None:
    assert len(read_known(ROOT / KNOWN)[column]["node"]) >= AT_LEAST[column]


@pytest.mark.parametrize("suite", SUITES)
def test_what_does_not_pass_has_a_reason(suite: str, tmp_path: Path) -> None:
    """Each test is known to pass, or stands with a reason; none is on both lists or twice."""
    known = read_known(ROOT / KNOWN)["compiled"][suite]
    limits = json.loads(LIMITS.read_text(encoding="utf-8"))
    limited = [name for limit in limits for name in limit["tests"].get(suite, ())]
    every = [case.name for case in load_suite(suite, tmp_path)]
    assert sorted([*known, *limited]) == sorted(every)
    assert all(len(limit["reason"]) > 20 for limit in limits)
