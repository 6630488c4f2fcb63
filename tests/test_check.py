"""Everything that keeps a model from compiling is listed, by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from leptonc.check import check_model, limit_table
from leptonc.cli.main import main as command
from leptonc.ir.graph import Op
from tests.robustness.models import const, model, node, value


def everything(op: Op) -> str:
    return ""


def no_relu(op: Op) -> str:
    return "there is no kernel for relu" if op.name == "relu" else ""


def broken() -> object:
    nodes = [
        node("Relu", ("x",), ("r",), name="fine"),
        node("Frobnicate", ("r",), ("a",), name="one"),
        node("Frobnicate", ("a",), ("b",), name="two"),
        node("Reshape", ("r", "c"), ("d",), name="three"),
        node("Evil", ("b",), name="four", domain="com.evil"),
    ]
    return model(nodes, initializers=[const("c", [7])], domains=["com.evil"])


def test_a_model_that_compiles() -> None:
    report = check_model(model([node("Relu")]), everything)
    assert report.is_supported
    assert report.as_json() == {
        "supported": True, "opsets": {"ai.onnx": 20}, "nodes": 1,
        "unsupported": [], "problems": [], "faults": [], "notices": [],
    }  # fmt: skip


def test_operators_problems_and_kernels_are_listed_together() -> None:
    report = check_model(broken(), no_relu)  # pyright: ignore[reportArgumentType]
    assert not report.is_supported
    found = {(item.op, item.domain): item for item in report.findings}
    assert found["Frobnicate", ""].nodes == ("one", "two")
    assert found["Frobnicate", ""].count == 2
    assert found["Frobnicate", ""].opset == 20
    assert found["Evil", "com.evil"].opset == 1
    assert "local function" in found["Evil", "com.evil"].help
    assert found["Relu", ""].reason == "there is no kernel for relu"
    assert found["Relu", ""].nodes == ("fine",)
    assert [error.location.nodes for error in report.problems] == [("three",)]
    assert report.nodes == 5
    assert json.loads(json.dumps(report.as_json()))["unsupported"][0]["count"] == 2


def test_what_folds_away_needs_no_kernel() -> None:
    nodes = [node("Relu", ("w",), ("r",)), node("Add", ("x", "r"))]
    source = model(nodes, initializers=[const("w", [1, 2], np.float32)])
    assert check_model(source, no_relu).is_supported


def no_counting(op: Op) -> str:
    return "its size depends on data" if op.name == "non_zero" else ""


def test_what_is_spelled_out_needs_no_kernel_of_its_own() -> None:
    report = check_model(model([node("NonZero")]), no_counting, trust_inferred=True)
    assert report.is_supported


def test_a_file_that_is_no_model() -> None:
    report = check_model(b"PK\x03\x04 and so on", everything)
    assert [error.code for error in report.problems] == ["E011"]
    assert not report.is_supported


def test_extents_can_be_fixed() -> None:
    source = model([node("Relu")], inputs=[value("x", ("n",))])
    assert check_model(source, everything, {"n": 3}).is_supported
    (problem,) = check_model(source, everything, {"m": 3}).problems
    assert problem.code == "E021"


def test_the_limits_are_told() -> None:
    limits = dict(limit_table())
    assert any(
        name.startswith("function_depth") and value == "100" for name, value in limits.items()
    )


def test_the_command_line_fixes_extents_and_trusts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = model([node("Relu")], inputs=[value("x", ("n",))], outputs=[value("y", (3,))])
    path = tmp_path / "m.onnx"
    path.write_bytes(source.SerializeToString())
    command(["check", str(path)])
    with pytest.raises(SystemExit) as end:
        command(["check", str(path), "--dim", "n=2"])
    assert end.value.code == 1
    assert "axis 0 is declared 3, and computed as 2" in capsys.readouterr().out
    command(["check", str(path), "--dim", "n=2", "--trust-inferred", "--untrusted"])


@pytest.mark.filterwarnings("default")
def test_the_command_line_shows_notices_as_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [node("Neg", ("m",)), node("Relu", ("x",), ("m",))]
    path = tmp_path / "m.onnx"
    path.write_bytes(model(nodes).SerializeToString())
    command(["inspect", str(path)])
    told = capsys.readouterr().err
    assert told == "warning: the nodes are not in dependency order; they were sorted\n"
