"""Sequences and optionals: at a model's boundary, and where run time says which tensor is meant."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import leptonc
from leptonc.cli.main import main
from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.onnx_import import import_model
from tests.peer import onnxruntime_gives

INT, FLOAT = TensorProto.INT64, TensorProto.FLOAT


def tensor(name: str, shape: Sequence[int | str], dtype: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def sequence(name: str, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, shape))
    return helper.make_value_info(name, kind)


def optional(name: str, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(FLOAT, shape))
    return helper.make_value_info(name, kind)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
) -> onnx.ModelProto:
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def arrays(*shapes: tuple[int, ...]) -> list[Array]:
    random = np.random.default_rng(7)
    return [random.normal(size=shape).astype(np.float32) for shape in shapes]


BODY = helper.make_graph(
    [helper.make_node("Mul", ["part", "factor"], ["scaled"])],
    "body",
    [tensor("part", ["n", 2]), tensor("factor", [1])],
    [tensor("scaled", ["n", 2])],
)
MAPPED = model(
    [
        helper.make_node("SequenceMap", ["x", "factor"], ["y"], body=BODY),
        helper.make_node("ConcatFromSequence", ["y"], ["joined"], axis=0),
    ],
    [sequence("x", ["n", 2]), tensor("factor", [1])],
    [sequence("y", ["n", 2]), tensor("joined", ["m", 2])],
)


def test_lists_go_in_and_come_out(tmp_path: Path) -> None:
    x, factor = arrays((3, 2), (1, 2), (4, 2)), np.array([2.5], np.float32)
    feeds: dict[str, Any] = {"x": x, "factor": factor}
    path = tmp_path / "mapped.lepton"
    leptonc.compile(MAPPED, dims={"x": 3}, output=path, isolated=False).close()
    with leptonc.load(path) as session:
        outputs = session.run(feeds)
        parts, joined = onnxruntime_gives(MAPPED, feeds)
        assert list(outputs) == ["y", "joined"]
        for mine, theirs in zip(outputs["y"], parts, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        np.testing.assert_array_equal(outputs["joined"], joined)
        with pytest.raises(LeptonError, match="expected a list of 3 tensors, got 2") as raised:
            session.run({**feeds, "x": x[:2]})
        assert raised.value.code == "E701"
        with pytest.raises(LeptonError, match="expected a list of 3 tensors, got ndarray"):
            session.run({**feeds, "x": factor})


def test_the_command_line_names_each_tensor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, made = tmp_path / "mapped.onnx", str(tmp_path / "mapped.lepton")
    path.write_bytes(MAPPED.SerializeToString())
    main(["compile", str(path), "--dim", "x=2", "-o", made])
    capsys.readouterr()
    main(["run", made, "--random", "0", "--dim", "x_0_0=3", "--dim", "x_1_0=1", "--json"])
    outputs = json.loads(capsys.readouterr().out)["outputs"]
    named = {output["name"]: output["type"] for output in outputs}
    assert named == {"y[0]": "float32[3, 2]", "y[1]": "float32[1, 2]", "joined": "float32[4, 2]"}


def test_a_sequence_of_no_known_length_is_refused() -> None:
    with pytest.raises(LeptonError, match="input 'x' is a sequence") as raised:
        import_model(MAPPED)
    assert raised.value.code == "E013"
    assert "--dim x=3" in raised.value.notes[0]


OPTIONAL = model(
    [
        helper.make_node("OptionalHasElement", ["bias"], ["given"]),
        helper.make_node(
            "If", ["given"], ["y"],
            then_branch=helper.make_graph(
                [
                    helper.make_node("OptionalGetElement", ["bias"], ["b"]),
                    helper.make_node("Add", ["x", "b"], ["sum"]),
                ],
                "then", [], [tensor("sum", [2])],
            ),
            else_branch=helper.make_graph(
                [helper.make_node("Neg", ["x"], ["less"])], "else", [], [tensor("less", [2])]
            ),
        ),
    ],
    [tensor("x", [2]), optional("bias", [2])],
    [tensor("y", [2])],
)  # fmt: skip


def test_an_optional_is_there_or_not() -> None:
    x, bias = arrays((2,), (2,))
    with leptonc.compile(OPTIONAL, dims={"bias": 1}, isolated=False) as session:
        np.testing.assert_array_equal(session.run({"x": x, "bias": bias})["y"], x + bias)
    with leptonc.compile(OPTIONAL, dims={"bias": 0}, isolated=False) as session:
        np.testing.assert_array_equal(session.run({"x": x})["y"], -x)
        np.testing.assert_array_equal(session.run({"x": x, "bias": None})["y"], -x)
        with pytest.raises(LeptonError, match="expected nothing, got ndarray"):
            session.run({"x": x, "bias": bias})


CHOSEN = model(
    [
        helper.make_node("SequenceConstruct", ["a", "b", "c"], ["s"]),
        helper.make_node("SequenceAt", ["s", "at"], ["one"]),
        helper.make_node("SequenceErase", ["s", "at"], ["less"]),
        helper.make_node("SequenceInsert", ["s", "d", "at"], ["more"]),
        helper.make_node("ConcatFromSequence", ["less"], ["short"], axis=0, new_axis=1),
        helper.make_node("ConcatFromSequence", ["more"], ["long"], axis=0, new_axis=1),
    ],
    [*(tensor(name, ["n"]) for name in "abcd"), tensor("at", [], INT)],
    [tensor("one", ["n"]), tensor("short", ["k", "n"]), tensor("long", ["l", "n"])],
)


def test_a_position_of_run_time_chooses_among_tensors_alike() -> None:
    feeds: dict[str, Any] = dict(zip("abcd", arrays((4,), (4,), (4,), (4,)), strict=True))
    with leptonc.compile(CHOSEN, isolated=False) as session:
        for at in range(-3, 3):
            given = {**feeds, "at": np.array(at)}
            found = session.run(given)
            for mine, theirs in zip(found.values(), onnxruntime_gives(CHOSEN, given), strict=True):
                np.testing.assert_array_equal(mine, theirs)
        for at in (3, -4):
            with pytest.raises(LeptonError, match="outside a sequence of 3"):
                session.run({**feeds, "at": np.array(at)})


def test_tensors_that_differ_need_a_known_position() -> None:
    proto = onnx.ModelProto()
    proto.CopyFrom(CHOSEN)
    proto.graph.input[1].type.tensor_type.shape.dim[0].dim_param = "m"
    with pytest.raises(LeptonError, match="gets its position at run time") as raised:
        import_model(proto)
    assert raised.value.code in ("E109", "E020")


def counting(turns: onnx.NodeProto) -> onnx.ModelProto:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["on"]),
            helper.make_node("SequenceAt", ["x", "turn"], ["part"]),
            helper.make_node("SequenceInsert", ["kept", "part", "first"], ["longer"]),
            helper.make_node("Add", ["part", "part"], ["twice"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", INT, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            sequence("kept", ["n"]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            sequence("longer", ["n"]),
            tensor("twice", ["n"]),
        ],
    )
    return model(
        [
            turns,
            helper.make_node("Constant", [], ["first"], value_int=0),
            helper.make_node("SequenceEmpty", [], ["none"]),
            helper.make_node("Loop", ["count", "", "none"], ["turned", "rows"], body=body),
        ],
        [sequence("x", ["n"]), tensor("told", [], INT)],
        [sequence("turned", ["n"]), tensor("rows", ["t", "n"])],
    )


def test_a_loop_that_carries_a_sequence_takes_known_turns() -> None:
    proto = counting(helper.make_node("SequenceLength", ["x"], ["count"]))
    x = arrays((2,), (2,), (2,))
    feeds: dict[str, Any] = {"x": x, "told": np.array(0)}
    with leptonc.compile(proto, dims={"x": 3}, isolated=False) as session:
        found = session.run(feeds)
        for mine, theirs in zip(found["turned"], x[::-1], strict=True):
            np.testing.assert_array_equal(mine, theirs)
        np.testing.assert_array_equal(found["rows"], 2 * np.stack(x))
    with pytest.raises(LeptonError, match="turns have to be known"):
        import_model(counting(helper.make_node("Identity", ["told"], ["count"])), dims={"x": 3})
