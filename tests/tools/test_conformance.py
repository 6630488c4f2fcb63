"""The conformance runner: what passes, what fails and what must not stop it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper

from leptonc.tools import conformance
from leptonc.tools.conformance_cases import Case, feeds_of
from leptonc.tools.conformance_pool import Outcome, Prepare, run_all, run_case

X = np.array([1.0, 2.0], np.float32)


def relu(name: str = "relu") -> onnx.ModelProto:
    """A model of one operation."""
    ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, [2]) for end in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], name, ends[:1], ends[1:])
    return helper.make_model(graph)


def case(name: str = "relu") -> Case:
    """A test that wants its input back."""
    return Case("node", name, relu(name).SerializeToString(), (([X], [X]),), 1e-3, 1e-7)


def answering(value: Any) -> Prepare:
    """Something that runs every model and always gives the same."""
    return lambda _: lambda _: {"y": value}


@pytest.mark.parametrize(
    ("value", "failure"),
    [
        (X, ""),
        (X * np.float32(1.0001), ""),
        (X * np.float32(1.1), "Mismatched elements"),
        (X[None], "shape (1, 2), should be (2,)"),
        (X.astype(np.float64), "float64, should be float32"),
        (np.array([1.0, np.nan], np.float32), "nan location mismatch"),
    ],
)
def test_outputs_are_compared_as_onnx_does(value: Any, failure: str) -> None:
    found = run_case(case(), answering(value))
    assert (failure in found) if failure else (found == "")


def test_a_missing_output_fails() -> None:
    assert "0 outputs, should be 1" in run_case(case(), lambda _: lambda _: {})


def misbehave(model: onnx.ModelProto) -> Any:
    """Crash, hang, leave, raise or answer, as the graph's name says."""
    match model.graph.name:
        case "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            time.sleep(60)
        case "leave":
            os._exit(3)
        case "raise":
            raise ValueError("not today")
        case _:
            pass
    return lambda feeds: {"y": feeds["x"]}  # pyright: ignore[reportUnknownLambdaType, reportUnknownVariableType]


def test_what_a_model_does_to_its_worker_harms_no_other_model() -> None:
    names = ["good", "crash", "hang", "leave", "raise", "fine"]
    outcomes = run_all([case(name) for name in names], misbehave, jobs=2, seconds=0.5)
    failures = {outcome.case.name: outcome.failure for outcome in outcomes}
    assert failures == {
        "good": "",
        "crash": "crashed: SIGKILL",
        "hang": "stopped after 0 s",
        "leave": "crashed: exit status 3",
        "raise": "ValueError: not today",
        "fine": "",
    }


def test_initialisers_among_the_inputs_keep_their_value_when_few_inputs_come() -> None:
    model = relu()
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [2]))
    model.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, [2], [1, 2]))
    assert list(feeds_of(model, [X])) == ["x"]
    assert list(feeds_of(model, [X, X])) == ["x", "w"]


def test_a_test_that_falls_is_an_error_and_the_list_never_shrinks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(_: onnx.ModelProto, kernels: Path) -> Any:
        raise ValueError("nothing works")

    def select(*_: object) -> list[Case]:
        return [case("test_relu"), case("test_abs")]

    known = tmp_path / "known.json"
    before = {"compiled": {"node": ["test_relu"]}}
    known.write_text(json.dumps(before))
    monkeypatch.setattr(conformance, "COLUMNS", {"compiled": prepare})
    monkeypatch.setattr(conformance, "select", select)
    options = ["--known", str(known), "--report", str(tmp_path / "report.json"), "--update"]
    result = CliRunner().invoke(conformance.main, options)
    assert result.exit_code == 1
    assert "test_relu: ValueError: nothing works" in result.output
    after: Mapping[str, Mapping[str, list[str]]] = json.loads(known.read_text())
    assert after["compiled"]["node"] == ["test_relu"]
    report = json.loads((tmp_path / "report.json").read_text())
    assert set(report["compiled"]) == {"node/test_relu", "node/test_abs"}


def test_only_known_tests_count_as_fallen() -> None:
    outcomes = [Outcome(case(name), "broken", 0.0) for name in ("a", "b")]
    assert [outcome.case.name for outcome in conformance.fallen({"node": ["b"]}, outcomes)] == ["b"]
