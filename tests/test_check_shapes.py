"""Every value's type is told, and for each extent that is not known who left it open."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx import helper as h

from leptonc.check import check_model
from leptonc.cli.main import main as command
from leptonc.ir.graph import Op
from leptonc.shape_report import RUN_TIME, STATIC, SYMBOLIC, OpenExtent, ShapeReport, ShapeRow
from tests.robustness.models import I64, const, graph, model, node, untyped, value


def everything(op: Op) -> str:
    return ""


def loop_body(*, grows: bool) -> onnx.GraphProto:
    """One turn: the carried value, made longer if it `grows`, and x as it is."""
    step = node("Neg", ("v",), ("w",), name="turn")
    if grows:
        step = node("Concat", ("v", "v"), ("w",), name="turn", axis=0)
    return h.make_graph(
        [
            node("Identity", ("go",), ("again",), name="again"),
            step,
            node("Relu", ("x",), ("k",), name="kept"),
        ],
        "body",
        [value("i", (), I64), value("go", (), TensorProto.BOOL), value("v")],
        [untyped(name) for name in ("again", "w", "k")],
    )


def whole() -> onnx.ModelProto:
    """A model with an open extent of every kind; x is f32[n,3]."""
    loop = ("trips", "", "x")
    nodes = [
        node("Shape", ("x",), ("s",), name="shape"),
        node("Relu", ("x",), ("r",), name="relu"),
        node("NonZero", ("x",), ("nz",), name="find"),
        node("Reshape", ("x", "to"), ("flat",), name="by input"),
        node("Cast", ("f",), ("column",), to=I64, name="to integer"),
        node("Squeeze", ("column", "one"), ("wanted",), name="as a row"),
        node("Expand", ("x", "wanted"), ("wide",), name="by data"),
        node("Loop", loop, ("grown", "rows"), body=loop_body(grows=True), name="grow"),
        node("Loop", loop, ("same", "each"), body=loop_body(grows=False), name="turn"),
        node(
            "If", ("c",), ("either",), name="choose",
            then_branch=graph([node("Relu", ("x",), ("t",), name="yes")], ["t"]),
            else_branch=graph([node("Concat", ("x", "x"), ("e",), axis=0, name="no")], ["e"]),
        ),
        node("TopK", ("flat", "most"), ("best", "places"), name="top"),
    ]  # fmt: skip
    outputs = ("r", "nz", "wide", "grown", "rows", "same", "each", "either", "best")
    return model(
        nodes,
        inputs=[
            value("x", ("n", 3)), value("to", (2,), I64), value("f", (2, 1)),
            value("trips", (), I64), value("c", (), TensorProto.BOOL),
        ],
        outputs=[untyped(name) for name in outputs],
        initializers=[const("most", [2]), const("one", [1])],
    )  # fmt: skip


def shapes_of(source: Any, dims: dict[str, int] | None = None) -> ShapeReport:
    found = check_model(source, everything, dims, shapes=True).shapes
    assert found is not None
    return found


def rows_by_value(report: ShapeReport) -> dict[str, ShapeRow]:
    return {row.value: row for row in report.rows}


def opened_by(report: ShapeReport, name: str) -> OpenExtent:
    """The first open extent that a node made."""
    return next(item for item in report.open_extents if item.node == name)


def test_every_value_is_there_with_its_type() -> None:
    rows = rows_by_value(shapes_of(whole()))
    assert rows["x"].known == SYMBOLIC
    assert (rows["x"].op, rows["x"].type) == ("input", "f32[n,3]")
    assert (rows["s"].content, rows["s"].known) == ("[n, 3]", STATIC)
    assert (rows["r"].node, rows["r"].op, rows["r"].known) == ("relu", "Relu", SYMBOLIC)
    assert re.fullmatch(r"i64\[2,u\d+_\]", rows["nz"].type)
    assert rows["nz"].known == RUN_TIME
    assert rows["best"].type.endswith(",2]"), "a constant k is known"
    assert rows["w"].depth == 1
    assert {rows["t"].depth, rows["e"].depth} == {1}
    assert rows["e"].type == "f32[2*n,3]"


def test_each_open_extent_says_who_made_it_and_what_would_settle_it() -> None:
    report = shapes_of(whole())
    find = opened_by(report, "find")
    assert (find.op, find.operand) == ("NonZero", "x")
    assert find.settle.startswith("data-dependent: NonZero")
    by_input = opened_by(report, "by input")
    assert (by_input.operand, by_input.axis) == ("shape", 0)
    assert by_input.settle == "make the input 'to' a constant initializer"
    by_data = opened_by(report, "by data")
    assert by_data.operand == "shape"
    assert "the data of the input 'f'" in by_data.because
    choose = opened_by(report, "choose")
    assert "f32[n,3] and f32[2*n,3]" in choose.because
    fact = "make the input 'c' a constant initializer"
    assert choose.settle == f"the condition of If 'choose': {fact}"
    turn = opened_by(report, "turn")
    assert turn.operand == "max_trip"
    assert (
        turn.settle
        == "the trip count of Loop 'turn': make the input 'trips' a constant initializer"
    )
    grow = opened_by(report, "grow")
    assert "carried value 0 of Loop 'grow' changes its size" in grow.because
    assert "top" not in {item.node for item in report.open_extents}, "it makes none of its own"


def test_every_symbol_is_of_the_inputs_or_has_a_reason() -> None:
    report = shapes_of(whole())
    told = {item.symbol for item in (*report.open_extents, *report.input_extents)}
    free = {name for row in report.rows for name in re.findall(r"u\d+_|\bn\b", row.type)}
    assert free == told
    assert all(item.because and item.settle for item in report.open_extents)
    assert [item.settle for item in report.input_extents] == ["--dim n=N"]


def test_a_fact_settles_what_the_report_says() -> None:
    source = whole()
    source.graph.initializer.extend([const("to", [3, -1]), const("trips", 4)])
    settled = shapes_of(source, {"n": 5})
    rows = rows_by_value(settled)
    assert rows["flat"].type == "f32[3,5]"
    assert rows["each"].type == "f32[4,5,3]"
    assert {item.node for item in settled.open_extents} == {"find", "choose", "grow"}
    assert settled.input_extents == ()
    counts = settled.counts
    assert counts[SYMBOLIC] == 0
    assert sum(counts.values()) == len(settled.rows)


def test_what_is_known_of_a_model_that_is_wrong_is_told() -> None:
    nodes = [
        node("Relu", ("x",), ("r",), name="fine"),
        node("Reshape", ("r", "c"), ("d",), name="wrong"),
        node("Neg", ("d",), ("e",), name="behind"),
    ]
    source = model(nodes, outputs=[untyped("e")], initializers=[const("c", [7])])
    report = check_model(source, everything, shapes=True)
    assert [error.location.nodes for error in report.faults] == [("wrong",)]
    assert report.shapes is not None
    assert rows_by_value(report.shapes)["r"].type == "f32[2]"
    assert {row.node for row in report.shapes.rows} == {"", "fine"}


def test_data_dependent_shapes_of_constants_are_told_by_folding() -> None:
    source = model([node("NonZero", ("w",))], initializers=[const("w", [1, 0, 2], np.float32)])
    (item,) = shapes_of(source).open_extents
    assert item.settle == "constant folding tells it"


def test_the_command_prints_tables_and_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(whole().SerializeToString())
    arguments = ["check", str(path), "--shapes"]
    for extra in ([], ["--json"]):
        with contextlib.suppress(SystemExit):  # whether all of it has kernels is not the question
            command([*arguments, *extra])
        told = capsys.readouterr().out
        if extra:
            found = json.loads(told)["shapes"]
            assert found["summary"][RUN_TIME] > 0
            assert {"symbol", "node", "operand", "settle"} <= set(found["open_extents"][0])
        else:
            assert "f32[n,3]" in told
            assert "make the input 'to' a constant initializer" in told
            assert "--dim n=N" in told
            assert re.search(r"\d+ values: \d+ static, \d+ in the extents of the inputs", told)
