"""Decisions on their way: measured inside a network, kept, carried by an artefact, taken over."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import leptonc
from leptonc.api import make_options
from leptonc.artifact import Artifact
from leptonc.assemble import save_artifact
from leptonc.backends.base import LibraryReport
from leptonc.backends.cpu.target import by_name
from leptonc.backends.tvm.worker import build_in_child
from leptonc.driver import compile_model
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.graph import Graph
from leptonc.ir.interpret import interpret
from leptonc.ir.text import parse_graph, print_graph
from leptonc.targets import Target, backend_of
from leptonc.tuning.child import write_inputs
from leptonc.tuning.database import Database, Record, TuningNotice
from leptonc.tuning.network import NetworkTrials, agreed, compared, run_child
from leptonc.tuning.options import tuning_options
from leptonc.tuning.search import Decisions, Search, TrialError
from tests.commands import run

TEXT = """graph @two(%x: f32[12,64]) -> (y: f32[12,40]) {
  %w = const() {value = random(1)} : f32[64,96]
  %v = const() {value = random(2)} : f32[96,40]
  %a = linear(%x, %w) : f32[12,96]
  %r = relu(%a) : f32[12,96]
  %y = linear(%r, %v) : f32[12,40]
  return %y
}"""
X = np.random.default_rng(0).standard_normal((12, 64)).astype(np.float32)


def decided(path: Path) -> dict[str, str]:
    """The decisions that an artefact carries."""
    with Artifact.open(path) as artifact:
        tuning = artifact.manifest.provenance.get("tuning", {})
    return dict(tuning.get("decisions", {}))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database by which every kernel of the graph is faster with one vector a panel."""
    folder = tmp_path_factory.mktemp("tuning") / "measured"
    backend = backend_of(Target(), 1)
    lists = _lists()
    assert len(lists) == 2
    database = Database.open(folder, backend.circumstances)
    for name in lists:
        database.put(Record(name, "vectors=1 rows=3", seconds=0.5, against=1.0))
    return folder


def _lists() -> list[str]:
    from leptonc.driver import Options, optimize_graph

    graph, backend = parse_graph(TEXT), backend_of(Target(), 1)
    optimize_graph(graph, Options(), backend)
    return list(backend.short_lists(graph, 4))


def compiled(output: Path, tuning: Path | None) -> leptonc.Session:
    """The session of the graph, by what was measured."""
    return leptonc.compile(
        parse_graph(TEXT), threads=1, isolated=False, cache=False, output=output, tuning=tuning
    )


