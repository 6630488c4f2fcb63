"""Models that are broken, lying or bombs: a clear error, or the right result, and nothing else."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, TensorProto

from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.interpret import interpret
from leptonc.ir.text import parse_graph, print_graph
from leptonc.onnx_import import ImportNotice, import_model
from leptonc.onnx_limits import Limits
from tests.robustness.models import (
    I64,
    attribute,
    branch,
    call,
    chain,
    const,
    external,
    function,
    graph,
    model,
    nested,
    node,
    relu,
    tensor,
    untyped,
    value,
    with_weight,
)

RELU = relu().SerializeToString()
BIG = 2**63 - 1
MOST = 2**31 - 1
"""The largest extent there may be."""


def pads(**attributes: Any) -> onnx.ModelProto:
    """A convolution of f32[1,1,5,5] by f32[1,1,3,3]."""
    weights = onnx.numpy_helper.from_array(np.ones((1, 1, 3, 3), np.float32), "w")
    return model(
        [node("Conv", ("x", "w"), **attributes)],
        inputs=[value("x", (1, 1, 5, 5))],
        initializers=[weights],
    )


def unary(
    op: str, shape: tuple[int, ...] = (4, 4), opset: int = 20, **attributes: Any
) -> onnx.ModelProto:
    return model([node(op, **attributes)], inputs=[value("x", shape)], opset=opset)


def shaped(
    op: str, operand: Any, shape: tuple[int, ...] = (4, 4), **attributes: Any
) -> onnx.ModelProto:
    """An operator whose second operand is constant."""
    return model(
        [node(op, ("x", "c"), **attributes)],
        inputs=[value("x", shape)],
        initializers=[const("c", operand)],
    )


def twice(name: str) -> onnx.NodeProto:
    made = node("LeakyRelu", alpha=0.1)
    made.attribute.append(onnx.helper.make_attribute(name, 0.2))
    return made


def bad_utf8() -> bytes:
    return (
        model([node("Relu", ("x",), ("abcd",)), node("Relu", ("abcd",))])
        .SerializeToString()
        .replace(b"abcd", b"\xff\xfe\xfd\xfc")
    )


def without(field: str) -> bytes:
    made = relu()
    made.ClearField(field)
    return made.SerializeToString()


def versions(opset: int | None = None, ir: int | None = None) -> onnx.ModelProto:
    made = relu()
    made.producer_name = "a tool of tomorrow"
    if opset is not None:
        made.opset_import[0].version = opset
    if ir is not None:
        made.ir_version = ir
    return made


def sparse(indices: list[int], extent: int = 2) -> onnx.ModelProto:
    values = onnx.numpy_helper.from_array(np.ones(len(indices), np.float32), "w")
    made = onnx.helper.make_sparse_tensor(values, const("w_indices", indices), [extent])
    result = model([node("Add", ("x", "w"))])
    result.graph.sparse_initializer.append(made)
    return result


def in_function(weight: TensorProto) -> onnx.ModelProto:
    body = function(
        "f", [node("Constant", (), ("w",), value=weight), node("Add", ("a", "w"), ("b",))]
    )
    return model([call("f", "x", "y")], functions=[body], domains=["local"])


def doubling(levels: int) -> onnx.ModelProto:
    """Each function calls the one below twice."""
    functions = [function("f0", [node("Relu", ("a",), ("b",))])]
    for level in range(1, levels + 1):
        below = f"f{level - 1}"
        functions.append(function(f"f{level}", [call(below, "a", "m"), call(below, "m", "b")]))
    return model([call(f"f{levels}", "x", "y")], functions=functions, domains=["local"])


def function_chain(levels: int) -> onnx.ModelProto:
    functions = [function("f0", [node("Relu", ("a",), ("b",))])]
    functions += [function(f"f{n}", [call(f"f{n - 1}")]) for n in range(1, levels + 1)]
    return model([call(f"f{levels}", "x", "y")], functions=functions, domains=["local"])


def recursion_through_if() -> onnx.ModelProto:
    inner = node(
        "If", ("cond",), ("b",),
        then_branch=graph([call("g", "a", "t")], ["t"]),
        else_branch=graph([node("Relu", ("a",), ("e",))], ["e"]),
    )  # fmt: skip
    condition = node("Constant", (), ("cond",), value=const("", True, np.bool_))
    functions = [function("f", [condition, inner]), function("g", [call("f")])]
    return model([call("f", "x", "y")], functions=functions, domains=["local"])


Source = "onnx.ModelProto | bytes"

REFUSED: Mapping[str, tuple[Callable[[], Any], str, str]] = {
    # the file
    "01 empty": (lambda: b"", "E011", "it is empty"),
    "02 png": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(100), "E011", "but a PNG image"),
    "02 pickle": (
        lambda: b"\x80\x04\x95" + bytes(40),
        "E011",
        "Python pickle, which is never opened",
    ),
    "02 zip": (lambda: b"PK\x03\x04" + bytes(40), "E011", "a zip archive"),
    "02 lfs pointer": (
        lambda: b"version https://git-lfs.github.com/spec/v1\n",
        "E011",
        "git lfs pull",
    ),
    "02 html": (lambda: b"<!DOCTYPE html><html></html>", "E011", "an HTML or XML page"),
    "02 random": (lambda: np.random.default_rng(1).bytes(500), "E011", "no ONNX model"),
    "03 truncated": (lambda: RELU[:-9], "E011", r"ends at byte \d+ of a field that needs \d+"),
    "04 garbage after": (
        lambda: RELU + b"\0\0\0\0",
        "E011",
        r"first \d+ bytes of \d+ are a whole model",
    ),
    "04 text after": (lambda: RELU + b"hello world", "E011", r"are a whole model"),
    "05 no graph": (lambda: without("graph"), "E011", "has no graph"),
    "06 no opset": (lambda: without("opset_import"), "E012", "does not say which opset"),
    "07 opset 9999": (
        lambda: versions(opset=9999),
        "E012",
        "opset 9999, newer than .* 'a tool of tomorrow'",
    ),
    "07 ir 9999": (
        lambda: versions(ir=9999),
        "E012",
        "IR version 9999, newer than .* 'a tool of tomorrow'",
    ),
    "07 opset 3": (lambda: versions(opset=3), "E013", "its form of opset 3 is too old"),
    "08 not utf-8": (bad_utf8, "E014", "node 0 has a name that is not UTF-8"),
    # the graph
    "11 unknown op": (
        lambda: model([node("Frobnicate")]),
        "E013",
        "ONNX has no operator of this name",
    ),
    "12 unknown domain": (
        lambda: model([node("Op", domain="com.evil")], domains=["com.evil"]),
        "E013",
        "domain 'com.evil'",
    ),
    "13 python op": (
        lambda: model(
            [node("PyOp", domain="pyopdef", module="os", **{"class": "system"})],
            domains=["pyopdef"],
        ),
        "E013",
        "'pyopdef.PyOp'",
    ),
    "14 cycle": (
        lambda: model(
            [
                node("Add", ("x", "b"), ("a",), name="one"),
                node("Relu", ("a",), ("b",), name="two"),
                node("Relu", ("b",)),
            ]
        ),
        "E014",
        "cycle: 'one' -> 'two' -> 'one'|cycle: 'two' -> 'one' -> 'two'",
    ),
    "16 defined twice": (
        lambda: model([node("Relu", name="first"), node("Neg", name="second")]),
        "E014",
        "'y' is defined twice, by node 'first' and by node 'second'",
    ),
    "16 input defined again": (
        lambda: model([node("Relu", ("x",), ("x",)), node("Relu")]),
        "E014",
        "'x' is defined twice",
    ),
    "17 undefined input": (
        lambda: model([node("Relu", ("xy",))]),
        "E014",
        "nothing defines 'xy'.*did you mean 'x'",
    ),
    "18 output not produced": (
        lambda: model([node("Relu")], outputs=[untyped("z")]),
        "E014",
        "nothing defines 'z'",
    ),
    "19 attribute twice": (lambda: model([twice("alpha")]), "E015", "'alpha' is given twice"),
    "20 attribute of wrong type": (
        lambda: model([node("LeakyRelu", alpha="much")]),
        "E015",
        "'alpha' is text, should be a number",
    ),
    "20 unknown attribute": (
        lambda: model([node("LeakyRelu", beta=1.0, gamma=2)]),
        "E015",
        "'beta' is not known.*'gamma' is not known",
    ),
    "21 element type 999": (
        lambda: model([node("Relu")], inputs=[value("x", (2,), 999)]),
        "E016",
        "unknown element type 999",
    ),
    "21 cast to 999": (lambda: model([node("Cast", to=999)]), "E016", "unknown element type 999"),
    "23 lying output": (
        lambda: model([node("Relu")], outputs=[value("y", (3,))]),
        "E019",
        "axis 0 is declared 3, and computed as 2",
    ),
    "23 lying output type": (
        lambda: model([node("Relu")], outputs=[value("y", (2,), I64)]),
        "E019",
        "declared i64, and computed f32",
    ),
    "24 branches differ": (
        lambda: branch(node("Relu", ("x",), ("t",)), node("Shape", ("x",), ("e",))),
        "E103",
        r"f32\[2\] from one branch and from the other i64\[1\]",
    ),
    # tensors
    "25 raw data short": (
        lambda: with_weight(tensor((2,), raw_data=bytes(7))),
        "E016",
        "7 bytes of data.*needs 8",
    ),
    "26 raw data long": (
        lambda: with_weight(tensor((2,), raw_data=bytes(9))),
        "E016",
        "9 bytes of data.*needs 8",
    ),
    "25 elements short": (
        lambda: with_weight(tensor((2,), float_data=[1])),
        "E016",
        "1 elements.*needs 2",
    ),
    "25 no data": (lambda: with_weight(tensor((2,))), "E016", "0 elements.*needs 2"),
    "27 product overflows": (
        lambda: with_weight(tensor((2**40, 2**40), raw_data=bytes(8))),
        "E016",
        "more than any machine",
    ),
    "27 product wraps to 0": (
        lambda: with_weight(tensor((2**32, 2**32), raw_data=b"")),
        "E016",
        "more than any machine",
    ),
    "28 negative extent": (
        lambda: with_weight(tensor((-2,), raw_data=bytes(8))),
        "E016",
        "negative extent -2",
    ),
    "28 negative input extent": (
        lambda: model([node("Relu")], inputs=[value("x", (-7,))]),
        "E016",
        "negative extent -7",
    ),
    "28 extent of an input over 2^31": (
        lambda: model([node("Relu")], inputs=[value("x", (2**31,))]),
        "E018",
        "input 'x' has the extent 2147483648, more than 2147483647",
    ),
    "28 extent of a result over 2^31": (
        lambda: shaped("Tile", [2**31, 1], (4, 4), name="tile"),
        "E018",
        "\"tile\"|result 'y' has the extent 8589934592, more than 2147483647",
    ),
    "29 zero extent with bytes": (
        lambda: with_weight(tensor((0,), raw_data=bytes(8))),
        "E016",
        "8 bytes of data.*needs 0",
    ),
    "30 two data fields": (
        lambda: with_weight(tensor((2,), raw_data=bytes(8), float_data=[1, 2])),
        "E016",
        "data twice",
    ),
    "30 two data fields in a function": (
        lambda: in_function(tensor((2,), raw_data=bytes(8), float_data=[1, 2])),
        "E016",
        "data twice",
    ),
    "31 sparse index out of range": (lambda: sparse([0, 2]), "E016", "index outside of its shape"),
    "31 sparse and enormous": (lambda: sparse([0], 2**40), "E018", "zeros are filled in"),
    "31 negative sparse index": (lambda: sparse([0, -1]), "E016", "index outside of its shape"),
    # attributes and operands
    "41 stride 0": (lambda: pads(strides=[0, 1]), "E108", "strides"),
    "41 negative dilation": (lambda: pads(dilations=[-1, 1]), "E108", "dilations"),
    "41 group 0": (lambda: pads(group=0), "E108", "group"),
    "41 huge negative pads": (lambda: pads(pads=[-BIG, 0, -BIG, 0]), "E10", ""),
    "42 kernel_shape is not the weights'": (
        lambda: pads(kernel_shape=[2, 2]),
        "E10",
        "kernel_shape",
    ),
    "44 negative block": (
        lambda: unary("DepthToSpace", (1, 4, 2, 2), blocksize=-2),
        "E10",
        "blocksize",
    ),
    "44 block of 2^32": (lambda: unary("DepthToSpace", (1, 4, 2, 2), blocksize=2**32), "E10", ""),
    "45 axis is rank": (lambda: unary("Softmax", axis=2), "E107", "axis 2 does not exist"),
    "45 concat axis": (lambda: unary("Concat", axis=2), "E107", "axis 2"),
    "45 flatten axis": (lambda: unary("Flatten", axis=3), "E107", "axis 3"),
    "46 two -1 in a shape": (lambda: shaped("Reshape", [-1, -1]), "E10", "-1"),
    "46 reshape does not fit": (lambda: shaped("Reshape", [3, 5]), "E10", "15|3"),
    "47 step 0": (
        lambda: model(
            [node("Slice", ("x", "a", "b", "c", "d"))],
            inputs=[value("x", (4,))],
            initializers=[const("a", [0]), const("b", [4]), const("c", [0]), const("d", [0])],
        ),
        "E10",
        "step",
    ),
    "48 negative split": (
        lambda: model(
            [node("Split", ("x", "s"), ("y", "z"), axis=0)],
            inputs=[value("x", (4, 4))],
            initializers=[const("s", [5, -1])],
        ),
        "E10",
        "-1|negative",
    ),
    "48 split into 2^31 parts": (
        lambda: unary("Split", num_outputs=2**31),
        "E015",
        "2147483648 parts and has 1 outputs",
    ),
    "48 split by 2^31 sizes": (
        lambda: model([node("Split", ("x", "s"))], inputs=[value("x"), value("s", (MOST,), I64)]),
        "E015",
        "2147483647 parts",
    ),
    "49 top k without a k": (lambda: shaped("TopK", []), "E103", "should have one element"),
    "49 top k of more than there are": (lambda: shaped("TopK", [5]), "E103", "k is 5"),
    "45 rank of 2^31": (
        lambda: model([node("Expand", ("x", "s"))], inputs=[value("x"), value("s", (MOST,), I64)]),
        "E108",
        "2147483647 dimensions",
    ),
    "45 axes 2^31 times": (
        lambda: model(
            [node("Unsqueeze", ("x", "a"))], inputs=[value("x"), value("a", (MOST,), I64)]
        ),
        "E108",
        "2147483648 dimensions",
    ),
    "50 an extent as index": (
        lambda: model([node("Shape", ("x",), ("s",)), node("Gather", ("s", "s"))]),
        "E110",
        "index 2",
    ),
    "50 constant index out of range": (lambda: shaped("Gather", [4]), "E110", "4"),
    "53 shapes do not multiply": (
        lambda: model(
            [node("MatMul", ("x", "w"))], inputs=[value("x", ("batch", 3)), value("w", (4, 5))]
        ),
        "E10",
        r"batch,3.*4,5",
    ),
    "54 einsum of 100,000 letters": (
        lambda: unary("Einsum", equation="a" * 100_000 + "->" + "a"),
        "E1",
        "",
    ),
    "20 scan counts in text": (
        lambda: model(
            [node("Scan", num_scan_inputs="one", body=graph([node("Relu", ("x",), ("o",))], ["o"]))]
        ),
        "E015",
        "'num_scan_inputs' is text, should be an integer",
    ),
    # bombs
    "56 a sequence of 2^31 parts": (
        lambda: unary("SplitToSequence", (MOST,)),
        "E018",
        "2147483647 parts, more than 10000",
    ),
    "58 subgraphs 3000 deep": (lambda: deep_bytes(3000), "E011", "nested"),
    "59 function recursion": (
        lambda: model(
            [call("f", "x", "y")],
            functions=[function("f", [call("g")]), function("g", [call("f")])],
            domains=["local"],
        ),
        "E014",
        "functions call themselves: 'f' -> 'g' -> 'f'",
    ),
    "59 recursion through If": (recursion_through_if, "E014", "functions call themselves"),
    "60 functions 3,000 deep": (
        lambda: function_chain(3000),
        "E018",
        "functions inside each other",
    ),
    "61 expansion to 2^30 nodes": (
        lambda: doubling(30),
        "E018",
        r"nodes once its functions are expanded",
    ),
    "61 expansion to 2^9000 nodes": (
        lambda: doubling(90),
        "E018",
        r"nodes once its functions are expanded",
    ),
}


def deep_bytes(depth: int) -> bytes:
    """Subgraphs so deep that protobuf itself gives up."""
    inner = b"\x0a\x00"
    for _ in range(depth):
        graph_bytes = _field(1, inner)
        inner = _field(5, _field(6, graph_bytes))
    return b"\x08\x0a" + _field(7, _field(1, inner)) + _field(8, b"\x10\x14")


def _field(number: int, body: bytes) -> bytes:
    size, out = len(body), bytearray()
    while size >= 0x80:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | 2, *out, size]) + body


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    make, code, pattern = REFUSED[name]
    with pytest.raises(LeptonError) as caught:
        import_model(make())
    text = str(caught.value)
    assert f"[{code}" in text, text
    assert re.search(pattern, text, re.DOTALL), text
    assert len(text) < 5000


def run(source: Any, **feeds: Any) -> list[np.ndarray[Any, Any]]:
    return list(interpret(import_model(source), feeds).values())


def test_all_unsupported_nodes_are_listed_at_once() -> None:
    nodes = [
        node("Frobnicate", ("x",), ("a",), name="first"),
        node("Evil", ("a",), ("b",), name="second", domain="com.evil"),
        node("Frobnicate", ("b",), name="third"),
    ]
    with pytest.raises(LeptonError) as caught:
        import_model(model(nodes, domains=["com.evil"]))
    text = str(caught.value)
    assert "3 nodes" in text
    assert "'Frobnicate' of opset 20, 2x (at 'first', 'third')" in text
    assert "'com.evil.Evil' of opset 1, 1x (at 'second')" in text


def test_problems_of_different_kinds_are_told_together() -> None:
    nodes = [node("Frobnicate", ("x",), ("a",)), node("Relu", ("b",), ("c",)), node("Neg")]
    with pytest.raises(LeptonError) as caught:
        import_model(model(nodes, outputs=[value("y", (3,))]))
    assert caught.value.code == "E020"
    assert "3 problems" in str(caught.value)
    assert "'Frobnicate'" in str(caught.value)
    assert "E014 at loc(\"Relu_1\"): nothing defines 'b'" in str(caught.value)
    assert "E019: output 'y'" in str(caught.value)


def test_operators_that_never_changed_are_imported_from_any_opset() -> None:
    (y,) = run(model([node("Exp")], opset=6), x=np.zeros(2, np.float32))
    assert y.tolist() == [1, 1]
    source = model([node("Not")], inputs=[value("x", (2,), TensorProto.BOOL)], opset=1)
    assert run(source, x=np.array([True, False]))[0].tolist() == [False, True]


@pytest.mark.parametrize(
    "name", ["\x1b[31mred\x1b[0m", "a\0b", "../../etc/passwd", "n" * 1_000_000]
)
def test_09_10_strange_names_compile_and_are_escaped(name: str) -> None:
    source = model([node("Relu", ("x",), (name,), name=name), node("Neg", (name,))])
    graph = import_model(source)
    again = parse_graph(print_graph(graph, locations=True), "text")
    assert [op.location for op in again] == [op.location for op in graph]
    (y,) = interpret(again, {"x": np.array([-1, 2], np.float32)}).values()
    assert y.tolist() == [0, -2]
    broken = model([node("Reshape", ("x", "c"), name=name)], initializers=[const("c", [7])])
    with pytest.raises(LeptonError) as caught:
        import_model(broken)
    text = str(caught.value)
    assert "\x1b" not in text
    assert "\0" not in text
    assert len(text) < 1000


def test_15_unsorted_nodes_are_sorted_with_a_notice() -> None:
    source = model([node("Neg", ("m",)), node("Relu", ("x",), ("m",))])
    with pytest.warns(ImportNotice, match="not in dependency order"):
        graph = import_model(source)
    (y,) = interpret(graph, {"x": np.array([-1, 2], np.float32)}).values()
    assert y.tolist() == [0, -2]


def test_22_lying_value_info_is_ignored_with_a_notice() -> None:
    source = model(
        [node("Relu", ("x",), ("m",)), node("Neg", ("m",))], value_info=[value("m", (7, 7), I64)]
    )
    with pytest.warns(ImportNotice, match="value_info of 'm' is wrong and ignored"):
        graph = import_model(source)
    assert str(graph.outputs[0].type) == "f32[2]"


def test_23_a_lying_output_passes_if_inference_is_trusted() -> None:
    source = model([node("Relu")], outputs=[value("y", (3,))])
    graph = import_model(source, trust_inferred=True)
    assert str(graph.outputs[0].type) == "f32[2]"


def test_27_huge_extents_of_inputs_cost_nothing() -> None:
    source = model([node("Relu")], inputs=[value("x", (2**30, 2**30))])
    assert str(import_model(source).outputs[0].type) == "f32[1073741824,1073741824]"


@pytest.mark.parametrize(
    ("op", "operand"),
    [("Tile", [2**20, 2**20]), ("Expand", [2**20, 4, 2**20, 1])],
)
def test_56_bombs_are_typed_and_not_materialised(op: str, operand: list[int]) -> None:
    shape = (4, 4) if op == "Tile" else (1, 1)
    graph = import_model(shaped(op, operand, shape))
    assert all(value.blob is None for value in graph.outputs)


def test_56_constant_of_shape_is_not_materialised() -> None:
    source = model(
        [node("ConstantOfShape", ("s",), ("c",)), node("Add", ("x", "c"))],
        inputs=[value("x", (1,))],
        initializers=[const("s", [MOST])],
    )
    assert str(import_model(source).outputs[0].type) == "f32[2147483647]"


def shape_arithmetic(turns: int, *steps: tuple[str, str, str]) -> onnx.ModelProto:
    """Extents n and m, then each turn the steps on t (the result so far), m and d."""
    nodes = [
        node("Shape", ("x",), ("s",)),
        node("ReduceSum", ("s",), ("t0",), keepdims=1),
        node("Gather", ("s", "one"), ("m",)),
    ]
    for turn in range(turns):
        names = {"t": f"t{turn}", "m": "m", "d": f"d{turn}"}
        for index, (op, left, right) in enumerate(steps):
            result = f"t{turn + 1}" if index == len(steps) - 1 else f"d{turn}"
            nodes.append(node(op, (names[left], names[right]), (result,)))
    return model(
        nodes,
        inputs=[value("x", ("n", "m"))],
        outputs=[untyped(f"t{turns}")],
        initializers=[const("one", [1])],
    )


@pytest.mark.parametrize(
    "steps",
    [
        [("Mul", "t", "t")],
        [("Div", "t", "m"), ("Add", "d", "m")],
        [("Min", "t", "m"), ("Mul", "d", "t")],
    ],
)
def test_56_shape_arithmetic_that_explodes_is_left_to_run_time(
    steps: list[tuple[str, str, str]],
) -> None:
    graph = import_model(shape_arithmetic(200, *steps))
    assert graph.outputs[0].content is None
    few = import_model(shape_arithmetic(2, *steps))
    assert few.outputs[0].content is not None


def test_56_an_extent_that_explodes() -> None:
    shape = tuple("a+b+c+d+e" for _ in range(30))
    symbols = ("a", "b", "c", "d", "e")
    source = model([node("Flatten", axis=0)], inputs=[value("x", shape), value("symbols", symbols)])
    with pytest.raises(LeptonError, match="expression of more than 2000 symbols") as caught:
        import_model(source)
    assert caught.value.code == "E018"


def test_57_a_loop_of_2_to_63_turns_is_not_unrolled() -> None:
    body = onnx.helper.make_graph(
        [node("Identity", ("go",), ("again",)), node("Neg", ("v",), ("w",))],
        "body",
        [value("i", (), I64), value("go", (), TensorProto.BOOL), value("v")],
        [untyped("again"), untyped("w")],
    )
    source = model([node("Loop", ("most", "", "x"), body=body)], initializers=[const("most", BIG)])
    graph = import_model(source)
    assert [op.name for op in graph].count("loop") == 1


def test_58_subgraphs_beyond_the_limit() -> None:
    with pytest.raises(LeptonError, match="more than 5 deep"):
        import_model(nested(8), limits=Limits(subgraph_depth=5))


def test_58_subgraphs_up_to_the_limit_are_imported() -> None:
    graph = import_model(nested(30))
    assert str(graph.outputs[0].type) == "f32[2]"


def test_60_61_functions_within_the_limits_are_expanded() -> None:
    assert len(list(import_model(function_chain(90)).walk())) == 2
    assert len(list(import_model(doubling(8)).walk())) == 2**8 + 1


def test_62_many_nodes_in_a_row_take_no_recursion() -> None:
    graph = import_model(chain(20_000))
    assert len(graph) == 20_001


def test_62_many_nodes_in_reverse_order() -> None:
    source = chain(5_000)
    nodes = list(source.graph.node)
    del source.graph.node[:]
    source.graph.node.extend(reversed(nodes))
    with pytest.warns(ImportNotice, match="sorted"):
        assert len(import_model(source)) == 5_001


def test_63_a_concat_of_1000_parts() -> None:
    parts = [f"p{index}" for index in range(1000)]
    nodes = [node("Relu", ("x",), (part,)) for part in parts]
    graph = import_model(model([*nodes, node("Concat", parts, axis=0)]))
    assert str(graph.outputs[0].type) == "f32[2000]"


def test_63_very_many_initialisers() -> None:
    weights = [tensor((1,), name=f"w{index}", float_data=[1.0]) for index in range(50_000)]
    graph = import_model(model([node("Add", ("x", "w7"))], initializers=weights))
    assert len(graph) == 3


def test_64_an_empty_batch_runs() -> None:
    source = model([node("Relu")], inputs=[value("x", ("n", 4))])
    (y,) = run(source, x=np.zeros((0, 4), np.float32))
    assert y.shape == (0, 4)


def test_43_a_kernel_without_channels_gives_an_empty_result() -> None:
    weights = onnx.numpy_helper.from_array(np.ones((0, 1, 3, 3), np.float32), "w")
    source = model(
        [node("Conv", ("x", "w"))], inputs=[value("x", (1, 1, 5, 5))], initializers=[weights]
    )
    (y,) = run(source, x=np.zeros((1, 1, 5, 5), np.float32))
    assert y.shape == (1, 0, 3, 3)


def test_52_scale_0_does_not_trap() -> None:
    scale = const("s", 0, np.float32)
    zero = const("z", 3, np.uint8)
    source = model([node("QuantizeLinear", ("x", "s", "z"))], initializers=[scale, zero])
    (y,) = run(source, x=np.array([0, 1], np.float32))
    assert y.dtype == np.uint8


@pytest.mark.parametrize("op", ["Div", "Mod"])
@pytest.mark.parametrize("divisor", [0, -1])
def test_55_integer_division_never_traps(op: str, divisor: int) -> None:
    source = model(
        [node(op, ("x", "d"))],
        inputs=[value("x", (2,), I64)],
        initializers=[const("d", [divisor, divisor])],
    )
    (y,) = run(source, x=np.array([5, -(2**63)], np.int64))
    assert y.shape == (2,)


def test_65_one_symbol_of_two_sizes_names_it_and_both() -> None:
    source = model([node("Add", ("x", "z"))], inputs=[value("x", ("n",)), value("z", ("n",))])
    with pytest.raises(LeptonError, match="'z'"):
        run(source, x=np.zeros(2, np.float32), z=np.zeros(3, np.float32))


def test_20_attributes_without_a_declared_type_are_read_by_their_field() -> None:
    made = node("LeakyRelu")
    made.attribute.append(AttributeProto(name="alpha", f=0.5))
    (y,) = run(model([made]), x=np.array([-1, 2], np.float32))
    assert y.tolist() == [-0.5, 2]


def test_an_attribute_of_unknown_type_is_refused() -> None:
    made = node("LeakyRelu")
    made.attribute.append(attribute("alpha"))
    with pytest.raises(LeptonError, match="unknown type"):
        import_model(model([made]))


# external data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    (tmp_path / "secret.bin").write_bytes(np.array([6, 6], np.float32).tobytes())
    (made / "w.bin").write_bytes(np.array([1, 2], np.float32).tobytes())
    return made


def saved(folder: Path, weight: TensorProto) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(with_weight(weight).SerializeToString())
    return path


def added(path: Path, **options: Any) -> list[float]:
    graph = import_model(path, **options)
    (y,) = interpret(graph, {"x": np.zeros(2, np.float32)}).values()
    return y.tolist()


def test_external_data_is_read(folder: Path) -> None:
    assert added(saved(folder, external("w.bin"))) == [1, 2]
    assert added(saved(folder, external("./w.bin", offset="0", length="8"))) == [1, 2]


@pytest.mark.parametrize(
    "location",
    [
        "../secret.bin", "a/../../secret.bin", "/etc/hostname", "..\\secret.bin",
        "\\\\host\\x", "C:\\x", "C:x", "",
    ],
)  # fmt: skip
def test_32_paths_out_of_the_folder(folder: Path, location: str) -> None:
    with pytest.raises(LeptonError, match="below the model's folder") as caught:
        import_model(saved(folder, external(location)))
    assert caught.value.code == "E017"


def test_33_a_link_out_of_the_folder(folder: Path) -> None:
    (folder / "link.bin").symlink_to(folder.parent / "secret.bin")
    with pytest.raises(LeptonError, match="leads out of the model's folder"):
        import_model(saved(folder, external("link.bin")))
    (folder / "sub").symlink_to(folder.parent)
    with pytest.raises(LeptonError, match="leads out of the model's folder"):
        import_model(saved(folder, external("sub/secret.bin")))


def test_34_a_store_of_content_behind_links_loads(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc" / "onnx"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (blobs / "1111").write_bytes(with_weight(external("w.bin")).SerializeToString())
    (blobs / "2222").write_bytes(np.array([3, 4], np.float32).tobytes())
    (snapshot / "m.onnx").symlink_to(Path("../../../blobs/1111"))
    (snapshot / "w.bin").symlink_to(Path("../../../blobs/2222"))
    assert added(snapshot / "m.onnx") == [3, 4]


def test_35_hard_links_are_refused_where_the_model_is_not_trusted(folder: Path) -> None:
    os.link(folder.parent / "secret.bin", folder / "hard.bin")
    path = saved(folder, external("hard.bin"))
    assert added(path) == [6, 6]
    with pytest.raises(LeptonError, match="hard link"):
        import_model(path, untrusted=True)


@pytest.mark.parametrize(
    ("entries", "pattern"),
    [
        ({"offset": "8"}, "it has 8 bytes"),
        ({"offset": "-1"}, "should be a number of bytes"),
        ({"offset": str(2**64 - 4)}, "should be a number of bytes"),
        ({"offset": str(2**63 - 4)}, "it has 8 bytes"),
        ({"length": str(2**50)}, r"needs 8"),
        ({"length": "4"}, "4 bytes of external data.*needs 8"),
        ({"offset": "1e3"}, "should be a number of bytes"),
        ({"offset": "9" * 100_000}, "should be a number of bytes"),
    ],
)
def test_36_offsets_and_lengths(folder: Path, entries: dict[str, str], pattern: str) -> None:
    with pytest.raises(LeptonError, match=pattern):
        import_model(saved(folder, external("w.bin", (2,), **entries)))


def test_37_what_is_no_file(folder: Path) -> None:
    with pytest.raises(LeptonError, match="no such file"):
        import_model(saved(folder, external("missing.bin")))
    os.mkfifo(folder / "fifo")
    with pytest.raises(LeptonError, match="no ordinary file"):
        import_model(saved(folder, external("fifo")))
    (folder / "directory").mkdir()
    with pytest.raises(LeptonError, match="no ordinary file"):
        import_model(saved(folder, external("directory")))
    os.mkfifo(folder / "model.fifo")
    with pytest.raises(LeptonError, match="no ordinary file"):
        import_model(folder / "model.fifo")
    with pytest.raises(LeptonError, match="no such file"):
        import_model(folder / "missing.onnx")


def test_38_unknown_keys_are_ignored_with_a_notice(folder: Path) -> None:
    path = saved(folder, external("w.bin", __class__="evil", surprise="1"))
    with pytest.warns(ImportNotice, match="'__class__', 'surprise'"):
        assert added(path) == [1, 2]


def test_39_a_shape_larger_than_the_file(folder: Path) -> None:
    with pytest.raises(LeptonError, match="it has 8 bytes; 40 from 0 on are wanted"):
        import_model(saved(folder, external("w.bin", dims=(10,))))


def test_40_data_of_an_untrusted_model_cannot_shrink_under_us(folder: Path) -> None:
    graph = import_model(saved(folder, external("w.bin")), untrusted=True)
    (folder / "w.bin").write_bytes(b"")
    (y,) = interpret(graph, {"x": np.zeros(2, np.float32)}).values()
    assert y.tolist() == [1, 2]


def test_external_data_of_a_model_without_a_folder(folder: Path) -> None:
    source = with_weight(external("w.bin"))
    with pytest.raises(LeptonError, match="the model has no folder"):
        import_model(source)
    graph = import_model(source, folder=folder)
    (y,) = interpret(graph, {"x": np.zeros(2, np.float32)}).values()
    assert y.tolist() == [1, 2]


def test_random_damage_never_escapes_as_another_error() -> None:
    rng = np.random.default_rng(0)
    whole = bytearray(in_function(tensor((2,), raw_data=bytes(8))).SerializeToString())
    warnings.simplefilter("ignore", ImportNotice)
    for _ in range(1500):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), rng.integers(1, 4)):
            damaged[place] = rng.integers(0, 256)
        if rng.random() < 0.2:
            del damaged[rng.integers(1, len(whole)) :]
        try:
            graph = import_model(bytes(damaged))
            assert len(graph)
        except LeptonError:
            continue
