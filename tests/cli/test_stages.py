"""Stages written by --dump-stages, gone on from by --from-stage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx import helper as h

from leptonc.ir.blob import Blob
from leptonc.ir.build import Builder
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.graph import Graph, Value
from leptonc.ir.interpret import interpret
from leptonc.ir.types import DType, TensorType
from leptonc.stages import Stage, Stages, read_stage
from leptonc.text_codes import Vocabulary
from tests.cli.test_cli import run
from tests.peer import onnxruntime_gives


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A network whose passes fold, form and recognise, with weights too large to be spelled."""
    generator = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> TensorProto:
        data = generator.standard_normal(shape).astype(np.float32)
        return onnx.numpy_helper.from_array(data if shape[-1] != 1 else np.abs(data), name)

    nodes = [
        h.make_node("Conv", ["x", "k"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        h.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"], name="norm"),
        h.make_node("Sigmoid", ["n"], ["g"], name="gate"),
        h.make_node("Mul", ["n", "g"], ["a"], name="silu"),
        h.make_node("Identity", ["a"], ["i"], name="same"),
        h.make_node("Flatten", ["i"], ["f"], name="flat"),
        h.make_node("MatMul", ["f", "w"], ["p"], name="product"),
        h.make_node("Add", ["p", "e"], ["y"], name="bias"),
    ]
    constants = [weight("k", 8, 3, 3, 3), weight("w", 8 * 36, 24), weight("e", 24)]
    constants += [weight(name, 8) for name in "sbm"]
    constants.append(onnx.numpy_helper.from_array(np.ones(8, np.float32), "v"))
    x = h.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 6, 6])
    y = h.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 24])
    graph = h.make_graph(nodes, "net", [x], [y], constants)
    made = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=9)
    made.doc_string = "what it does"
    path = tmp_path / "net.onnx"
    path.write_bytes(made.SerializeToString())
    return path


def stage_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.lir"))


def test_an_artefact_is_the_same_from_every_stage(model: Path, tmp_path: Path) -> None:
    whole, stages = tmp_path / "whole.lepton", tmp_path / "stages"
    assert run("compile", model, "-o", whole, "--dump-stages", stages) == 0
    names = [path.name for path in sorted(stages.glob("*.lir"))]
    assert names == ["1-imported.lir", "2-optimized.lir", "3-prepared.lir"]
    assert len(stage_files(stages)) > 6
    wanted = whole.read_bytes()
    files = stage_files(stages)
    for number, file in enumerate([*files[:3], *files[3::4]]):  # each takes a second
        again = tmp_path / f"{number}.lepton"
        assert run("compile", model, "-o", again, "--from-stage", file) == 0
        assert again.read_bytes() == wanted, file


def test_a_model_is_the_same_from_every_stage(model: Path, tmp_path: Path) -> None:
    whole, stages = tmp_path / "whole.onnx", tmp_path / "stages"
    assert run("optimize", model, "-o", whole, "--dump-stages", stages) == 0
    files = stage_files(stages)
    assert [path.name for path in files[:2]] == ["1-imported.lir", "2-optimized.lir"]
    assert len(files) > 5
    wanted = whole.read_bytes()
    assert onnx.ModelProto.FromString(wanted).doc_string == "what it does"
    for number, file in enumerate(files):
        again = tmp_path / f"{number}.onnx"
        assert run("optimize", model, "-o", again, "--from-stage", file, "--check") == 0
        assert again.read_bytes() == wanted, file


def test_weights_are_written_once_for_all_stages(model: Path, tmp_path: Path) -> None:
    stages = tmp_path / "stages"
    assert run("optimize", model, "-o", tmp_path / "o.onnx", "--dump-stages", stages) == 0
    files = list((stages / "weights").iterdir())
    products = [path for path in files if ".288x24." in path.name or ".24x288." in path.name]
    assert 1 <= len(products) <= 2, "the weight as it was and perhaps turned, not one a stage"
    assert sum(path.suffix == ".partial" for path in files) == 0


