"""leptonc optimize: what it writes, what it tells and what it refuses."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto

import leptonc
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.graph import Graph
from leptonc.onnx_export import Exporter
from tests.cli.test_cli import run
from tests.peer import onnxruntime_gives

MODEL = """
<ir_version: 10, opset_import: ["" : 17], producer_name: "test">
net (float[batch,3] x, float[batch,4] idle) => (float[batch,4] y, float[batch,4] z)
<float[3,4] w = {1,2,3,4,5,6,7,8,9,10,11,12}, float[4] b = {0.5,-0.5,1.5,-100},
 float one = {1.0}, float two = {1.5}, float half = {0.5}, float root = {1.4142135623730951}>
{
    [product] p = MatMul(x, w)
    [bias] q = Add(p, b)
    [same] s = Identity(q)
    [scaled] d = Div(s, root)
    [error] e = Erf(d)
    [plus] a = Add(e, one)
    [times] t = Mul(s, a)
    [halved] y = Mul(t, half)
    [kept] k = Mul(q, two)
    [last] z = Sigmoid(k)
}"""


def parsed() -> onnx.ModelProto:
    return onnx.parser.parse_model(MODEL)


def save(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(parsed(), tmp_path / "net.onnx")


def load(path: Path) -> onnx.ModelProto:
    """The model, its external data left where it is."""
    return onnx.ModelProto.FromString(path.read_bytes())


def ops_of(path: Path) -> list[str]:
    return [node.op_type for node in load(path).graph.node]


def feeds(batch: int = 2) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    return {
        "x": generator.standard_normal((batch, 3)).astype(np.float32),
        "idle": np.zeros((batch, 4), np.float32),
    }


def same_numbers(left: Path, right: Path) -> None:
    for ours, theirs in zip(
        onnxruntime_gives(left, feeds()), onnxruntime_gives(right, feeds()), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_the_report_says_everything(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = model.with_name("out.onnx")
    assert run("optimize", model, "-o", out, "--json", "--check") == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert report["nodes"]["before"] == 10
    assert report["nodes"]["after"] == len(ops_of(out))
    assert report["operators"]["before"]["Mul"] == 3
    assert report["operators"]["after"]["Gelu"] == 1
    assert report["recognized"]["Gelu"] == 1
    assert report["unused_inputs"] == ["idle"]
    assert report["opset"] == load(out).opset_import[0].version
    assert report["seconds"] > 0
    assert report["check"]["passed"]
    assert set(report["check"]["outputs"]) == {"y", "z"}
    assert len(report["check"]["sizes"]) == 3
    applied = {row["rule"]: row for row in report["explain"]["applied"]}
    assert applied["drop-identity"]["nodes"] == ["same"]
    assert applied["drop-identity"]["pass"] == "simplify"
    assert report["rules"]["drop-identity"] == applied["drop-identity"]["count"] == 1
    first = report["passes"][1]
    assert first["nodes"] == {"before": 10, "after": 9}
    assert first["changes"] >= 1
    assert first["constant_bytes"]["before"] == 4 * (12 + 4 + 4)
    assert report["passes"][-1]["flops"]["after"] > 0
    same_numbers(model, out)


def test_tables_tell_people_the_same(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = model.with_name("out.onnx")
    assert run("optimize", model, "-o", out, "--explain", "--timing", "--check") == 0
    text = capsys.readouterr().out
    for word in ("drop-identity", "'same'", "constants", "FLOPs", "rounding explains", "new Gelu"):
        assert word in text
    assert "nothing reads the inputs 'idle'" in text


def test_what_was_missed_is_grouped_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two products are read by a second reader each, three scales are not one number a channel."""
    lines = [
        '<ir_version: 10, opset_import: ["" : 17]>',
        "g (float[2,3,4,4] x) => (float[2,6,4,4] y)",
    ]
    lines.append("<float[3,3,1,1] w = {1,2,3,4,5,6,7,8,9}, float[1,1,1,4] s = {1,2,3,4}> {")
    lines += ["a = Conv(x, w)", "b = Mul(a, s)", "c = Conv(b, w)", "d = Mul(c, s)"]
    lines += ["y = Concat<axis=1>(b, d)", "}"]
    path = save(onnx.parser.parse_model("\n".join(lines)), tmp_path / "m.onnx")
    assert run("optimize", path, "-o", tmp_path / "o.onnx", "--json") == 0
    missed = json.loads(capsys.readouterr().out)["explain"]["missed"]
    (row,) = [row for row in missed if "differs along other axes" in row["reason"]]
    assert row["count"] == 2
    assert len(row["nodes"]) == 2


