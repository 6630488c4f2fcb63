"""C functions get what the header promises, wherever it comes from."""

from __future__ import annotations

import gc
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper as h

import leptonc
from leptonc.artifact import Artifact
from leptonc.driver import import_source
from leptonc.extensions import Attr, Operator
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.interpret import interpret
from leptonc.ir.table import Inference
from leptonc.ir.types import DType, TensorType
from tests.extensions import example
from tests.robustness.models import I64, const, untyped, value

pytestmark = pytest.mark.skipif(example.compiler() is None, reason="there is no C compiler")

WIDTH = 8
PROBE = """
#include <lepton_operator.h>
#define WIDTH 8
LEPTON_OPERATOR_LIBRARY

static double first(const lepton_tensor *t) {
  switch (t->dtype) {
    case LEPTON_BOOL: case LEPTON_U8: return *(const uint8_t *)t->data;
    case LEPTON_I8: return *(const int8_t *)t->data;
    case LEPTON_I32: return *(const int32_t *)t->data;
    case LEPTON_I64: return *(const int64_t *)t->data;
    case LEPTON_F32: return *(const float *)t->data;
    case LEPTON_F64: return *(const double *)t->data;
    default: return -1;
  }
}

/* Row k of the result: rank, type, size, first element and extents of tensor k. */
LEPTON_OPERATOR
int probe(const lepton_tensor *in, int n_in, lepton_tensor *out, int n_out) {
  if (n_out != 2 || out[0].rank != 2 || out[0].shape[1] != WIDTH) return 1;
  double *to = out[0].data;
  for (int k = 0; k < n_in && k < out[0].shape[0]; ++k, to += WIDTH) {
    for (int j = 0; j < WIDTH; ++j) to[j] = 0;
    to[0] = in[k].rank;
    if (in[k].rank < 0) { if (in[k].data) return 2; continue; }
    to[1] = in[k].dtype;
    to[2] = (double)lepton_size(&in[k]);
    to[3] = to[2] ? first(&in[k]) : 0;
    for (int j = 0; j < in[k].rank && j < 4; ++j) to[4 + j] = (double)in[k].shape[j];
  }
  if (out[1].rank >= 0) *(int64_t *)out[1].data = n_in;
  else if (out[1].data) return 3;
  return 0;
}

LEPTON_OPERATOR
int fail(const lepton_tensor *in, int n_in, lepton_tensor *out, int n_out) {
  *(float *)out[0].data = 1;
  return (int)*(const float *)in[0].data;
}
"""
BOOL, INT64, UINT8, FLOAT32, FLOAT64 = 1, 5, 6, 12, 13


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return example.compile_c(PROBE, tmp_path_factory.mktemp("probe") / "probe.so")


def probe(library: Path, rows: int, operands: str = "x, y?, rest*") -> Operator:
    def infer(call: Inference) -> list[TensorType]:
        return [TensorType(DType.F64, (rows, WIDTH)), TensorType(DType.I64, (1,))]

    attrs = {
        "i": Attr("int", required=True), "f": Attr("float", 0.5), "s": Attr("str", "Az"),
        "b": Attr("bool", True), "is": Attr("ints", (7, 8, 9)), "fs": Attr("floats", (0.25,)),
        "none": Attr("int"),
    }  # fmt: skip
    return Operator(
        f"test.probe({operands})", onnx="Probe", domain="test", infer=infer, attrs=attrs,
        library=library, symbol="probe",
    )  # fmt: skip


def model(
    inputs: Sequence[str], weights: Sequence[onnx.TensorProto] = (), *, outputs: Sequence[str],
    before: Sequence[onnx.NodeProto] = (),
) -> onnx.ModelProto:  # fmt: skip
    node = h.make_node("Probe", inputs, ["report", "count"], name="the probe", domain="test", i=-3)
    given = [value("x", ("n", 3)), value("c", (2,), I64)]
    graph = h.make_graph([*before, node], "g", given, [untyped(o) for o in outputs], weights)
    imports = [h.make_opsetid("", 20), h.make_opsetid("test", 1)]
    return h.make_model(graph, opset_imports=imports, ir_version=10)


FEEDS: dict[str, Any] = {"x": np.full((2, 3), 1.5, np.float32), "c": np.array([4, 5])}
ATTRIBUTES = [
    [0, INT64, 1, -3, 0, 0, 0, 0], [0, FLOAT64, 1, 0.5, 0, 0, 0, 0],
    [1, UINT8, 2, ord("A"), 2, 0, 0, 0], [0, BOOL, 1, 1, 0, 0, 0, 0],
    [1, INT64, 3, 7, 3, 0, 0, 0], [1, FLOAT64, 1, 0.25, 1, 0, 0, 0], [-1, 0, 0, 0, 0, 0, 0, 0],
]  # fmt: skip
X_ROW = [2, FLOAT32, 6, 1.5, 2, 3, 0, 0]


def both(source: onnx.ModelProto, operator: Operator) -> list[dict[str, Any]]:
    """What the compiled model gives, and what the interpreter does."""
    with leptonc.compile(source, operators=[operator], isolated=False) as session:
        compiled = session.run(FEEDS)
    return [compiled, interpret(import_source(source, {}, operators=[operator]), FEEDS)]


def test_operands_attributes_and_what_is_absent(library: Path) -> None:
    source = model(["x", "", "c"], outputs=["report", "count", "c"])
    for found in both(source, probe(library, 10)):
        rows = found["report"].tolist()
        assert rows[0] == X_ROW
        assert rows[1] == [-1, 0, 0, 0, 0, 0, 0, 0]
        assert rows[2] == [1, INT64, 2, 4, 2, 0, 0, 0]
        assert rows[3:] == ATTRIBUTES
        assert found["count"].tolist() == [10]