def test_decisions_are_taken_over_from_a_folder_and_from_an_artefact(
    measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / name for name in ("plain.lepton", "folder.lepton", "artefact.lepton")]
    (expected,) = interpret(parse_graph(TEXT), {"x": X}).values()
    for path, tuning in zip(paths, (None, measured, paths[1]), strict=True):
        with compiled(path, tuning) as session:
            np.testing.assert_allclose(session.run({"x": X})["y"], expected, rtol=1e-4, atol=1e-5)
    assert decided(paths[0]) == {}
    assert set(decided(paths[1]).values()) == {"vectors=1 rows=3"}
    assert paths[1].read_bytes() == paths[2].read_bytes()
    with Artifact.open(paths[0]) as plain, Artifact.open(paths[1]) as tuned:
        shapes = [[each.shape for each in one.manifest.weights] for one in (plain, tuned)]
    assert shapes[0] != shapes[1]
    assert all(shape[-1] == by_name("native").lanes for shape in shapes[1])
    assert run("inspect", paths[1], "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["decisions"] == decided(paths[1])
    assert "tuning" not in shown["provenance"]


def test_decisions_of_another_machine_are_not_taken_over(measured: Path, tmp_path: Path) -> None:
    path = tmp_path / "tuned.lepton"
    compiled(path, measured).close()
    with (
        pytest.warns(TuningNotice, match="another machine or version"),
        leptonc.compile(
            parse_graph(TEXT), threads=2, isolated=False, cache=False, tuning=path
        ) as session,
    ):
        assert "tuning" not in session.manifest.provenance


def test_an_artefact_without_decisions_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "plain.lepton"
    compiled(path, None).close()
    with pytest.warns(TuningNotice, match="it is not tuned"):
        compiled(tmp_path / "again.lepton", path).close()


@pytest.mark.parametrize("seconds", [-1.0, float("inf"), float("nan")])
def test_times_that_make_no_sense_are_refused(seconds: float) -> None:
    with pytest.raises(LeptonError, match="seconds of tuning") as raised:
        tuning_options(seconds, None)
    assert raised.value.code == "E810"


def test_files_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "file.lepton"
    file.write_text("")
    with pytest.raises(LeptonError, match="which is a file"):
        tuning_options(1.0, file)
    with pytest.raises(LeptonError, match="no measurements at"):
        compiled(tmp_path / "x.lepton", tmp_path / "nothing")


def test_a_prepared_stage_cannot_be_tuned(measured: Path, tmp_path: Path) -> None:
    stages = tmp_path / "stages"
    options = make_options(
        "cpu", level=2, precision="fp32", dims={}, threads=1, cache=False, isolated=False,
        dump_stages=stages,
    )  # fmt: skip
    compile_model(parse_graph(TEXT), tmp_path / "a.lepton", options)
    (prepared,) = stages.glob("*-prepared.lir")
    asked = make_options(
        "cpu", level=2, precision="fp32", dims={}, threads=1, cache=False, isolated=False,
        from_stage=prepared, tuning=tuning_options(0, measured),
    )  # fmt: skip
    with pytest.raises(LeptonError, match="prepared stage cannot be tuned"):
        compile_model("unread", tmp_path / "b.lepton", asked)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("memory = bytearray(1 << 60)", "MemoryError"),
        ("", "status 0"),
    ],
)
def test_a_measurement_that_crashes_says_how(program: str, message: str) -> None:
    with pytest.raises(TrialError, match=message):
        run_child({}, 60, program)


def test_a_measurement_that_hangs_is_ended() -> None:
    with pytest.raises(TimeoutError):
        run_child({}, 0.3, "import time\nwhile True: time.sleep(1)")


def test_a_build_that_hangs_is_ended(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError, match="no library"):
        build_in_child(
            print_graph(parse_graph(TEXT)), by_name("native"), tmp_path / "l.so",
            cache_folder=None, version="", rows=(), jobs=1,
            progress=lambda what, done, total: None, limit=0.01,
        )  # fmt: skip


def test_a_network_is_measured_by_its_kernels_and_as_a_whole(tmp_path: Path) -> None:
    from leptonc.driver import CompileReport, Options, optimize_graph
    from leptonc.text_codes import Vocabulary

    graph, backend = parse_graph(TEXT), backend_of(Target(), 1)
    optimize_graph(graph, Options(), backend)
    options = Options(threads=1)

    def save(
        graph: Graph, library: Path, path: Path, built: LibraryReport, decisions: Decisions
    ) -> None:
        save_artifact(graph, library, path, backend, built, options, CompileReport(), Vocabulary())

    write_inputs({"x": X}, tmp_path / "x.npz")
    trials = NetworkTrials(
        graph, backend, save, tmp_path, None, 10.0, tmp_path / "x.npz", processes=2
    )
    lists = {
        name: replace(each, candidates=each.candidates[:1])
        for name, each in backend.short_lists(graph, 4).items()
    }
    database = Database.open(tmp_path / "measured", backend.circumstances)
    found = Search(lists, trials, database, 1e6, clock=lambda: 0.0).run()
    assert found.tried == len(lists) == 2
    assert set(found.shares) == set(lists)
    assert 0 < sum(found.shares.values()) <= 1
    assert all(each.seconds > 0 and each.against > 0 for each in database.records.values())
    assert trials.worst < 1e-4
    whole = trials.whole({name: each.candidates[0] for name, each in lists.items()}, 100)
    assert whole.seconds > 0
    assert whole.against > 0
    assert bool(found.decisions) != bool(found.reason)
    assert len([*tmp_path.glob("*.lepton")]) == 1