def test_passes_and_rules_are_left_out_by_name(model: Path) -> None:
    out = model.with_name("out.onnx")
    assert run("optimize", model, "-o", out, "--disable", "drop-identity") == 0
    assert "Identity" in ops_of(out)
    assert "Gelu" in ops_of(out)
    assert run("optimize", model, "-o", out, "--disable", "recognize-activations,fold-scale") == 0
    assert "Erf" in ops_of(out)
    assert "Identity" not in ops_of(out)
    assert run("optimize", model, "-o", out, "--only", "simplify") == 0
    assert ops_of(out) == [name for name in ops_of(model) if name != "Identity"]
    assert run("optimize", model, "-o", out, "--passes", "simplify{budget=100},form-linear") == 0
    assert "Identity" not in ops_of(out)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--disable", "simplfy"], ["no pass or rule 'simplfy'", "did you mean simplify"]),
        (["--disable", "drop-identitty"], ["did you mean drop-identity"]),
        (["--only", "simplfy"], ["no pass 'simplfy'", "did you mean simplify"]),
        (["--only", "group-operations"], ["not among those that would run"]),
        (["--passes", "simplfy"], ["there is no pass 'simplfy'"]),
        (["--input", "nope"], ["cannot read --input 'nope'"]),
        (["--dim", "bath=1"], ["no input has an extent called 'bath'", "did you mean 'batch'"]),
        (["--opset", "9"], ["opset"]),
    ],
)
def test_mistakes_are_named(
    model: Path, arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = model.with_name("out.onnx")
    assert run("optimize", model, "-o", out, *arguments) == 1
    said = capsys.readouterr().err
    assert all(word in said for word in words), said
    assert os.listdir(model.parent) == ["net.onnx"]


def test_only_changed_lines_are_printed(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = model.with_name("out.onnx")
    assert run("optimize", model, "-o", out, "--print-after-change", "--only", "simplify") == 0
    said = capsys.readouterr().err
    assert "// after simplify" in said
    changed = [line for line in said.splitlines() if line.startswith(("+", "-"))]
    assert "-  %s = identity(%q) : f32[batch,4]" in changed
    assert len(changed) <= 6


def test_numbers_are_verified_pass_by_pass(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that is wrong is found by the option, and not without it."""
    out = model.with_name("out.onnx")
    assert run("optimize", model, "-o", out, "--verify-numbers") == 0
    monkeypatch.setattr("leptonc.passes.cleanup.simplify.Simplify.run", _spoil)
    assert run("optimize", model, "-o", out, "--only", "simplify") == 0
    assert run("optimize", model, "-o", out, "--only", "simplify", "--verify-numbers") == 70


def _spoil(self: object, graph: Graph, context: object) -> None:
    """Compute the first output's negative."""
    from leptonc.ir.build import Builder

    last = graph.terminator
    wrong = Builder(graph, before=last).neg(last.operands[0])
    last.set_operands([wrong, *last.operands[1:]])


# -- the check


def spoiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exporting writes one weight wrong."""
    right = Exporter.model

    def wrong(self: Exporter, graph: Any) -> onnx.ModelProto:
        model = right(self, graph)
        node = next(node for node in model.graph.node if node.op_type == "Sigmoid")
        node.op_type = "HardSigmoid"
        return model

    monkeypatch.setattr(Exporter, "model", wrong)


def test_a_wrong_result_is_not_written(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spoiled(monkeypatch)
    out = model.with_name("out.onnx")
    out.write_bytes(b"what was there before")
    assert run("optimize", model, "-o", out, "--check") == 1
    said = capsys.readouterr().err
    assert "error[E504]" in said
    assert "'z' is off by" in said
    assert "'y'" not in said
    assert sorted(os.listdir(model.parent)) == ["net.onnx", "out.onnx"]
    assert out.read_bytes() == b"what was there before"
    assert run("optimize", model, "-o", out, "--check", "--tolerance", "10") == 0


def _not_installed(name: str) -> None:
    return None


def test_the_interpreter_checks_where_onnxruntime_is_missing(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("leptonc.onnx_compare.importlib.util.find_spec", _not_installed)
    out = model.with_name("out.onnx")
    assert run("optimize", model, "-o", out, "--check", "--json") == 0
    assert json.loads(capsys.readouterr().out)["check"]["runtime"] == "interpreter"
    spoiled(monkeypatch)
    assert run("optimize", model, "-o", out, "--check") == 1


def test_inputs_of_the_user_are_compared_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A lookup that random numbers would miss runs on the rows that are given."""
    text = """<ir_version: 10, opset_import: ["" : 17]>
g (int64[n] at, float[n] x) => (float[n] y) <float[9] w = {0,1,2,3,4,5,6,7,8}> {
  a = Gather(w, at)
  y = Mul(a, x)
}"""
    path = save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    np.save(tmp_path / "at.npy", np.array([8, 7, 6, 5], np.int64))
    given = f"at={tmp_path / 'at.npy'}"
    assert run("optimize", path, "-o", tmp_path / "o.onnx", "--input", given, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["check"]["sizes"] == [{"n": 4}] * 3
    assert (
        run("optimize", path, "-o", tmp_path / "o.onnx", "--input", f"too={tmp_path}/at.npy") == 1
    )
    assert "there is no input 'too'" in capsys.readouterr().err


# -- what is kept


def test_names_docs_and_metadata_are_kept(tmp_path: Path) -> None:
    source = parsed()
    source.doc_string, source.domain, source.model_version = "what it does", "org.test", 7
    source.metadata_props.add(key="author", value="someone")
    source.graph.doc_string = "the graph"
    source.graph.metadata_props.add(key="of", value="the graph")
    for item in (*source.graph.input, *source.graph.output):
        item.doc_string = f"doc of {item.name}"
        item.metadata_props.add(key="unit", value=f"of {item.name}")
        item.type.tensor_type.shape.dim[0].dim_param = "batch size (N)"
        item.type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
        item.type.denotation = "TENSOR"
    out = tmp_path / "o.onnx"
    assert run("optimize", save(source, tmp_path / "m.onnx"), "-o", out) == 0
    back = load(out)
    assert (back.doc_string, back.domain, back.model_version) == ("what it does", "org.test", 7)
    assert list(back.metadata_props) == list(source.metadata_props)
    assert back.graph.doc_string == "the graph"
    assert list(back.graph.metadata_props) == list(source.graph.metadata_props)
    assert list(back.graph.input) == list(source.graph.input)
    assert list(back.graph.output) == list(source.graph.output)
    assert back.graph.name == "net"


def test_extents_are_fixed_by_name(model: Path) -> None:
    out = model.with_name("out.onnx")
    assert run("optimize", model, "-o", out, "--dim", "batch=5", "--check") == 0
    back = load(out)
    for item in (*back.graph.input, *back.graph.output):
        assert item.type.tensor_type.shape.dim[0].dim_value == 5


def test_a_model_may_be_written_over_itself(tmp_path: Path) -> None:
    """The file that it is read from is mapped while it is written, its data too."""
    path, source = tmp_path / "m.onnx", parsed()
    for tensor in source.graph.initializer:
        tensor.CopyFrom(
            onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name)
        )
    package: Any = onnx  # its types are incomplete
    package.save(source, path, save_as_external_data=True, location="m.data", size_threshold=0)
    data = (tmp_path / "m.data").read_bytes()
    before = onnxruntime_gives(path, feeds())
    assert run("optimize", path, "-o", path, "--check", "--external-data", "always") == 0
    assert ops_of(path) != ops_of(save(parsed(), tmp_path / "again.onnx"))
    for ours, theirs in zip(onnxruntime_gives(path, feeds()), before, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    assert (tmp_path / "m.data").read_bytes() == data
    assert run("optimize", path, "-o", path, "--check") == 0


def test_external_data_goes_where_it_is_asked_for(model: Path) -> None:
    out = model.with_name("out.onnx")
    assert run("optimize", model, "-o", out, "--external-data", "always") == 0
    assert len(os.listdir(model.parent)) == 2, "nothing is as large as 1024 bytes"
    arguments = ("--external-data", "always", "--external-from", "48", "--check")
    assert run("optimize", model, "-o", out, *arguments) == 0
    (data,) = [name for name in os.listdir(model.parent) if name.endswith(".data")]
    assert (model.parent / data).stat().st_size == 48
    kept = load(out).graph.initializer
    assert sum(item.data_location == TensorProto.EXTERNAL for item in kept) == 1
    assert run("optimize", out, "-o", out, "--external-data", "never") == 0
    assert load(out).graph.initializer[0].HasField("raw_data")


# -- in Python


def test_the_function_takes_what_the_command_takes(tmp_path: Path) -> None:
    plain = leptonc.optimize(parsed(), disable=["recognize-activations"], check=True)
    assert "Erf" in [node.op_type for node in plain.graph.node]
    only = leptonc.optimize(parsed().SerializeToString(), only=["simplify"])
    assert len(only.graph.node) == 9
    ordered = leptonc.optimize(parsed(), passes="simplify", dims={"batch": 2}, inputs=feeds())
    assert ordered.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2
    assert leptonc.optimize(parsed(), tmp_path / "o.onnx", level=0, external_data=True) is None
    same_numbers(tmp_path / "o.onnx", save(parsed(), tmp_path / "m.onnx"))
    with pytest.raises(LeptonError, match="no optimisation level 4"):
        leptonc.optimize(parsed(), level=4)
    with pytest.raises(LeptonError, match="did you mean simplify"):
        leptonc.optimize(parsed(), disable=["simplyfy"])


def test_the_function_raises_where_the_check_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    spoiled(monkeypatch)
    with pytest.raises(LeptonError, match="1 of 2 are off") as caught:
        leptonc.optimize(parsed(), check=True)
    assert caught.value.code == "E504"


def test_nodes_of_functions_count_as_often_as_they_are_called(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So a model whose functions are taken apart is not said to have grown."""
    text = """<ir_version: 10, opset_import: ["" : 17, "own" : 1]>
g (float[n] x) => (float[n] y) { a = own.twice(x) y = own.twice(a) }
<domain: "own", opset_import: ["" : 17, "own" : 1]>
once (v) => (w) { e = Exp(v) w = Sin(e) }
<domain: "own", opset_import: ["" : 17, "own" : 1]>
twice (v) => (w) { t = own.once(v) w = own.once(t) }"""
    path = save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    assert run("optimize", path, "-o", tmp_path / "o.onnx", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["nodes"] == {"before": 8, "after": 8}
    assert report["operators"]["before"] == {"Exp": 4, "Sin": 4}
