"""The measuring tools measure what they say."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import onnx.parser
import pytest

from benchmarks.kept import ROOT, before, keep, read
from benchmarks.models import Case, cases, in_bf16, more_quantised
from benchmarks.plot import draw
from benchmarks.run import FOLDER, PLOT, TABLE, Plan, is_done
from benchmarks.settings import Setting, feeds_of, settings
from benchmarks.table import render
from leptonc.ir.diagnostics import LeptonBug, LeptonError
from leptonc.manifest import TensorSpec
from leptonc.tools.bench import EXACT, compare, deviation, take_turns
from leptonc.tools.bench_peers import PEERS, Peer, peer_of
from leptonc.tools.bench_process import measure
from tests.models.inputs import Feeds

MODEL = """
<ir_version: 10, opset_import: ["" : 20]>
twice (float[n,3] x) => (float[n,3] y) { y = Add(x, x) }"""
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
        Peer("no-such-runtime", lambda model, threads, precision: lambda feeds: feeds).version()
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


ROW = {
    "version": "1", "minimum": 0.002, "median": 0.003, "calls": 9, "deviation": 1e-6, "problem": "",
}  # fmt: skip
REFUSAL = {
    "name": "openvino", "version": "2", "minimum": None, "median": None, "calls": 0,
    "deviation": None, "problem": "no such operator",
}  # fmt: skip


def result(model: str, commit: str) -> dict[str, Any]:
    start = {
        "seconds": {"numpy": 1.0, "import": 0.01, "load": 0.02, "first": 0.003},
        "peak_bytes": 7e6, "bare_bytes": 1e6,
    }  # fmt: skip
    rows = [{"name": "leptonc", **ROW}, {"name": "ort", **ROW, "minimum": 0.004}, REFUSAL]
    return {
        "model": model, "kind": "fp32", "artefact_bytes": 5e6, "compile_seconds": 9.0,
        "cached_compile_seconds": 1.0, "compile_peak_bytes": 8e8, "planned_bytes": 2e6,
        "is_open": True, "starts": {"leptonc": start, "openvino": {"problem": "none"}},
        "runs": [{"threads": 1, "batch": 8, "length": None, "rows": rows, "commit": commit}],
    }  # fmt: skip


def report(date: str, commit: str, *results: dict[str, Any]) -> dict[str, Any]:
    where = {"cpu": "Chip", "python": "3", "numpy": "2", "leptonc": "0"}
    versions = {"ort": "1", "openvino": "2"}
    return {"date": date, "commit": commit, **where, "versions": versions, "results": [*results]}


def test_the_table_shows_the_newest_results(tmp_path: Path) -> None:
    old, new = result("m", "old"), result("n", "new")
    (tmp_path / "1.json").write_text(json.dumps(report("2030-01-01", "old", old)))
    (tmp_path / "2.json").write_text(json.dumps(report("2030-02-01", "new", old, new)))
    text = render(tmp_path)
    assert "commit new" in text
    assert "| m, batch 8 (old) | fp32 | 2 (3) | 4 (3) | - | 0.50 | 1.0e-06 | 1.0e-06 | - |" in text
    assert "| n, batch 8 | fp32 |" in text
    assert "| n | 9.0 | 1.0 | 800 | 5.0 | 2.0 + open | 33 | - | - | 7 | - | - |" in text
    assert text.count("* openvino on n, batch 8: no such operator") == 1


def test_models_in_bf16_have_their_ratio_to_fp32(tmp_path: Path) -> None:
    lowered = result("m-bf16", "new")
    lowered["kind"] = "bf16"
    rows = lowered["runs"][0]["rows"]
    rows.append({**rows[0], "name": EXACT, "minimum": 2 * rows[0]["minimum"]})
    (tmp_path / "1.json").write_text(json.dumps(report("2030-01-01", "new", lowered)))
    text = render(tmp_path)
    assert "| m-bf16, batch 8 | bf16 | 2 (3) | 4 (3) | - | 0.50 | 0.50 | 1.0e-06 |" in text
    assert "| ratio | to fp32 | off, leptonc |" in text
    assert "| bf16 | 1 | batch 8 | 1 | 0.50 | 0.50 (m-bf16, batch 8) | 0 | 0.50 | 0.50 (m-" in text


def test_errors_are_told_beside_those_of_the_peer(tmp_path: Path) -> None:
    small, large = result("small", "new"), result("large", "new")
    for each, ours, theirs in ((small, 9e-7, 1e-9), (large, 6e-6, 3e-6)):
        each["runs"][0]["rows"][0]["deviation"] = ours
        each["runs"][0]["rows"][1]["deviation"] = theirs
    (tmp_path / "1.json").write_text(json.dumps(report("2030-01-01", "new", small, large)))
    assert "| 1.41 | 2.00 (large, batch 8) |" in render(tmp_path)


def test_what_is_measured_again_takes_the_place_of_what_was_known(tmp_path: Path) -> None:
    about = report("2030-01-01", "one")
    del about["results"]
    keep(tmp_path, about, [result("m", "one"), result("n", "one")])
    known = before(tmp_path, about["cpu"])
    known["m"] = result("m", "two")
    keep(tmp_path, {**about, "commit": "two", "time": "10:00:00"}, known.values())
    known = before(tmp_path, about["cpu"])
    assert [each["runs"][0]["commit"] for each in known.values()] == ["two", "one"]
    assert not before(tmp_path, "another processor")


def test_the_plot_is_sorted_and_well_formed() -> None:
    first, second, third = (result(name, "c") for name in ("slow", "fast", "large & wide"))
    for each, ratio in ((first, 0.008), (second, 0.001), (third, 0.003)):
        each["runs"][0]["batch"] = 1
        each["runs"][0]["rows"][0]["minimum"] = ratio
    text = draw(report("2030-01-01", "c", first, second, third))
    tree = ElementTree.fromstring(text)
    shown = [element.text for element in tree.iter("{http://www.w3.org/2000/svg}text")]
    names = [name for name in shown if name in ("fast", "large & wide", "slow")]
    assert names == ["fast", "large & wide", "slow"]
    assert "2.00" in shown


def test_the_table_and_the_plot_in_the_repository_are_those_its_results_make() -> None:
    text = TABLE.read_text(encoding="utf-8")
    assert text == render(FOLDER)
    known = read(FOLDER)
    assert known is not None
    assert PLOT.read_text(encoding="utf-8") == draw(known)


def spec(name: str, *shape: int | str) -> TensorSpec:
    return TensorSpec(name, "f32", shape)


def case(name: str, feeds: Feeds) -> Case:
    return Case(name, "fp32", lambda folder: folder, lambda: feeds, 1e-4)


def test_a_batch_repeats_every_input_where_its_symbol_is() -> None:
    feeds = {"x": np.arange(3.0).reshape(1, 3), "h": np.zeros((2, 1, 4)), "sr": np.array(1)}
    signature = [spec("x", "n", 3), spec("h", 2, "n", 4), spec("sr")]
    made = feeds_of(case("m", feeds), Setting(1, 8), signature)
    assert [made[name].shape for name in feeds] == [(8, 3), (2, 8, 4), ()]
    assert made["x"][:4].tolist() == [[0, 1, 2], [2, 0, 1], [1, 2, 0], [0, 1, 2]]


def test_of_extents_without_names_those_given_as_one_count_the_batch() -> None:
    feeds = {"x": np.zeros((1, 3)), "h": np.zeros((2, 1, 4))}
    signature = [spec("x", "x_0", "x_1"), spec("h", 2, "h_1", "h_2")]
    made = feeds_of(case("m", feeds), Setting(1, 8), signature)
    assert [made[name].shape for name in feeds] == [(8, 3), (2, 8, 4)]


def test_models_are_run_as_given_and_texts_in_all_lengths() -> None:
    image, text = [spec("x", "n", 3)], [spec("input_ids", "b", "s")]
    usual = list(settings(case("m", {}), image, (1, 2), every=False))
    assert usual == [Setting(1, 1), Setting(2, 1)]
    assert list(settings(case("m", {}), [spec("x", 1, 3)], (1,), every=True)) == [Setting(1)]
    lengths = list(settings(case("gpt2", {}), text, (1, 2), every=False))
    assert [each.length for each in lengths] == [1, 16, 128, 512, 128]
    every = list(settings(case("gpt2", {}), text, (2,), every=True))
    assert [each.length for each in every] == [1, 16, 128, 512]


def test_batches_are_run_of_models_that_have_one() -> None:
    image, text = [spec("x", "n", 3)], [spec("input_ids", "b", "s")]
    found = list(settings(case("m", {}), image, (1, 2), (1, 8), every=False))
    assert found == [Setting(1, 1), Setting(1, 8), Setting(2, 1), Setting(2, 8)]
    assert not list(settings(case("m", {}), [spec("x", 1, 3)], (1,), (8,), every=True))
    (words,) = settings(case("gpt2", {}), text, (2,), (8,), every=False)
    assert words == Setting(2, 8, 128)
    made = feeds_of(case("gpt2", {}), words, text)
    assert made["input_ids"].shape == (8, 128)


def test_a_model_is_done_where_a_commit_has_all_its_batches() -> None:
    plan = Plan((), (1,), (1, 8), 1.0, every=False)
    runs = [{"commit": "c", "batch": None}, {"commit": "c", "batch": 8}]
    whole = {"commit": "c", "complete": True, "runs": runs}
    assert is_done(whole, plan, "c")
    assert not is_done(whole, plan, "d")
    assert not is_done({**whole, "complete": False}, plan, "c")
    assert not is_done({**whole, "runs": runs[:1]}, plan, "c")
    assert not is_done({}, plan, "c")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A product in a file."""
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx.parser.parse_model(MODEL).SerializeToString())
    return path


