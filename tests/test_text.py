"""Text goes into artefacts and comes out of them, whatever words it is made of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import leptonc
from leptonc.check import check_model
from leptonc.ir.diagnostics import LeptonError
from leptonc.onnx_import import import_model
from leptonc.runtime.session import Session
from leptonc.text_codes import encode_text
from tests.trees import ML, ml_model, ml_node

WORDS = np.array(["red", "blue", "", "grün", "red", "ocher", "ocher"], object)
COLOURS = ["red", "grün", "blue"]


def model(*more: onnx.NodeProto) -> onnx.ModelProto:
    """Text looked up, encoded, moved, compared and made."""
    nodes = [
        ml_node("LabelEncoder", ["place"], keys_strings=COLOURS, values_int64s=[5, 6, 7]),
        ml_node("LabelEncoder", ["word"], "place", keys_int64s=[5, 7], values_strings=["r", "b"]),
        ml_node("OneHotEncoder", ["columns"], cats_strings=["red", "blue"], zeros=1),
        helper.make_node("Concat", ["x", "word"], ["both"], axis=0),
        helper.make_node("Constant", [], ["red"], value_string="red"),
        helper.make_node("Equal", ["x", "red"], ["is_red"]),
        helper.make_node("Equal", ["x", "x"], ["is_itself"]),
        *more,
    ]
    outputs = ["place", "word", "columns", "both", "is_red", "is_itself"]
    return ml_model(nodes, WORDS, [*outputs, *(node.output[0] for node in more)])


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    path: Path = tmp_path_factory.mktemp("text") / "model.lepton"
    leptonc.compile(model(), threads=1, isolated=False, output=path).close()
    with leptonc.load(path) as session:
        yield session


@pytest.mark.parametrize("words", [WORDS, WORDS.astype(str), WORDS[:0], WORDS[3:4], list(WORDS)])
def test_words_in_and_out(session: Session, words: object) -> None:
    found = session.run({"x": words})
    given = [str(word) for word in np.asarray(words)]
    places = [dict(zip(COLOURS, (5, 6, 7), strict=True)).get(word, -1) for word in given]
    names = [{5: "r", 7: "b"}.get(place, "_Unused") for place in places]
    assert found["place"].tolist() == places
    assert found["word"].tolist() == names
    assert found["both"].tolist() == [*given, *names]
    assert found["columns"].tolist() == [[w == "red", w == "blue"] for w in given]
    assert found["is_red"].tolist() == [word == "red" for word in given]
    assert all(found["is_itself"].tolist())


def test_the_signature_says_text(session: Session) -> None:
    assert str(session.signature.inputs[0]) == "str[rows]"
    assert [spec.dtype for spec in session.signature.outputs] == [
        "i64", "str", "f32", "str", "bool", "bool",
    ]  # fmt: skip
    assert set(COLOURS) <= set(session.manifest.words)


@pytest.mark.parametrize("given", [np.zeros(3), np.array(["a", 3], object), WORDS.reshape(1, -1)])
def test_what_is_no_text_is_refused(session: Session, given: object) -> None:
    with pytest.raises(LeptonError) as raised:
        session.run({"x": given})
    assert raised.value.code == "E701"
    assert "expected str[rows]" in raised.value.message


def test_a_category_that_has_to_be_known(tmp_path: Path) -> None:
    node = ml_node("OneHotEncoder", ["y"], cats_strings=["red", "blue"], zeros=0)
    session = leptonc.compile(ml_model([node], WORDS, ["y"]), threads=1, isolated=False)
    assert session.run({"x": ["blue", "red"]})["y"].tolist() == [[0, 1], [1, 0]]
    with pytest.raises(LeptonError) as raised:
        session.run({"x": ["blue", "green"]})
    assert raised.value.code == "E704"
    assert "none of the categories" in raised.value.message


def test_computing_with_text_is_refused_by_name() -> None:
    unique = helper.make_node("Unique", ["x"], ["u"], name="distinct words")
    graph = import_model(model(unique))
    with pytest.raises(LeptonError) as raised:
        encode_text(graph)
    assert raised.value.code == "E802"
    assert raised.value.notes == ["unique at 'distinct words'"]


def test_check_says_so_too() -> None:
    unique = helper.make_node("Unique", ["x"], ["u"], name="distinct words")
    report = check_model(model(unique), lambda op: "")
    assert [(item.op, item.nodes) for item in report.findings] == [("Unique", ("distinct words",))]
    assert "not computed with" in report.findings[0].reason
    assert check_model(model(), lambda op: "").is_supported


def test_keys_that_share_words_with_others_are_found() -> None:
    """Places of words come from the first list that has them; a later list may mix them."""
    nodes = [
        ml_node("LabelEncoder", ["a"], keys_strings=["m", "z"], values_int64s=[1, 2]),
        ml_node("LabelEncoder", ["b"], keys_strings=["z", "c", "m"], values_int64s=[3, 4, 5]),
    ]
    given = helper.make_tensor_value_info("x", TensorProto.STRING, ["n"])
    outputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["n"]) for name in "ab"]
    graph = helper.make_graph(nodes, "text", [given], outputs)
    imports = [helper.make_opsetid("", 21), helper.make_opsetid(ML, 4)]
    made = helper.make_model(graph, opset_imports=imports, ir_version=10)
    found = leptonc.compile(made, threads=1, isolated=False).run({"x": ["c", "m", "z", "q"]})
    assert found["a"].tolist() == [-1, 1, 2, -1]
    assert found["b"].tolist() == [4, 5, 3, -1]
