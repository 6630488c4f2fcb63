"""The measuring tools measure what they say."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.table import render
from leptonc.ir.diagnostics import LeptonBug, LeptonError
from leptonc.tools.bench import deviation, take_turns
from leptonc.tools.bench_peers import Peer
from leptonc.tools.bench_process import measure

HOLD = "x = bytearray(b'1') * {size}; import time; time.sleep(0.3)"


def test_contenders_take_turns_and_lose_no_call() -> None:
    order: list[str] = []
    times = take_turns(
        {"a": lambda _: order.append("a"), "b": lambda _: order.append("b")}, {}, 0.02
    )
    measured = order[6:]
    assert len(times["a"]) == len(times["b"]) == measured.count("a") == measured.count("b")
    turns = "".join(measured).replace("a" * 200, "A").replace("b" * 200, "B")
    assert set(turns.replace("AB", "")) == set()


def test_deviation_is_in_spreads_of_the_expected_output() -> None:
    expected = {"x": np.array([3.0, -3.0], np.float32), "y": np.zeros(0, np.float32)}
    outputs = {"x": np.array([3.0, -3.3], np.float32), "y": np.zeros(0, np.float32)}
    assert deviation(outputs, expected) == pytest.approx(0.1, rel=1e-5)


def test_a_missing_peer_is_named_with_the_way_to_install_it() -> None:
    with pytest.raises(LeptonError) as raised:
        Peer("no-such-runtime", lambda _: lambda feeds: feeds).version()
    assert raised.value.code == "E809"
    assert "pip install no-such-runtime" in str(raised.value)


def test_the_memory_of_children_counts() -> None:
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOLD!r}])"
    cost = measure([sys.executable, "-c", child.format(size=100_000_000)], {})
    assert 100e6 < cost.peak_bytes < 160e6
    assert cost.seconds > 0.3


def test_a_measured_command_that_fails_is_reported_with_its_words() -> None:
    with pytest.raises(LeptonBug, match="no such thing"):
        measure([sys.executable, "-c", "raise SystemExit('no such thing')"], {})


def report(date: str, commit: str, *models: str) -> dict[str, Any]:
    row = {"version": "1", "minimum": 0.002, "median": 0.003, "calls": 9, "deviation": 1e-6}
    result = {
        "artefact_bytes": 5e6,
        "compile_seconds": 9.0,
        "cached_compile_seconds": 1.0,
        "compile_peak_bytes": 8e8,
        "start_to_first_result_seconds": 0.2,
        "rows": [{"name": "leptonc", **row}, {"name": "ort", **row, "minimum": 0.004}],
    }
    results = [{"model": model, **result} for model in models]
    where = {"cpu": "Chip", "python": "3", "numpy": "2"}
    return {"date": date, "commit": commit, **where, "results": results}


def test_the_table_shows_each_model_once_with_its_newest_result(tmp_path: Path) -> None:
    for date, commit, *models in (("2030-01-01", "old", "m", "n"), ("2030-02-01", "new", "m")):
        (tmp_path / f"{date}.json").write_text(json.dumps(report(date, commit, *models)))
    text = render(tmp_path)
    assert text.index("commit new") < text.index("| m |") < text.index("commit old")
    assert text.count("| m |") == 1
    assert text.index("commit old") < text.index("| n |")
    assert "| 2 (3) | 4 (3) | 0.50x | 1.0e-06 | 9.0 | 1.0 | 800 | 0.20 | 5.0 |" in text


def test_the_table_in_the_repository_is_the_one_its_results_make() -> None:
    root = Path(__file__).parents[2]
    if (root / "BENCHMARKS.md").exists():
        text = (root / "BENCHMARKS.md").read_text(encoding="utf-8")
        assert text == render(root / "benchmarks" / "results")
