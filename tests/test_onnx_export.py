"""What is exported is valid, and onnxruntime computes the same with it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx import helper as h

from leptonc import onnx_write
from leptonc.ir.blob import Array, Blob
from leptonc.ir.build import Builder
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.graph import Graph, Region, Value
from leptonc.ir.interpret import interpret
from leptonc.ir.text import parse_graph
from leptonc.ir.types import DType, TensorType
from leptonc.onnx_export import export_model, save_model
from leptonc.onnx_import import import_model
from leptonc.onnx_surgeon import surgeon_graph
from tests.peer import onnxruntime_gives
from tests.robustness.models import const, model, node, untyped, value

X = np.random.default_rng(2).standard_normal((2, 3, 4)).astype(np.float32)


def graph_of(text: str) -> Graph:
    return parse_graph(text, "test")


def check_whole(exported: onnx.ModelProto | str) -> None:
    checker: Any = onnx.checker
    checker.check_model(exported, full_check=True)


def checked(graph: Graph, opset: int | None = None) -> onnx.ModelProto:
    exported = export_model(graph, opset)
    check_whole(exported)
    return exported


def compare(graph: Graph, **feeds: Array) -> onnx.ModelProto:
    exported = checked(graph)
    ours = interpret(graph, feeds)
    theirs = onnxruntime_gives(exported, feeds)
    assert [item.name for item in exported.graph.output] == list(ours)
    for mine, other in zip(ours.values(), theirs, strict=True):
        assert mine.dtype == other.dtype
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)
    return exported


def ops_of(exported: onnx.ModelProto) -> list[str]:
    return [item.op_type for item in exported.graph.node]


def test_names_and_metadata_come_back() -> None:
    source = model(
        [
            node("Add", ("x", "w"), ("hidden",), name="first"),
            node("Relu", ("hidden",), name="second"),
        ],
        inputs=[value("x", ("batch", 2))],
        initializers=[const("w", [1, 2], np.float32)],
    )
    source.doc_string, source.model_version = "what it is for", 3
    source.metadata_props.add(key="author", value="someone")
    exported = checked(import_model(source))
    assert [item.name for item in exported.graph.node] == ["first", "second"]
    assert [item.name for item in exported.graph.initializer] == ["w"]
    assert exported.graph.node[0].output == ["hidden"]
    assert exported.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert exported.doc_string == "what it is for"
    assert exported.model_version == 3
    assert [(item.key, item.value) for item in exported.metadata_props] == [("author", "someone")]


def test_attributes_and_absent_operands_come_back() -> None:
    source = model(
        [
            node("Clip", ("x", "", "m"), ("c",)),
            node("Transpose", ("c",), ("t",), perm=[2, 0, 1]),
            node("Cast", ("t",), ("h",), to=TensorProto.FLOAT16),
            node("Cast", ("h",), ("f",), to=TensorProto.FLOAT),
            node("LeakyRelu", ("f",), alpha=0.5),
        ],
        inputs=[value("x", (2, 3, 4))],
        initializers=[const("m", 1, np.float32)],
    )
    exported = compare(import_model(source), x=X)
    assert ops_of(exported) == ["Clip", "Transpose", "Cast", "Cast", "LeakyRelu"]
    assert list(exported.graph.node[0].input) == ["x", "", "m"]


def test_outputs_that_are_inputs_constants_or_twice_the_same() -> None:
    graph = graph_of(
        """graph @g(%x: f32[2]) -> (a: f32[2], b: f32[2], c: f32[2], d: f32[2]) {
  %k = const() {value = dense([1, 2])} : f32[2]
  %y = relu(%x) : f32[2]
  return %x, %k, %y, %y
}"""
    )
    exported = compare(graph, x=np.array([-1, 2], np.float32))
    assert ops_of(exported) == ["Relu", "Identity", "Identity", "Identity"]


def test_extents_are_computed_from_shapes() -> None:
    source = model(
        [
            node("Shape", ("x",), ("s",)),
            node("Gather", ("s", "i"), ("n",)),
            node("Mul", ("n", "three"), ("m",)),
            node("Concat", ("m", "minus"), ("t",), axis=0),
            node("Reshape", ("x", "t")),
        ],
        inputs=[value("x", ("n", 6))],
        initializers=[const("i", [0]), const("three", [3]), const("minus", [-1])],
    )
    graph = import_model(source)
    reshape = graph.outputs[0].producer
    assert reshape is not None
    build = Builder(graph, before=reshape)
    content = reshape.operands[1].content
    assert content is not None
    n = content[0]
    extents = (n, n // 5 + 2, -n // 4 + 7, 5)
    attrs = {"value": extents, "shape": (2, 2), "dtype": DType.I32}
    dims = build.op("dims", [], attrs).result
    graph.output_names = ("y", "d")
    graph.terminator.set_operands([graph.outputs[0], dims])
    feeds = {"x": np.arange(24, dtype=np.float32).reshape(4, 6)}
    y, d = onnxruntime_gives(checked(graph), feeds)
    assert y.shape == (12, 2)
    assert d.dtype == np.int32
    assert d.tolist() == [[12, 12 // 5 + 2], [-12 // 4 + 7, 5]]


def test_extents_that_no_value_has_are_refused() -> None:
    graph = Graph("g", [Value(TensorType(DType.F32, (2,)), "x")], ["y"])
    build = Builder(graph)
    attrs = {"value": (graph.fresh_dim(),), "shape": (1,), "dtype": DType.I64}
    build.return_(build.op("dims", [], attrs).result)
    with pytest.raises(LeptonError, match="no value has the extent u1_") as caught:
        export_model(graph)
    assert caught.value.code == "E022"


def test_groups_are_taken_apart() -> None:
    graph = Graph("g", [Value(TensorType(DType.F32, (2, 3, 4)), "x")], ["y"])
    build = Builder(graph)
    two = build.const(np.array(2, np.float32))
    inner = Region(
        [Value(value.type, name) for value, name in ((graph.inputs[0], "a"), (two, "b"))]
    )
    body = Builder(inner, graph=graph)
    body.return_(body.relu(body.mul(*inner.inputs)))
    build.return_(build.op("group", [graph.inputs[0], two], regions=[inner]).result)
    assert ops_of(compare(graph, x=X)) == ["Mul", "Relu"]


@pytest.mark.parametrize("transposed", [False, True])
def test_linear_becomes_a_product_and_a_sum(*, transposed: bool) -> None:
    graph = Graph("g", [Value(TensorType(DType.F32, (2, 3, 4)), "x")], ["y"])
    build = Builder(graph)
    weights = X[0].reshape((3, 4) if transposed else (4, 3))
    w, bias = build.const(weights), build.const(np.ones(3, np.float32))
    names = ("x", "w", "bias")
    linear = build.op("linear", [graph.inputs[0], w, bias], {"transposed": transposed}, names=names)
    build.return_(linear.result)
    expected = ["Reshape", "Gemm", "Reshape"] if transposed else ["MatMul", "Add"]
    assert ops_of(compare(graph, x=X)) == expected


@pytest.mark.parametrize(
    ("call", "made"),
    [
        ("%x, %w, bias=%b) : ", ["Gemm"]),
        ("%x, %t, bias=%b) {transposed = true} : ", ["Gemm"]),
        ("%x, %t) {transposed = true} : ", ["Gemm"]),
        ("%x, %w) : ", ["MatMul"]),
    ],
)
@pytest.mark.parametrize("dtype", ["f32", "f64", "i64"])
def test_linear_on_rows_is_one_node(call: str, made: list[str], dtype: str) -> None:
    graph = graph_of(
        f"graph @g(%x: {dtype}[n,4]) -> (y: {dtype}[n,3]) {{\n"
        f"  %w = const() {{value = random(1)}} : {dtype}[4,3]\n"
        f"  %t = const() {{value = random(2)}} : {dtype}[3,4]\n"
        f"  %b = const() {{value = random(3)}} : {dtype}[3]\n"
        f"  %y = linear({call}{dtype}[n,3]\n  return %y\n}}\n"
    )
    x = np.arange(20).reshape(5, 4).astype(DType(dtype).numpy)
    exported = compare(graph, x=x)
    if dtype == "i64":
        assert "Gemm" not in ops_of(exported)
    else:
        assert ops_of(exported) == made


def test_operations_without_an_onnx_form_are_refused() -> None:
    graph = Graph("g", [Value(TensorType(DType.F32, (1, 16, 4, 4)), "x")], ["y"])
    build = Builder(graph)
    build.return_(build.op("pack_channels", [graph.inputs[0]], {"lanes": 8}).result)
    with pytest.raises(LeptonError, match="pack_channels has no ONNX form"):
        export_model(graph)


def test_control_flow_comes_back() -> None:
    then = h.make_graph([node("Add", ("x", "x"), ("t",))], "t", [], [untyped("t")])
    other = h.make_graph([node("Neg", ("x",), ("e",))], "e", [], [untyped("e")])
    body = h.make_graph(
        [node("Identity", ("go",), ("again",)), node("Add", ("v", "x"), ("w",))],
        "body",
        [value("i", (), TensorProto.INT64), value("go", (), TensorProto.BOOL), value("v")],
        [untyped("again"), untyped("w"), untyped("v")],
    )
    source = model(
        [
            node("If", ("c",), ("chosen",), then_branch=then, else_branch=other),
            h.make_node("Loop", ["n", "", "chosen"], ["y", "all"], body=body),
        ],
        inputs=[value("c", (), TensorProto.BOOL), value("x"), value("n", (), TensorProto.INT64)],
        outputs=[untyped("y"), untyped("all")],
    )
    for chosen in (True, False):
        feeds = {"c": np.array(chosen), "x": np.array([1, 2], np.float32), "n": np.array(3)}
        compare(import_model(source), **feeds)


def test_a_branch_that_gives_back_an_outer_value() -> None:
    then = h.make_graph([node("Identity", ("x",), ("t",))], "t", [], [untyped("t")])
    other = h.make_graph([node("Neg", ("x",), ("e",))], "e", [], [untyped("e")])
    source = model(
        [node("If", ("c",), then_branch=then, else_branch=other)],
        inputs=[value("c", (), TensorProto.BOOL), value("x")],
    )
    graph = import_model(source)
    choice = graph.outputs[0].producer
    assert choice is not None
    region = choice.regions[0]
    (copy,) = [op for op in region if op.name == "identity"]
    copy.result.replace_uses_with(copy.operands[0])
    region.erase(copy)
    compare(graph, c=np.array(True), x=np.array([1, 2], np.float32))


@pytest.mark.parametrize(
    "dtype",
    [
        np.float16, np.float64, np.int8, np.uint64, np.bool_, ml_dtypes.bfloat16, ml_dtypes.int4,
        ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e4m3fnuz, ml_dtypes.float8_e5m2,
        ml_dtypes.float8_e5m2fnuz, ml_dtypes.uint4, ml_dtypes.float4_e2m1fn,
    ],
)  # fmt: skip
def test_constants_of_every_type_come_back(dtype: Any) -> None:
    data = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]).astype(dtype)
    graph = Graph("g", [Value(TensorType(DType.F32, (2,)), "x")], ["y"])
    build = Builder(graph)
    build.return_(build.const(data))
    exported = export_model(graph)
    back = onnx.numpy_helper.to_array(exported.graph.initializer[0])
    assert back.dtype == data.dtype
    assert back.tobytes() == data.tobytes()


def test_text_constants_come_back() -> None:
    data = np.array(["a", "ünï"], object)
    graph = Graph("g", [Value(TensorType(DType.F32, (2,)), "x")], ["y"])
    build = Builder(graph)
    build.return_(build.const(Blob.of(data)))
    assert interpret(import_model(checked(graph)), {"x": np.zeros(2, np.float32)})[
        "y"
    ].tolist() == [
        "a",
        "ünï",
    ]


def test_the_opset_is_the_oldest_that_has_everything() -> None:
    old = model([node("Relu")])
    new = model([node("RMSNormalization", ("x", "x"))], opset=23)
    assert checked(import_model(old)).opset_import[0].version == 21
    assert checked(import_model(new)).opset_import[0].version == 23
    assert checked(import_model(old), 24).opset_import[0].version == 24
    with pytest.raises(LeptonError, match="rms_normalization needs opset 23, not 22"):
        export_model(import_model(new), 22)


def test_other_domains_are_imported() -> None:
    source = model([node("QuickGelu", domain="com.microsoft")], domains=["com.microsoft"])
    exported = checked(import_model(source))
    assert [(item.domain, item.version) for item in exported.opset_import] == [
        ("", 21),
        ("com.microsoft", 1),
    ]


def test_values_of_one_name_are_told_apart() -> None:
    graph = Graph("g", [Value(TensorType(DType.F32, (2,)), "y")], ["y"])
    build = Builder(graph)
    build.return_(build.relu(build.neg(graph.inputs[0])))
    exported = export_model(graph)
    check_whole(exported)
    assert len({exported.graph.input[0].name, *exported.graph.node[0].output, "y"}) == 3


def test_graphs_of_graphsurgeon_go_in_and_come_out() -> None:
    source = model(
        [node("Add", ("x", "w"), ("s",), name="sum"), node("Relu", ("s",))],
        initializers=[const("w", [1, -5], np.float32)],
    )
    edited = surgeon_graph(import_model(source))
    assert [item.op for item in edited.nodes] == ["Add", "Relu"]
    edited.nodes[1].op = "Neg"
    (y,) = interpret(import_model(edited), {"x": np.array([1, 2], np.float32)}).values()
    assert y.tolist() == [-2, 3]


# files


def weighty() -> Graph:
    source = model(
        [node("Add", ("x", "w"), ("s",)), node("Mul", ("s", "small"))],
        inputs=[value("x", (1000,))],
        initializers=[
            const("w", np.arange(1000), np.float32),
            const("small", 2, np.float32),
        ],
    )
    return import_model(source)


def test_a_saved_model_runs(tmp_path: Path) -> None:
    save_model(weighty(), tmp_path / "m.onnx")
    assert os.listdir(tmp_path) == ["m.onnx"]
    feeds = {"x": np.ones(1000, np.float32)}
    expected = interpret(weighty(), feeds)["y"]
    assert onnxruntime_gives(tmp_path / "m.onnx", feeds)[0].tolist() == expected.tolist()


def test_constants_beyond_the_limit_go_beside_the_model(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    save_model(weighty(), path, inline_limit=100)
    assert path.stat().st_size < 1000
    (data,) = [name for name in os.listdir(tmp_path) if name != "m.onnx"]
    assert (tmp_path / data).stat().st_size == 4000
    check_whole(str(path))
    feeds = {"x": np.ones(1000, np.float32)}
    expected = interpret(weighty(), feeds)["y"].tolist()
    assert onnxruntime_gives(path, feeds)[0].tolist() == expected
    assert interpret(import_model(path), feeds)["y"].tolist() == expected


def test_a_message_cannot_hold_more_than_two_gigabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leptonc.onnx_write.INLINE_LIMIT", 1000)
    with pytest.raises(LeptonError, match="4004 bytes of constants, one message holds 1000"):
        export_model(weighty())


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(onnx_write.os, "fsync", full)
    with pytest.raises(LeptonError, match="no space left") as caught:
        save_model(weighty(), path)
    assert caught.value.code == "E022"
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["m.onnx"]


@pytest.mark.parametrize("block", [0, 16])
def test_weights_of_bytes(block: int) -> None:
    scales = "" if not block else "  %s = const() {value = random(2)} : f32[3,5]\n"
    call = "%x, %w" if not block else f"%x, %w, scales=%s) {{block_size = {block}}}"
    text = (
        "graph @g(%x: f32[n,40]) -> (y: f32[n,5]) {\n"
        f"  %w = const() {{value = random(1)}} : i8[40,5]\n{scales}"
        f"  %y = linear_bytes({call}{'' if block else ')'} : f32[n,5]\n  return %y\n}}\n"
    )
    graph = parse_graph(text, "test")
    feeds = {"x": np.random.default_rng(0).standard_normal((3, 40)).astype(np.float32)}
    expected = interpret(graph, feeds)["y"]
    model = export_model(graph)
    for again in (interpret(import_model(model), feeds)["y"], *onnxruntime_gives(model, feeds)):
        np.testing.assert_allclose(again, expected, rtol=1e-5, atol=1e-3)
    if block:
        with pytest.raises(LeptonError, match="linear_bytes needs opset 21, not 18"):
            export_model(graph, 18)