class Doubled:
    """What would run as an artefact does."""

    def run(self, feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        """Twice the input."""
        return {"y": feeds["x"] * 2}


def test_a_peer_that_cannot_run_a_model_has_a_row_that_says_why(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, threads: int, precision: str) -> Any:
        raise ValueError(f"{threads} threads of {precision} are\n  too many")

    monkeypatch.setitem(PEERS, "other", Peer("numpy", refuse))
    feeds = {"x": np.ones((2, 3), np.float32)}
    ours, ort, other = compare(model, feeds, Doubled(), ["ort", "other"], 0.02, 2, precision="bf16")
    assert (ours.deviation, ort.deviation, ours.problem) == (0.0, 0.0, "")
    assert ours.calls > 0
    assert other.problem == "2 threads of bf16 are too many"
    assert other.minimum is None


def test_where_the_reference_does_not_run_there_is_no_deviation(model: Path) -> None:
    feeds = {"x": np.ones((2, 2), np.float32)}
    ours, ort = compare(model, feeds, Doubled(), ["ort"], 0.02)
    assert ours.deviation is None
    assert ours.calls > 0
    assert "dimension" in ort.problem


def test_quantised_models_and_those_in_bf16_are_measured_beside_the_same_in_fp32() -> None:
    others = [*more_quantised(), *in_bf16(), *cases()]
    with_floats = {case.kind for case in others if case.floats}
    without = {case.name for case in others if case.floats is None and case.kind == "int8"}
    assert with_floats == {"int8", "bf16"}
    assert without == {"minilm_int8"}, "there is only the quantised one"


def test_the_same_in_fp32_has_the_last_row(model: Path) -> None:
    feeds = {"x": np.ones((2, 3), np.float32)}
    names = [
        (row.name, row.deviation)
        for row in compare(model, feeds, Doubled(), ["ort"], 0.02, exact=Doubled())
    ]
    assert names == [("leptonc", 0.0), ("ort", 0.0), (EXACT, 0.0)]


def test_openvino_is_a_peer(model: Path) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    feeds = {"x": np.ones((2, 3), np.float32)}
    _, row = compare(model, feeds, Doubled(), ["openvino"], 0.02)
    assert row.problem == ""
    assert row.deviation == 0.0


def test_an_unknown_peer_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(LeptonError, match="no peer 'none'") as raised:
        peer_of("none")
    assert "ort" in str(raised.value)


def test_a_process_tells_how_a_runtime_starts(model: Path, tmp_path: Path) -> None:
    feeds = tmp_path / "feeds.npz"
    np.savez(feeds, allow_pickle=False, x=np.ones((2, 3), np.float32))
    command = [sys.executable, "-m", "leptonc.tools.bench_start", "ort", str(model), str(feeds)]
    told = json.loads(measure([*command, "1"], {"PYTHONPATH": str(ROOT / "compiler")}).printed)
    assert list(told["seconds"]) == ["numpy", "import", "load", "first"]
    assert told["peak_bytes"] > told["bare_bytes"] > 1e6