def test_processes_must_agree() -> None:
    plain = [1.0, 1.1, 1.0, 1.2]
    faster, slower = ([part * each for each in plain] for part in (0.9, 1.02))
    won = agreed([(plain, faster)] * 4)
    assert won.seconds / won.against == pytest.approx(0.9)
    assert won.noise == pytest.approx(0, abs=1e-9)
    lost = agreed([(plain, faster)] * 3 + [(plain, slower)])
    assert lost.seconds > lost.against
    assert lost.noise == pytest.approx(0.06)


def test_turns_in_which_both_were_disturbed_are_compared_in_pairs() -> None:
    times = compared([1.0, 3.0, 1.0, 2.0, 1.0], [0.5, 2.4, 0.8, 1.6, 0.8])
    assert times.seconds == pytest.approx(0.8)
    assert times.against == 1.0
    assert compared([0.0], [0.0]).seconds == 0


def test_other_numbers_strike_a_candidate_out(tmp_path: Path) -> None:
    other = TEXT.replace("random(2)", "random(3)")
    paths = [tmp_path / "a.lepton", tmp_path / "b.lepton"]
    for path, text in zip(paths, (TEXT, other), strict=True):
        leptonc.compile(
            parse_graph(text), threads=1, isolated=False, cache=False, output=path
        ).close()
    job = {"plain": str(paths[0]), "whole": True, "seconds": 0.01, "inputs": None}
    assert "plain" not in run_child({**job, "tuned": str(paths[1])}, 60)
    same = run_child({**job, "tuned": str(paths[0])}, 60)
    assert same["difference"] == 0
    assert same["tuned"]["runs"] > 0


def test_the_report_says_what_was_tried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEPTONC_CACHE", str(tmp_path / "cache"))
    model, output, data = tmp_path / "two.lir", tmp_path / "two.lepton", tmp_path / "x.npy"
    model.write_text(TEXT)
    np.save(data, X)
    arguments = (model, "-o", output, "--threads", "1", "--tune-input", f"x={data}")
    assert run("compile", *arguments, "--tune", "0.01", "--json") == 0
    told = json.loads(capsys.readouterr().out)["tuning"]
    assert told["source"] == str(tmp_path / "cache-tuning")
    assert len(told["kernels"]) == 2
    assert told["left"] > 0
    assert told["tried"] == 0
    assert told["decisions"] == decided(output) == {}
    backend = backend_of(Target(), 1)
    database = Database.open(tmp_path / "cache-tuning", backend.circumstances)
    for kernel in told["kernels"]:
        database.put(Record(kernel["workload"], "rows=2", seconds=0.5, against=1.0))
    assert run("compile", *arguments, "--tuning", tmp_path / "cache-tuning") == 0
    assert "2 decisions taken over" in capsys.readouterr().out
    assert set(decided(output).values()) == {"rows=2"}


def test_a_network_that_does_not_run_on_random_inputs_is_refused(tmp_path: Path) -> None:
    text = """graph @needs(%x: f32[n,8]) -> (y: f32[9,8]) {
  %s = dims() {value = [9, 8], shape = [2]} : i64[2]
  %w = const() {value = random(1)} : f32[8,8]
  %a = linear(%x, %w) : f32[n,8]
  %y = reshape(%a, %s) : f32[9,8]
  return %y
}"""
    with pytest.raises(LeptonError, match="cannot be measured") as raised:
        leptonc.compile(parse_graph(text), threads=1, tune=1, tuning=tmp_path / "t", cache=False)
    assert raised.value.code == "E810"
    assert any("--tune-input" in note for note in raised.value.notes)