def test_a_stage_can_be_changed_by_hand(model: Path, tmp_path: Path) -> None:
    stages, out = tmp_path / "stages", tmp_path / "o.onnx"
    assert run("optimize", model, "-o", out, "--dump-stages", stages) == 0
    last = stages / "2-optimized.lir"
    last.write_text(
        last.read_text().replace("return %y", "%r = neg(%y) : f32[batch,24]\n  return %r")
    )
    changed = tmp_path / "changed.onnx"
    assert run("optimize", model, "-o", changed, "--from-stage", last) == 0
    feeds = {"x": np.random.default_rng(1).standard_normal((2, 3, 6, 6)).astype(np.float32)}
    (was,), (now,) = onnxruntime_gives(out, feeds), onnxruntime_gives(changed, feeds)
    np.testing.assert_array_equal(now, -was)
    assert run("optimize", model, "-o", changed, "--from-stage", last, "--check") == 1


def test_passes_that_are_asked_for_run_on_a_stage(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages, out = tmp_path / "stages", tmp_path / "o.onnx"
    assert (
        run("optimize", model, "-o", out, "--dump-stages", stages, "--passes", "form-linear") == 0
    )
    first = stages / "1-imported.lir"
    capsys.readouterr()
    arguments = ("--from-stage", first, "--passes", "simplify", "--json")
    assert run("optimize", model, "-o", out, *arguments) == 0
    assert [row["pass"] for row in json.loads(capsys.readouterr().out)["passes"]] == ["simplify"]


def test_what_text_does_not_say_comes_back(tmp_path: Path) -> None:
    """Every element type, weights of rank 0 and without elements, words and what is left to do."""
    graph = Graph("a graph", [Value(TensorType(DType.F32, (2,)), "x")])
    build = Builder(graph)
    types = [kind for kind in DType if kind is not DType.STR]
    data = [np.arange(100).astype(kind.numpy) for kind in types]
    values = [build.const(item) for item in data]
    values.append(build.const(Blob.of(np.array(["a", "ünï"] * 20, object))))
    values.append(build.const(np.zeros((3, 0), np.float32)))
    values.append(build.const(np.array(2.5, np.float64)))
    build.return_(*values)
    graph.output_names = tuple(f"y{index}" for index in range(len(values)))
    graph.metadata["author"] = "someone"
    text = Vocabulary(("a", "b"), frozenset([0]), frozenset(), ())
    Stages(tmp_path).write("made", Stage(graph, "simplify", text, is_prepared=True))
    back = read_stage(tmp_path / "1-made.lir", {})
    assert (back.remaining, back.text, back.is_prepared) == ("simplify", text, True)
    assert (back.graph.name, back.graph.metadata) == ("a graph", {"author": "someone"})
    feeds = {"x": np.zeros(2, np.float32)}
    for name, item in interpret(graph, feeds).items():
        again = interpret(back.graph, feeds)[name]
        assert again.dtype == item.dtype
        assert again.shape == item.shape
        if item.dtype == object:
            assert again.tolist() == item.tolist()
        else:
            assert again.tobytes() == item.tobytes()


@pytest.mark.parametrize(
    ("name", "content"),
    [("1-made.json", "{"), ("1-made.json", '{"text": 3}'), ("weights/x.f99.2.bin", "")],
)
def test_a_broken_stage_is_an_error(tmp_path: Path, name: str, content: str) -> None:
    graph = Graph("g", [Value(TensorType(DType.F32, (2,)), "x")], ["y"])
    Builder(graph).return_(graph.inputs[0])
    Stages(tmp_path).write("made", Stage(graph))
    (tmp_path / name).write_text(content)
    with pytest.raises(LeptonError, match="cannot be read") as caught:
        read_stage(tmp_path / "1-made.lir", {})
    assert caught.value.code == "E806"


def test_mistakes_with_stages_are_named(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("compile", model, "--from-stage", tmp_path / "nowhere.lir") == 1
    assert "nowhere.lir" in capsys.readouterr().err
    stages = tmp_path / "stages"
    assert run("optimize", model, "-o", tmp_path / "o.onnx", "--dump-stages", stages) == 0
    first = stages / "1-imported.lir"
    assert run("compile", model, "--from-stage", first, "--dim", "batch=1") == 1
    assert "extents cannot be fixed in a stage" in capsys.readouterr().err
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert run("compile", model, "--dump-stages", blocked / "stages") == 1
    assert "cannot be written" in capsys.readouterr().err
