"""Models come in whole: names, metadata, constants without copies, functions, subgraphs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx import helper as h

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.graph import Graph
from leptonc.ir.interpret import interpret
from leptonc.ir.types import DType
from leptonc.ir.verify import verify
from leptonc.onnx_import import ImportNotice, import_model
from tests.robustness.models import F32, I64, const, external, model, node, untyped, value

BOOL = TensorProto.BOOL


def imported(source: Any, **options: Any) -> Graph:
    graph = import_model(source, **options)
    verify(graph)
    return graph


def run(source: Any, **feeds: Any) -> list[Array]:
    return list(interpret(imported(source), feeds).values())


def names_of(graph: Graph) -> list[str]:
    return [op.name for op in graph]


def f32(*numbers: float) -> Array:
    return np.array(numbers, np.float32)


def test_names_locations_and_metadata_are_kept() -> None:
    source = model([node("Relu", ("x",), ("hidden",), name="first"), node("Neg", ("hidden",))])
    source.producer_name, source.producer_version = "a tool", "1.2"
    source.doc_string, source.model_version = "what it is for", 7
    source.metadata_props.add(key="author", value="someone")
    graph = imported(source)
    relu, neg, _ = graph
    assert graph.inputs[0].name == "x"
    assert graph.output_names == ("y",)
    assert relu.result.name == "hidden"
    assert relu.location.nodes == ("first",)
    assert neg.location.nodes == ("Neg_1",)
    assert graph.metadata == {
        "producer_name": "a tool", "producer_version": "1.2", "model_version": "7",
        "doc_string": "what it is for", "opset": "20", "custom.author": "someone",
    }  # fmt: skip


def test_a_path_bytes_and_a_message_give_the_same(tmp_path: Path) -> None:
    source = model([node("Add", ("x", "w"))], initializers=[const("w", [1, 2], np.float32)])
    path = tmp_path / "m.onnx"
    path.write_bytes(source.SerializeToString())
    for given in (source, source.SerializeToString(), path, str(path)):
        assert run(given, x=f32(0, 0))[0].tolist() == [1, 2]


# constants


def test_large_constants_of_a_file_are_views_of_the_mapped_file(tmp_path: Path) -> None:
    data = np.arange(100_000, dtype=np.float32)
    nodes = [
        node("Constant", (), ("c",), value=onnx.numpy_helper.from_array(data * 2, "c")),
        node("Add", ("x", "w"), ("s",)),
        node("Add", ("s", "c")),
    ]
    source = model(
        nodes,
        inputs=[value("x", (100_000,))],
        initializers=[onnx.numpy_helper.from_array(data, "w")],
    )
    path = tmp_path / "m.onnx"
    path.write_bytes(source.SerializeToString())
    blobs = [op.result.blob for op in imported(path) if op.name == "const"]
    assert len(blobs) == 2
    for blob, expected in zip(blobs, (data, data * 2), strict=True):
        assert blob is not None
        assert blob.array.tolist() == expected.tolist()
        assert not blob.array.flags.owndata
        assert not blob.array.flags.writeable


def test_external_data_is_mapped_and_not_read(tmp_path: Path) -> None:
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(2**40)  # a sparse file of a terabyte: reading it would not end
    source = model(
        [node("Add", ("x", "w"))],
        inputs=[value("x", (2**30, 2**8))],
        initializers=[external("w.bin", (2**30, 2**8))],
    )
    path = tmp_path / "m.onnx"
    path.write_bytes(source.SerializeToString())
    blob = imported(path).inputs[0].users[0].operands[1].blob
    assert blob is not None
    assert not blob.array[2**29].any()


@pytest.mark.parametrize(
    "dtype",
    [
        np.float32, np.float16, np.float64, np.int8, np.int16, np.int32, np.int64, np.uint8,
        np.uint16, np.uint32, np.uint64, np.bool_, np.complex64, np.complex128, ml_dtypes.bfloat16,
        ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e4m3fnuz, ml_dtypes.float8_e5m2,
        ml_dtypes.float8_e5m2fnuz, ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.int2, ml_dtypes.uint2,
        ml_dtypes.float4_e2m1fn,
    ],
)  # fmt: skip
@pytest.mark.parametrize("raw", [True, False])
def test_tensors_of_every_type_and_form(dtype: Any, *, raw: bool) -> None:
    data = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]).astype(dtype)
    kind = h.np_dtype_to_tensor_dtype(np.dtype(dtype))
    tensor = onnx.numpy_helper.from_array(data, "w")
    if not raw and np.dtype(dtype).name not in ("int2", "uint2"):  # onnx makes those raw only
        tensor = h.make_tensor("w", kind, data.shape, data.reshape(-1))
        assert not tensor.raw_data
    graph = imported(model([node("Identity", ("w",))], initializers=[tensor]))
    blob = graph.outputs[0].producer.operands[0].blob if graph.outputs[0].producer else None
    assert blob is not None
    assert blob.array.dtype == data.dtype
    assert blob.array.tobytes() == data.tobytes()


def test_text_tensors() -> None:
    texts = np.array(["a", "ünï"], object)
    tensor = onnx.numpy_helper.from_array(texts, "w")
    (y,) = run(model([node("Identity", ("w",))], initializers=[tensor]), x=f32(0, 0))
    assert y.tolist() == ["a", "ünï"]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"value": const("", [1, 2])}, np.array([1, 2], np.int64)),
        ({"value_float": 1.5}, np.float32(1.5)),
        ({"value_floats": [1.5, 2.0]}, np.array([1.5, 2], np.float32)),
        ({"value_int": 3}, np.int64(3)),
        ({"value_ints": [3, 4]}, np.array([3, 4], np.int64)),
        ({"value_string": "a"}, np.array("a", object)),
        ({"value_strings": ["a", "b"]}, np.array(["a", "b"], object)),
    ],
)
def test_constant_nodes_in_all_their_forms(attributes: dict[str, Any], expected: Any) -> None:
    (y,) = run(model([node("Constant", (), **attributes)]), x=f32(0, 0))
    assert y.dtype == np.asarray(expected).dtype
    assert y.tolist() == np.asarray(expected).tolist()


@pytest.mark.parametrize("indices", [[1, 5], [[0, 1], [1, 2]]])
def test_sparse_constants(indices: Sequence[Any]) -> None:
    values = const("w", [7, 8], np.float32)
    sparse = h.make_sparse_tensor(values, const("i", indices), [2, 3])
    source = model([node("Constant", (), sparse_value=sparse)])
    (y,) = run(source, x=f32(0, 0))
    assert y.tolist() == [[0, 7, 0], [0, 0, 8]]


def test_initialisers_listed_as_inputs_are_fixed() -> None:
    source = model(
        [node("Add", ("x", "w"))],
        inputs=[value("x"), value("w")],
        initializers=[const("w", [1, 2], np.float32)],
    )
    graph = imported(source)
    assert [item.name for item in graph.inputs] == ["x"]


def test_unused_initialisers_are_left_out() -> None:
    source = model([node("Relu")], initializers=[const("w", [1, 2], np.float32)])
    assert names_of(imported(source)) == ["relu", "return"]


# extents


def test_names_of_extents_become_identifiers() -> None:
    shape = ("batch-size", "2nd", "é", None, "?", "u1_", "max")
    graph = imported(model([node("Relu")], inputs=[value("x", shape)]))  # pyright: ignore[reportArgumentType]
    assert str(graph.inputs[0].type) == "f32[batch_size,d2nd,d,x_3,x_4,u1,maxd]"


def test_names_that_would_become_one_stay_two() -> None:
    graph = imported(model([node("Relu")], inputs=[value("x", ("a-b", "a.b", "a-b"))]))
    assert str(graph.inputs[0].type) == "f32[a_b,a_b_2,a_b]"


def test_expressions_are_read_where_their_symbols_are_extents_too() -> None:
    inputs = [value("x", ("seq", "2*seq+1")), value("z", ("3*other",))]
    graph = imported(model([node("Relu")], inputs=inputs))
    assert [str(item.type) for item in graph.inputs] == ["f32[seq,2*seq+1]", "f32[d3_other]"]


def test_dims_fix_and_rename_extents() -> None:
    source = model([node("Relu")], inputs=[value("x", ("batch-size", "seq", "h"))])
    graph = imported(source, dims={"batch-size": 2, "h": "height"})
    assert str(graph.inputs[0].type) == "f32[2,seq,height]"
    assert str(imported(source, dims={"batch_size": 2}).inputs[0].type) == "f32[2,seq,h]"


def test_dims_that_no_input_has_are_refused() -> None:
    source = model([node("Relu")], inputs=[value("x", ("batch", "seq"))])
    with pytest.raises(LeptonError, match="called 'sec'") as caught:
        import_model(source, {"sec": 3})
    assert caught.value.code == "E021"
    assert "did you mean 'seq'" in str(caught.value)
    with pytest.raises(LeptonError, match="cannot be -1"):
        import_model(source, {"seq": -1})


def test_an_input_without_a_rank_is_refused() -> None:
    made = h.make_tensor_value_info("x", F32, None)
    with pytest.raises(LeptonError, match="does not say how many dimensions"):
        import_model(model([node("Relu")], inputs=[made]))


# operands and results


def test_optional_operands_may_be_absent_in_the_middle() -> None:
    source = model([node("Clip", ("x", "", "m"))], initializers=[const("m", 1, np.float32)])
    assert run(source, x=f32(-5, 5))[0].tolist() == [-5, 1]


def test_results_that_a_node_does_not_name() -> None:
    source = model([node("MaxPool", kernel_shape=[2])], inputs=[value("x", (1, 1, 2))])
    assert run(source, x=f32(1, 2).reshape(1, 1, 2))[0].tolist() == [[[2]]]
    parts = model([node("Split", outputs=("", "y"), num_outputs=2)])
    assert run(parts, x=f32(1, 2))[0].tolist() == [2]


def test_operators_of_two_spellings_of_one_domain() -> None:
    source = model([node("Relu", domain="ai.onnx")])
    assert run(source, x=f32(-1, 2))[0].tolist() == [0, 2]


# functions


def scaled() -> onnx.FunctionProto:
    """Give b = alpha * a + bias, where bias is there; alpha is 2 unless given."""
    made = h.make_function(
        "local",
        "Scaled",
        ["a", "bias"],
        ["b", "shape"],
        [
            node("Constant", (), ("alpha",)),
            node("Mul", ("a", "alpha"), ("m",)),
            node("Sum", ("m", "bias"), ("b",)),
            node("Shape", ("a",), ("shape",)),
        ],
        [h.make_opsetid("", 20)],
        attribute_protos=[h.make_attribute("scale", 2.0)],
    )
    made.node[0].attribute.add(name="value_float", ref_attr_name="scale", type=1)
    return made


@pytest.mark.parametrize(("given", "factor"), [({}, 2), ({"scale": 3.0}, 3)])
def test_functions_take_attributes_and_absent_operands(
    given: dict[str, float], factor: int
) -> None:
    call = node("Scaled", ("x",), ("y",), domain="local", name="call", **given)
    source = model([call], functions=[scaled()], domains=["local"])
    graph = imported(source)
    (y,) = interpret(graph, {"x": f32(1, 2)}).values()
    assert y.tolist() == [factor, 2 * factor]
    assert [op.location.nodes for op in graph if op.name == "mul"] == [("call/Mul_1",)]
    assert graph.outputs[0].name == "y"


def test_functions_are_given_too_much() -> None:
    call = h.make_node("Scaled", ["x", "x", "x"], ["y"], domain="local")
    with pytest.raises(LeptonError, match="is given 3 inputs, takes 2"):
        import_model(model([call], functions=[scaled()], domains=["local"]))
    call = h.make_node("Scaled", ["x"], ["y"], domain="local", speed=3)
    with pytest.raises(LeptonError, match="has no attribute 'speed'"):
        import_model(model([call], functions=[scaled()], domains=["local"]))


def test_operators_without_a_row_are_expanded_as_onnx_says() -> None:
    source = model([node("HannWindow", ("n",))], initializers=[const("n", 4)])
    (y,) = run(source, x=f32(0, 0))
    np.testing.assert_allclose(y, [0, 0.5, 1, 0.5], atol=1e-6)


# control flow


def choice(condition: str = "c") -> onnx.NodeProto:
    """Give x + 1 or -x, both of the x outside."""
    one = node("Constant", (), ("one",), value_floats=[1.0])
    branches = {
        "then_branch": h.make_graph(
            [one, node("Add", ("x", "one"), ("t",))], "t", [], [untyped("t")]
        ),
        "else_branch": h.make_graph([node("Neg", ("x",), ("e",))], "e", [], [untyped("e")]),
    }
    return node("If", (condition,), ("y",), **branches)


def test_a_choice_reads_the_values_around_it() -> None:
    source = model([choice()], inputs=[value("c", (), BOOL), value("x")])
    assert names_of(imported(source)) == ["if", "return"]
    assert run(source, c=np.array(True), x=f32(1, 2))[0].tolist() == [2, 3]
    assert run(source, c=np.array(False), x=f32(1, 2))[0].tolist() == [-1, -2]


def test_a_choice_that_is_known_is_taken() -> None:
    nodes = [
        node("Shape", ("x",), ("s",)),
        node("Constant", (), ("two",), value_ints=[2]),
        node("Equal", ("s", "two"), ("c",)),
        choice(),
    ]
    assert "if" not in names_of(imported(model(nodes)))
    assert run(model(nodes), x=f32(1, 2))[0].tolist() == [2, 3]
    symbolic = model(nodes, inputs=[value("x", ("n",))])
    assert "if" in names_of(imported(symbolic))
    assert "if" not in names_of(imported(symbolic, dims={"n": 5}))


def test_a_loop_carries_collects_and_ends() -> None:
    body = h.make_graph(
        [
            node("Add", ("v", "x"), ("w",)),
            node("Identity", ("w",), ("seen",)),
            node("ReduceSum", ("w",), ("total",), keepdims=0),
            node("Less", ("total", "most"), ("again",)),
        ],
        "body",
        [value("i", (), I64), value("go", (), BOOL), value("v")],
        [untyped("again"), untyped("w"), untyped("seen")],
    )
    source = model(
        [h.make_node("Loop", ["", "", "x"], ["last", "all"], body=body)],
        outputs=[untyped("last"), untyped("all")],
        initializers=[const("most", 10, np.float32)],
    )
    last, seen = run(source, x=f32(1, 2))
    assert last.tolist() == [4, 8]
    assert seen.tolist() == [[2, 4], [3, 6], [4, 8]]


def test_a_loop_may_change_an_extent() -> None:
    body = h.make_graph(
        [node("Identity", ("go",), ("again",)), node("Concat", ("v", "x"), ("w",), axis=0)],
        "body",
        [value("i", (), I64), value("go", (), BOOL), value("v", (None,))],
        [untyped("again"), untyped("w")],
    )
    source = model(
        [h.make_node("Loop", ["n", "", "x"], ["y"], body=body)], initializers=[const("n", 3)]
    )
    graph = imported(source)
    assert str(graph.outputs[0].type) != "f32[2]"
    (y,) = interpret(graph, {"x": f32(1, 2)}).values()
    assert y.tolist() == [1, 2] * 4


def test_a_scan_backwards_along_another_axis() -> None:
    body = h.make_graph(
        [node("Add", ("s", "e"), ("t",)), node("Identity", ("t",), ("o",))],
        "body",
        [value("s", ()), value("e", ())],
        [untyped("t"), untyped("o")],
    )
    scan = h.make_node(
        "Scan", ["zero", "x"], ["last", "all"],
        body=body, num_scan_inputs=1, scan_input_directions=[1], scan_output_directions=[1],
    )  # fmt: skip
    source = model(
        [scan],
        inputs=[value("x", ("n",))],
        outputs=[untyped("last"), untyped("all")],
        initializers=[const("zero", 0, np.float32)],
    )
    last, seen = run(source, x=f32(1, 2, 3))
    assert last.tolist() == 6
    assert seen.tolist() == [6, 5, 3]
    assert str(imported(source).outputs[1].type) == "f32[n]"


def test_the_turns_of_a_loop_that_only_its_limit_ends_are_known() -> None:
    body = h.make_graph(
        [node("Identity", ("go",), ("again",)), node("Neg", ("x",), ("o",))],
        "body",
        [value("i", (), I64), value("go", (), BOOL)],
        [untyped("again"), untyped("o")],
    )
    loop = h.make_node("Loop", ["n", ""], ["y"], body=body)
    assert str(imported(model([loop], initializers=[const("n", 3)])).outputs[0].type) == "f32[3,2]"


# sequences


def test_sequences_are_taken_apart() -> None:
    nodes = [
        node("SplitToSequence", ("x", "sizes"), ("s",), axis=0),
        node("SequenceAt", ("s", "last"), ("end",)),
        node("SequenceInsert", ("s", "end", "first"), ("t",)),
        node("ConcatFromSequence", ("t",), axis=0),
    ]
    source = model(
        nodes,
        inputs=[value("x", (3,))],
        initializers=[const("sizes", [1, 2]), const("last", -1), const("first", 0)],
    )
    assert run(source, x=f32(1, 2, 3))[0].tolist() == [2, 3, 1, 2, 3]


def test_parts_of_sizes_that_a_run_tells() -> None:
    nodes = [
        node("SplitToSequence", ("x", "sizes"), ("s",), axis=0),
        node("SequenceAt", ("s", "last"), ("y",)),
        node("SequenceLength", ("s",), ("n",)),
    ]
    source = model(
        nodes,
        inputs=[value("x", (4,)), value("sizes", (2,), I64)],
        outputs=[untyped("y"), untyped("n")],
        initializers=[const("last", -1)],
    )
    for sizes in ([1, 3], [4, 0]):
        end, count = run(source, x=f32(1, 2, 3, 4), sizes=np.array(sizes))
        assert end.tolist() == [1, 2, 3, 4][sizes[0] :]
        assert count.tolist() == 2


def test_an_optional_input_is_given() -> None:
    optional = h.make_optional_type_proto(h.make_tensor_type_proto(F32, ["n"]))
    source = model(
        [node("OptionalGetElement"), node("OptionalHasElement", outputs=("there",))],
        inputs=[h.make_value_info("x", optional)],
        outputs=[untyped("y"), untyped("there")],
    )
    with pytest.warns(ImportNotice, match="'x' is optional; a run must give it"):
        y, there = run(source, x=f32(1, 2, 3))
    assert y.tolist() == [1, 2, 3]
    assert there.tolist() is True


def test_a_sequence_of_unknown_parts_is_refused() -> None:
    nodes = [node("SplitToSequence", ("x",), ("s",)), node("ConcatFromSequence", ("s",), axis=0)]
    with pytest.raises(LeptonError, match="know its parts at compile time"):
        import_model(model(nodes, inputs=[value("x", ("n",))]))


def test_an_empty_optional() -> None:
    made = h.make_node("Optional", [], ["o"])
    source = model([made, node("OptionalHasElement", ("o",))])
    assert run(source, x=f32(0, 0))[0].tolist() is False


def test_dtypes_of_attributes() -> None:
    graph = imported(model([node("Cast", to=TensorProto.FLOAT16)]))
    (cast, _) = graph
    assert cast.attrs["to"] is DType.F16
