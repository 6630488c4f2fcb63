"""Models that compute with text: letters' case, words left out, strings taken apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info

import leptonc
from leptonc.ir.diagnostics import LeptonError
from leptonc.manifest import Manifest, TensorSpec, TextTable
from leptonc.manifest_reader import parse_manifest
from tests.peer import onnxruntime_gives

WORDS = ["Monday", "tuesday", "", "MONDAY", "straße", "Ünder", "monday", "a b", "Wednesday"]


def text(*words: str) -> np.ndarray[Any, np.dtype[Any]]:
    """One row of strings."""
    row = np.empty(len(words), object)
    row[:] = words
    return row


def model(*nodes: onnx.NodeProto, rank: int = 1, outputs: str = "y") -> onnx.ModelProto:
    """A model of one text input; `outputs` ending in # are numbers."""
    x = make_tensor_value_info("x", TensorProto.STRING, ["n", "m"][:rank])
    ys = [
        make_tensor_value_info(
            name.rstrip("#"), TensorProto.INT64 if name[-1] == "#" else TensorProto.STRING, None
        )
        for name in outputs.split()
    ]
    graph = make_graph(list(nodes), "text", [x], ys)
    return make_model(graph, opset_imports=[make_opsetid("", 20)], ir_version=10)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the models have in common is built once."""
    return tmp_path_factory.mktemp("kernels")


def compiled(proto: onnx.ModelProto, kernels: Path) -> leptonc.Session:
    """The loaded artefact."""
    return leptonc.compile(proto, cache=kernels, isolated=False, threads=1)


@pytest.mark.parametrize("action", ["UPPER", "LOWER", "NONE"])
@pytest.mark.parametrize("sensitive", [0, 1])
def test_words_are_left_out_and_changed_like_in_onnxruntime(
    action: str, sensitive: int, kernels: Path
) -> None:
    """One artefact takes rows of any length, and words that it has never seen."""
    proto = model(
        make_node(
            "StringNormalizer", ["x"], ["y"], case_change_action=action, locale="C",
            is_case_sensitive=sensitive, stopwords=["monday", "Wednesday"],
        )
    )  # fmt: skip
    session = compiled(proto, kernels)
    # its locale decides about letters beyond ASCII, so they are not compared
    for words in (WORDS[:4], ["monday"], ["x", "Wednesday", "wednesday", "y"]):
        (want,) = onnxruntime_gives(proto, {"x": text(*words)})
        found = session.run({"x": text(*words)})["y"]
        assert found.tolist() == want.tolist()


def test_letters_beyond_ascii_have_capitals_too(kernels: Path) -> None:
    """What one letter becomes may be two."""
    node = make_node("StringNormalizer", ["x"], ["y"], case_change_action="UPPER")
    found = compiled(model(node), kernels).run({"x": text(*WORDS)})["y"]
    assert found.tolist() == [word.upper() for word in WORDS]


def test_a_row_in_a_matrix_stays_in_one(kernels: Path) -> None:
    """As do the empty string that stands for nothing left."""
    node = make_node("StringNormalizer", ["x"], ["y"], stopwords=["a"])
    session = compiled(model(node, rank=2), kernels)
    assert session.run({"x": text("a", "b", "A").reshape(1, 3)})["y"].tolist() == [["b"]]
    assert session.run({"x": text("a").reshape(1, 1)})["y"].tolist() == [[""]]


@pytest.mark.parametrize(
    ("delimiter", "maxsplit"), [(None, None), (",", None), ("", 1), (", ", 2), (",", 0)]
)
def test_parts_are_those_that_python_finds(
    delimiter: str | None, maxsplit: int | None, kernels: Path
) -> None:
    """Rows as long as the longest, in any shape, with sizes that only the words tell."""
    attrs = {"delimiter": delimiter, "maxsplit": maxsplit}
    given: dict[str, Any] = {name: value for name, value in attrs.items() if value is not None}
    session = compiled(
        model(make_node("StringSplit", ["x"], ["y", "n"], **given), rank=2, outputs="y n#"), kernels
    )
    for words in (["a,b, c d", "  x  y ", "", "p, q, r, s"], ["one", "two,,three"], ["", ""]):
        x = text(*words).reshape(2, -1)
        found = session.run({"x": x})
        lists = [
            word.split(delimiter or None, -1 if maxsplit is None else maxsplit) for word in words
        ]
        longest = max(map(len, lists))
        rows = [row + [""] * (longest - len(row)) for row in lists]
        assert found["n"].reshape(-1).tolist() == list(map(len, lists))
        assert found["y"].shape == (*x.shape, longest)
        assert found["y"].reshape(len(rows), longest).tolist() == rows


def test_functions_of_words_compose(kernels: Path) -> None:
    """Parts of strings, in capitals, compared with other strings."""
    proto = model(
        make_node("StringSplit", ["x"], ["parts", "n"], delimiter="-"),
        make_node("Reshape", ["parts", "row"], ["flat"]),
        make_node("StringNormalizer", ["flat"], ["y"], case_change_action="UPPER", stopwords=["b"]),
        outputs="y",
    )
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1]), "row"))
    found = compiled(proto, kernels).run({"x": text("a-b", "B-ß", "c")})["y"]
    assert found.tolist() == ["A", "SS", "C", ""]


def test_tables_are_no_inputs_of_the_caller(kernels: Path) -> None:
    """The signature has the model's inputs only."""
    node = make_node("StringNormalizer", ["x"], ["y"], case_change_action="LOWER")
    session = compiled(model(node), kernels)
    assert [spec.name for spec in session.signature.inputs] == ["x"]
    with pytest.raises(LeptonError, match="'x'"):
        session.run({})


def test_capitals_of_other_languages_are_refused_by_name() -> None:
    """In Turkish, the small i has a dot as a capital too."""
    node = make_node(
        "StringNormalizer", ["x"], ["y"], name="n", case_change_action="UPPER", locale="tr_TR"
    )
    with pytest.raises(LeptonError, match="tr_TR"):
        leptonc.compile(model(node))


def test_a_table_must_be_an_input_of_the_program() -> None:
    """A damaged manifest is refused before anything runs."""
    x, y = TensorSpec("x", "str", (2,)), TensorSpec("y", "str", (2,))
    good = Manifest((x, TensorSpec("up", "i64", ("n",))), (y,), tables=(TextTable("up", "upper"),))
    assert parse_manifest(good.to_json(64)).tables == good.tables
    assert good.asked == (x,)
    bad = Manifest((x,), (y,), tables=(TextTable("up", "upper"),))
    with pytest.raises(LeptonError, match="'up' is no input") as error:
        parse_manifest(bad.to_json(64))
    assert error.value.code == "E610"
