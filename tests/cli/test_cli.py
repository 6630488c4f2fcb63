"""The command line: what it prints where, and its exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

from leptonc.cli.main import COMMANDS
from tests.commands import run

MODEL = """
<ir_version: 10, opset_import: ["" : 20], producer_name: "test">
mlp (float[batch,3] x) => (float[batch,4] y)
<float[3,4] w = {1,2,3,4,5,6,7,8,9,10,11,12}, float[4] b = {0.5,-0.5,1.5,-100}>
{
    p = MatMul(x, w)
    q = Add(p, b)
    y = Relu(q)
}"""
WEIGHT = np.arange(1, 13, dtype=np.float32).reshape(3, 4)
BIAS = np.array([0.5, -0.5, 1.5, -100], np.float32)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small model in a file."""
    path = tmp_path / "mlp.onnx"
    path.write_bytes(onnx.parser.parse_model(MODEL).SerializeToString())
    return path


def test_compile_then_run_then_inspect(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The way of a deployer, with numbers checked."""
    assert run("compile", model, "--threads", "1") == 0
    shown = capsys.readouterr()
    assert "weights" in shown.out
    assert "kernels" in shown.out
    artifact = model.with_suffix(".lepton")
    x = np.array([[1, -2, 3], [0.5, 0, -1]], np.float32)
    np.save(model.parent / "x.npy", x)
    out = model.parent / "out"
    assert run("run", artifact, "--input", f"x={model.parent / 'x.npy'}", "--output-dir", out) == 0
    found = np.load(out / "output_0.npy")
    np.testing.assert_allclose(found, np.maximum(x @ WEIGHT + BIAS, 0), rtol=1e-6)
    capsys.readouterr()
    assert run("inspect", artifact, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    renamed = artifact.rename(model.parent / "deployed.bin")
    assert run("inspect", renamed, "--json") == 0
    assert json.loads(capsys.readouterr().out) == document
    assert document["inputs"] == {"x": "f32[batch,3]"}
    assert document["outputs"] == {"y": "f32[batch,4]"}
    assert document["threads"] == 1


def test_compile_tells_machines_in_json(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output holds one document and nothing else."""
    assert run("compile", model, "-o", model.parent / "m.lepton", "--json", "--dim", "batch=2") == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert document["nodes"]["before"] == 3
    assert document["bytes"]["artifact"] == (model.parent / "m.lepton").stat().st_size
    assert run("run", model.parent / "m.lepton", "--random", "0", "--json") == 0
    assert json.loads(capsys.readouterr().out)["outputs"][0]["type"] == "float32[2, 4]"


def test_optimize_writes_a_valid_model(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What comes out is ONNX that means the same."""
    better = model.parent / "better.onnx"
    assert run("optimize", model, "-o", better, "--json") == 0
    assert json.loads(capsys.readouterr().out)["nodes"]["before"] == 3
    onnx.checker.check_model(better.read_bytes(), full_check=True)  # pyright: ignore[reportUnknownMemberType]


def test_check_lists_every_node_that_cannot_be_compiled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All at once, by name, with exit status 1; a good model has status 0."""
    bad = tmp_path / "bad.onnx"
    text = MODEL.replace("y = Relu(q)", "r = Frobnicate(q)\n    y = Blub(r)")
    bad.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    assert run("check", bad) == 1
    shown = capsys.readouterr().out
    assert "Frobnicate" in shown
    assert "Blub" in shown
    good = tmp_path / "good.onnx"
    good.write_bytes(onnx.parser.parse_model(MODEL).SerializeToString())
    assert run("check", good) == 0


def test_bench_measures(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows have times and the deviation from the reference."""
    assert run("bench", model, "--seconds", "0.05", "--threads", "1", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["name"] == "leptonc"
    assert 0 < row["minimum"] <= row["median"]
    assert row["deviation"] < 1e-5


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["frobnicate"], 2, "No such command"),
        (["complie"], 2, "Did you mean compile?"),
        (["compile"], 2, "Missing argument"),
        (["compile", "nowhere.onnx"], 1, "nowhere.onnx"),
        (["compile", "nowhere.lir"], 1, "nowhere.lir"),
        (["run", "nowhere.lepton"], 1, "nowhere.lepton"),
        (["passes", "fold-constant"], 1, "did you mean fold-constants"),
        (["check", "x.onnx", "--target", "cpux"], 1, "did you mean cpu?"),
        (
            ["compile", "x.onnx", "--target", "cpu:lanes=3"],
            1,
            "there is no option of target cpu 'lanes'",
        ),
        (["compile", "x.onnx", "--target", "cpu:isa"], 1, "has no value"),
        (["compile", "x.onnx", "--dim", "batch"], 1, "error[E805]: cannot read --dim"),
        (["compile", "x.onnx", "-O", "7"], 2, "is not in the range"),
        (["compile", "x.onnx", "--precision", "int3"], 1, "precision 'int3' is not available"),
    ],
)
def test_mistakes_have_their_exit_status(
    arguments: list[str], status: int, message: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Usage is 2, the user's other errors are 1; they go to standard error, without a traceback."""
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == status
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.out == ""
    assert "Traceback" not in shown.err


def test_a_run_without_data_says_what_is_missing(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error names the input and both ways to give it data."""
    assert run("compile", model) == 0
    assert run("run", model.with_suffix(".lepton")) == 1
    assert "error[E806]: no data for input 'x'" in capsys.readouterr().err
    np.save(model.parent / "x.npy", np.zeros((1, 3), np.float32))
    given = f"X={model.parent / 'x.npy'}"
    assert run("run", model.with_suffix(".lepton"), "--input", given, "--random", "0") == 1
    assert "there is no input 'X'\n  note: inputs: 'x'" in capsys.readouterr().err
    (model.parent / "x.npy").write_bytes(b"junk")
    assert run("run", model.with_suffix(".lepton"), "--input", f"x={model.parent / 'x.npy'}") == 1
    assert "cannot be read as .npy" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Help names a whole command line."""
    assert run(command, "--help") == 0
    assert f"leptonc {command}" in capsys.readouterr().out


def test_a_crash_is_a_bug_of_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What nobody foresaw ends with 70 and a hint, not with a traceback."""

    def divide(*_: object) -> float:
        return 1 / 0

    monkeypatch.setattr("leptonc.driver.import_source", divide)
    assert run("inspect", "x.onnx") == 70
    assert "bug in leptonc: ZeroDivisionError" in capsys.readouterr().err


def test_the_module_runs_as_a_process(model: Path) -> None:
    """The installed command and its exit status, in a folder with spaces and without a terminal."""
    folder = model.parent / "a folder, with spaces and ünïcode"
    folder.mkdir()
    artifact = folder / "m.lepton"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "LANG": "C"}
    code = "from leptonc.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "compile", str(model), "-o", str(artifact)],
        capture_output=True, text=True, env=environment, cwd=folder, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert artifact.exists()
    assert done.stderr == ""
