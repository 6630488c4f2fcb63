"""Optimised models keep sequences and optionals in their signature."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import leptonc
from leptonc.ir.diagnostics import LeptonError
from tests.peer import onnxruntime_gives

KEYS = np.arange(6, dtype=np.float32).reshape(2, 3)


def _tensor(shape: list[int | str]) -> onnx.TypeProto:
    return helper.make_tensor_type_proto(TensorProto.FLOAT, shape)


ROWS = _tensor(["n", 3])
MANY = helper.make_sequence_type_proto(ROWS)
PERHAPS = helper.make_optional_type_proto(ROWS)
PERHAPS_MANY = helper.make_optional_type_proto(MANY)


def _model(
    nodes: list[Any], inputs: dict[str, onnx.TypeProto], outputs: dict[str, onnx.TypeProto]
) -> onnx.ModelProto:
    taken, given = (
        [helper.make_value_info(name, kind, f"what {name} is") for name, kind in side.items()]
        for side in (inputs, outputs)
    )
    made = [helper.make_node(*args, **more) for *args, more in nodes]
    graph = helper.make_graph(made, "g", taken, given)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def _same_signature(written: onnx.ModelProto, source: onnx.ModelProto) -> None:
    checker: Any = onnx.checker
    checker.check_model(written, full_check=True)
    for ours, theirs in (
        (written.graph.input, source.graph.input), (written.graph.output, source.graph.output),
    ):  # fmt: skip
        assert [item.name for item in ours] == [item.name for item in theirs]
        assert [item.type.WhichOneof("value") for item in ours] == [
            item.type.WhichOneof("value") for item in theirs
        ]
        assert [item.doc_string for item in ours] == [item.doc_string for item in theirs]


def _same(written: onnx.ModelProto, source: onnx.ModelProto, **feeds: Any) -> None:
    _same_signature(written, source)
    expected = onnxruntime_gives(source, feeds)
    for got, want in zip(onnxruntime_gives(written, feeds), expected, strict=True):
        _same_value(got, want)


def _same_value(got: Any, want: Any) -> None:
    """Arrays, and lists of them, and nothing."""
    assert type(got) is type(want)
    if want is None:
        return
    assert len(got) == len(want)
    for ours, theirs in zip(got, want, strict=True):
        np.testing.assert_allclose(ours, theirs)


def test_sequences_stay_sequences() -> None:
    source = _model(
        [
            ("Relu", ["a"], ["r"], {}), ("Neg", ["r"], ["m"], {}),
            ("SequenceConstruct", ["r", "m", "m"], ["many"], {}), ("Exp", ["m"], ["y"], {}),
        ],
        {"a": ROWS}, {"many": MANY, "y": ROWS},
    )  # fmt: skip
    _same(leptonc.optimize(source), source, a=KEYS - 2)


def test_sequences_come_in() -> None:
    source = _model(
        [
            ("ConcatFromSequence", ["many"], ["all"], {"axis": 0}),
            ("Add", ["all", "a"], ["y"], {}), ("Identity", ["many"], ["again"], {}),
        ],
        {"many": MANY, "a": ROWS}, {"y": ROWS, "again": MANY},
    )  # fmt: skip
    written = leptonc.optimize(source, dims={"many": 2}, check=True)
    _same(written, source, many=[KEYS, KEYS[:1]], a=KEYS[:1])


def test_empty_sequences_stay() -> None:
    source = _model(
        [("SequenceEmpty", [], ["none"], {"dtype": 1}), ("Relu", ["a"], ["y"], {})],
        {"a": ROWS}, {"none": MANY, "y": ROWS},
    )  # fmt: skip
    _same(leptonc.optimize(source), source, a=KEYS)


def test_optionals_stay_optional() -> None:
    source = _model(
        [
            ("OptionalGetElement", ["p"], ["t"], {}), ("Relu", ["t"], ["r"], {}),
            ("Optional", ["r"], ["y"], {}),
        ],
        {"p": PERHAPS}, {"y": PERHAPS},
    )  # fmt: skip
    with pytest.warns(UserWarning, match="a run must give it"):
        written = leptonc.optimize(source, check=True)
    _same(written, source, p=KEYS - 2)


def test_optionals_need_an_opset_that_has_them() -> None:
    source = _model(
        [("OptionalGetElement", ["p"], ["t"], {}), ("Relu", ["t"], ["y"], {})],
        {"p": PERHAPS}, {"y": ROWS},
    )  # fmt: skip
    with (
        pytest.warns(UserWarning, match="a run must give it"),
        pytest.raises(LeptonError, match="'p' is optional, which needs opset 15, not 13"),
    ):
        leptonc.optimize(source, opset=13)