def test_constants_numbers_sizes_and_one_tensor_twice(library: Path) -> None:
    """Also what the code generator would write into kernels has to lie in memory."""
    weights = [const("w", [[2, 3]], np.float32), const("one", 9, np.float64)]
    before = [h.make_node("Shape", ["x"], ["sizes"]), h.make_node("Relu", ["x"], ["r"])]
    source = model(["x", "w", "one", "sizes", "x", "r"], weights, outputs=["report"], before=before)
    for found in both(source, probe(library, 13)):
        rows = found["report"].tolist()
        assert rows[0] == rows[4] == rows[5] == X_ROW
        assert rows[1] == [2, FLOAT32, 2, 2, 1, 2, 0, 0]
        assert rows[2] == [0, FLOAT64, 1, 9, 0, 0, 0, 0]
        assert rows[3] == [1, INT64, 2, 2, 2, 0, 0, 0]
        assert rows[6:] == ATTRIBUTES


def test_operands_of_which_only_the_content_matters_are_passed_all_the_same(library: Path) -> None:
    before = [h.make_node("Shape", ["x"], ["sizes"])]
    source = model(["x", "sizes", "w"], [const("w", [6, 7])], outputs=["report"], before=before)
    for found in both(source, probe(library, 10, "x, a!, b!")):
        rows = found["report"].tolist()
        assert rows[1] == [1, INT64, 2, 2, 2, 0, 0, 0]
        assert rows[2] == [1, INT64, 2, 6, 2, 0, 0, 0]
        assert rows[3:] == ATTRIBUTES


def test_empty_tensors_and_many_threads(library: Path) -> None:
    source, wrong = model(["x"], outputs=["report"]), list[Any]()
    with leptonc.compile(source, operators=[probe(library, 8)], isolated=False) as session:

        def work(rows: int) -> None:
            for _ in range(50):
                x = np.full((rows, 3), rows, np.float32)
                row = session.run({"x": x, "c": FEEDS["c"]})["report"][0].tolist()
                if row != [2, FLOAT32, 3 * rows, rows, rows, 3, 0, 0]:
                    wrong.append(row)

        threads = [threading.Thread(target=work, args=(rows,)) for rows in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def failing(library: Path) -> Operator:
    return Operator(
        "test.fail(x)", onnx="Fail", domain="test", infer=lambda call: call[0].type,
        library=library, symbol="fail",
    )  # fmt: skip


def fail_model() -> onnx.ModelProto:
    node = h.make_node("Fail", ["x"], ["y"], name="the node", domain="test")
    graph = h.make_graph([node], "g", [value("x", (1,))], [untyped("y")])
    imports = [h.make_opsetid("", 20), h.make_opsetid("test", 1)]
    return h.make_model(graph, opset_imports=imports, ir_version=10)


def build(library: Path, path: Path) -> None:
    """The artefact of the model that fails."""
    operators = [failing(library)]
    leptonc.compile(fail_model(), operators=operators, output=path, isolated=False).close()


def test_a_status_that_is_not_0_is_an_error_of_the_run(library: Path) -> None:
    operator = failing(library)
    with leptonc.compile(fail_model(), operators=[operator], isolated=False) as session:
        for status in (7, -1, 2_000_000_000, -(2**31)):
            with pytest.raises(LeptonError, match=f"test.fail failed with status {status}") as told:
                session.run({"x": np.array([status], np.float32)})
            assert told.value.code == "E704"
        assert session.run({"x": np.zeros(1, np.float32)})["y"].tolist() == [1]
    graph = import_source(fail_model(), {}, operators=[operator])
    with pytest.raises(LeptonError, match=r"test\.fail failed with status 3") as told:
        interpret(graph, {"x": np.array([3], np.float32)})
    assert told.value.code == "E704"


def test_a_library_that_is_changed_inside_the_artefact_is_refused(
    library: Path, tmp_path: Path
) -> None:
    path = tmp_path / "m.lepton"
    build(library, path)
    with Artifact.open(path) as artifact:
        assert artifact.manifest.carried == ("operators0.so",)
    data = bytearray(path.read_bytes())
    at = data.index(library.read_bytes()) + 1000
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(LeptonError, match=r"the digest of operators0\.so does not match") as told:
        leptonc.load(path)
    assert told.value.code == "E605"


def test_two_artefacts_of_different_libraries_keep_apart(library: Path, tmp_path: Path) -> None:
    other = PROBE.replace("*(float *)out[0].data = 1;", "*(float *)out[0].data = 2;")
    second = example.compile_c(other, tmp_path / "other.so")
    sessions = [
        leptonc.compile(fail_model(), operators=[failing(path)], isolated=False)
        for path in (library, second)
    ]
    zero = {"x": np.zeros(1, np.float32)}
    assert [session.run(zero)["y"].tolist() for session in sessions] == [[1], [2]]
    for session in sessions:
        session.close()


def test_libraries_go_when_nothing_uses_them(library: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.lepton"
    build(library, path)

    def mapped() -> int:
        return Path("/proc/self/maps").read_text().count("memfd:leptonc")

    gc.collect()
    before = mapped()
    for _ in range(3):
        with leptonc.load(path) as session:
            assert session.run({"x": np.zeros(1, np.float32)})["y"].tolist() == [1]
            assert mapped() > before
        del session
        gc.collect()
    assert mapped() <= before
    for _ in range(3):
        import_source(fail_model(), {}, operators=[failing(library)])
    gc.collect()
    assert mapped() <= before, "nor do those of the interpreter stay"
