"""Models are written for the opset asked for, and not for a newer one than they need."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import leptonc
from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.interpret import interpret
from leptonc.onnx_import import import_model
from tests.peer import onnxruntime_gives
from tests.robustness.models import const, model, node, value

X = np.random.default_rng(2).standard_normal((2, 3, 8)).astype(np.float32)


def optimized(source: onnx.ModelProto, opset: int | None = None, **more: Any) -> onnx.ModelProto:
    written = leptonc.optimize(source, opset=opset, **more)
    checker: Any = onnx.checker
    checker.check_model(written, full_check=True)
    return written


def opset_of(source: onnx.ModelProto) -> int:
    return source.opset_import[0].version


def same(source: onnx.ModelProto, written: onnx.ModelProto, **feeds: Array) -> None:
    expected = interpret(import_model(source), feeds)
    for ours, theirs in zip(onnxruntime_gives(written, feeds), expected.values(), strict=True):
        assert ours.dtype == theirs.dtype
        loose = 2e-3 if theirs.dtype == np.float16 else 1e-5
        np.testing.assert_allclose(ours, theirs, rtol=loose, atol=loose)


def ops_of(written: onnx.ModelProto) -> list[str]:
    return [item.op_type for item in written.graph.node]


@pytest.mark.parametrize(("own", "written"), [(11, 13), (13, 13), (17, 17), (21, 21), (24, 21)])
def test_the_opset_stays_where_nothing_newer_is_needed(own: int, written: int) -> None:
    source = model([node("Relu", ("x",))], inputs=[value("x", (2, 3, 8))], opset=own)
    assert opset_of(optimized(source)) == written
    same(source, optimized(source), x=X)


def test_a_recognised_operator_raises_the_opset_by_what_it_needs() -> None:
    source = model(
        [
            node("Div", ("x", "root"), ("d",)), node("Erf", ("d",), ("e",)),
            node("Add", ("e", "one"), ("a",)), node("Mul", ("x", "a"), ("m",)),
            node("Mul", ("m", "half")),
        ],
        inputs=[value("x", (2, 3, 8))], opset=17,
        initializers=[
            const("root", 2**0.5, np.float32), const("one", 1, np.float32),
            const("half", 0.5, np.float32),
        ],
    )  # fmt: skip
    assert (ops_of(optimized(source)), opset_of(optimized(source))) == (["Gelu"], 20)
    older = optimized(source, 17)
    assert "Gelu" not in ops_of(older)
    assert opset_of(older) == 17
    same(source, older, x=X)


LATER: dict[str, tuple[onnx.NodeProto, int]] = {
    "Gelu": (node("Gelu", ("x",)), 20),
    "tanh": (node("Gelu", ("x",), approximate="tanh"), 20),
    "Mish": (node("Mish", ("x",)), 18),
    "HardSwish": (node("HardSwish", ("x",)), 14),
    "LayerNormalization": (node("LayerNormalization", ("x", "s", "b"), axis=-2), 17),
    "LayerNormalization without bias": (node("LayerNormalization", ("x", "s"), epsilon=0.1), 17),
    "RMSNormalization": (node("RMSNormalization", ("x", "s"), axis=-2), 23),
    "Swish": (node("Swish", ("x",), alpha=1.5), 24),
}
"""Nodes by name, and the opset that brought their operator."""


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("name", LATER)
def test_later_operators_are_spelled_out(name: str, dtype: Any) -> None:
    """In half precision squares of what is large are not lost."""
    item, since = LATER[name]
    shape = (3, 8) if "bias" not in name else (8,)
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    initializers = [const(key, X[0] if len(shape) == 2 else X[0, 0], dtype) for key in "sb"]
    source = model(
        [item], inputs=[value("x", (2, 3, 8), kind)], opset=24, initializers=initializers
    )
    for opset in {13, since - 1}:
        written = optimized(source, opset)
        assert opset_of(written) == opset
        assert item.op_type not in ops_of(written)
        same(source, written, x=(X * (300 if "Norm" in name else 1)).astype(dtype))
    if item.op_type != "Swish":  # which is two nodes in any opset
        assert item.op_type in ops_of(optimized(source))


@pytest.mark.parametrize("opset", [17, 22])
def test_attention_is_spelled_out(opset: int) -> None:
    """With a mask, and as few heads of keys as queries share."""
    source = model(
        [node("Attention", ("q", "k", "k", "m"), scale=0.3)], opset=24,
        inputs=[value("q", (2, 4, 3, 8)), value("k", (2, 2, 5, 8)), value("m", (3, 5))],
        outputs=[value("y", (2, 4, 3, 8))],
    )  # fmt: skip
    draw = np.random.default_rng(3).standard_normal
    feeds = {"q": draw((2, 4, 3, 8)), "k": draw((2, 2, 5, 8)), "m": draw((3, 5))}
    written = optimized(source, opset)
    assert "Attention" not in ops_of(written)
    assert opset_of(written) == opset
    same(source, written, **{name: data.astype(np.float32) for name, data in feeds.items()})


@pytest.mark.parametrize("opset", [13, 17, 18])
def test_axes_of_reductions_are_attributes_where_they_were(opset: int) -> None:
    """A constant that both forms read stays for the other; inner graphs are written so, too."""
    then = onnx.helper.make_graph(
        [node("ReduceMean", ("x", "axes"), ("t",))], "then", [], [value("t", (2, 1, 1))]
    )
    other = onnx.helper.make_graph(
        [node("ReduceMax", ("x", "axes"), ("o",))], "other", [], [value("o", (2, 1, 1))]
    )
    source = model(
        [
            node("ReduceMean", ("x", "axes"), ("m",), keepdims=0),
            node("ReduceL2", ("x",), ("n",), keepdims=0),
            node("ReduceSum", ("x", "axes"), ("s",)),
            onnx.helper.make_node("If", ["c"], ["i"], then_branch=then, else_branch=other),
        ],
        inputs=[value("x", (2, 3, 8)), value("c", (), TensorProto.BOOL)], opset=18,
        outputs=[value("m", (2,)), value("n", ()), value("s", (2, 1, 1)), value("i", (2, 1, 1))],
        initializers=[const("axes", [1, 2], np.int64)],
    )  # fmt: skip
    written = optimized(source, opset)
    mean = next(item for item in written.graph.node if item.op_type == "ReduceMean")
    assert (len(mean.input) == 1) is (opset < 18)
    assert any(item.name == "axes" for item in written.graph.initializer)
    for chosen in (True, False):
        same(source, written, x=X, c=np.array(chosen))


def test_axes_of_run_time_need_the_newer_form() -> None:
    source = model(
        [node("ReduceMean", ("x", "axes"))], opset=18, outputs=[value("y", (None, None, None))],
        inputs=[value("x", (2, 3, 8)), value("axes", (1,), TensorProto.INT64)],
    )  # fmt: skip
    assert opset_of(optimized(source)) == 18
    with pytest.raises(LeptonError, match="reduce_mean needs opset 18, not 17") as caught:
        optimized(source, 17)
    assert caught.value.code == "E022"


def test_equal_parts_are_not_counted_where_they_were_not() -> None:
    def source(extent: int) -> onnx.ModelProto:
        return model(
            [node("Split", ("x",), ("a", "y"), axis=1, num_outputs=2)], opset=18,
            inputs=[value("x", (2, extent))],
            outputs=[value("a", (2, 2)), value("y", (2, extent - 2))],
        )  # fmt: skip

    even, odd = source(4), source(3)
    written = optimized(even, 13)
    assert not {"num_outputs"} & {item.name for item in written.graph.node[0].attribute}
    same(even, written, x=np.arange(8, dtype=np.float32).reshape(2, 4))
    same(odd, optimized(odd), x=np.arange(6, dtype=np.float32).reshape(2, 3))
    with pytest.raises(LeptonError, match="split needs opset 18, not 17"):
        optimized(odd, 17)


def test_values_that_came_later_need_their_opset() -> None:
    source = model(
        [node("Pad", ("x", "pads"), mode="wrap")], opset=19, outputs=[value("y", (2, 3, 10))],
        inputs=[value("x", (2, 3, 8))],
        initializers=[const("pads", [0, 0, 1, 0, 0, 1], np.int64)],
    )  # fmt: skip
    assert opset_of(optimized(source)) == 19
    with pytest.raises(LeptonError, match="pad needs opset 19, not 18"):
        optimized(source, 18)


def test_remainders_of_floats_need_the_opset_that_defines_them() -> None:
    source = model(
        [node("Mod", ("x", "m"))], opset=28, outputs=[value("y", (2, 3, 8))],
        inputs=[value("x", (2, 3, 8))], initializers=[const("m", 3, np.float32)],
    )  # fmt: skip
    assert opset_of(optimized(source)) == 28
    with pytest.raises(LeptonError, match="mod needs opset 28, not 27"):
        optimized(source, 27)


def test_what_is_older_than_can_be_written_is_refused() -> None:
    source = model([node("Relu", ("x",))], inputs=[value("x", (2, 3, 8))])
    with pytest.raises(LeptonError, match="not written for opset 10") as caught:
        optimized(source, 10)
    assert caught.value.notes == ["the oldest is 11"]


OLDER: dict[str, tuple[str, str]] = {
    "softmax of an inner axis": ("y = Softmax<axis=1>(x)", "float[2,3,8] y"),
    "softmax of the last axis": ("y = Softmax(x)", "float[2,3,8] y"),
    "log softmax": ("y = LogSoftmax<axis=-3>(x)", "float[2,3,8] y"),
    "hardmax": ("y = Hardmax(x)", "float[2,3,8] y"),
    "unsqueeze": (
        "p = Constant<value_ints=[1]>() u = Unsqueeze(x, p) y = Tile(u, t)", "float[2,2,3,16] y"
    ),
    "squeeze": (
        "p = Constant<value_ints=[1]>() m = ReduceMax(x, p) y = Squeeze(m, p)", "float[2,8] y"
    ),
    "sum over axes": (
        "p = Constant<value_ints=[0,2]>() y = ReduceSum<keepdims=0>(x, p)", "float[3] y"
    ),
    "sum over all": ("y = ReduceSum(x)", "float[1,1,1] y"),
    "parts that differ": (
        "p = Constant<value_ints=[2,6]>() y, b = Split<axis=2>(x, p)",
        "float[2,3,2] y, float[2,3,6] b",
    ),
    "limits": (
        "l = Constant<value_float=-0.5>() y = Clip(x, l)", "float[2,3,8] y"
    ),
    "border": (
        "p = Constant<value_ints=[0,1,0,0,0,2]>() y = Pad(x, p)", "float[2,4,10] y"
    ),
    "sizes": (
        "u = Unsqueeze(x, z) s = Constant<value_ints=[1,2,5,4]>()"
        ' y = Resize<mode="linear">(u, , , s)', "float[1,2,5,4] y"
    ),
    "scales": (
        "u = Unsqueeze(x, z) s = Constant<value_floats=[1.0,1.0,2.0,2.0]>()"
        ' y = Resize<mode="nearest">(u, , s)', "float[1,2,6,16] y"
    ),
    "order": ("g = GreaterOrEqual(x, x) l = LessOrEqual(x, t2) y = Xor(g, l)", "bool[2,3,8] y"),
    "some extents": ("y = Shape<start=1, end=-1>(d)", "int64[1] y"),
    "layer norm": ("y = LayerNormalization(x, e)", "float[2,3,8] y"),
    "swish": ("g = Sigmoid(x) y = Mul(x, g)", "float[2,3,8] y"),
    "turned rows": ("k = Transpose<perm=[0,2,1]>(x) y = MatMul(x, k)", "float[2,3,3] y"),
}  # fmt: skip


@pytest.mark.parametrize("opset", [11, 12])
@pytest.mark.parametrize("name", OLDER)
def test_forms_of_older_opsets_mean_the_same(name: str, opset: int) -> None:
    """NaN included: it is neither less nor equal, and not the opposite of greater."""
    body, outputs = OLDER[name]
    source = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 18]> g (float[2,3,8] x, float[1,k,2] d)'
        f" => ({outputs}) <int64[4] t = {{1,2,1,2}}, float t2 = {{0.25}}, int64[1] z = {{0}},"
        f" float[8] e = {{1,2,3,4,5,6,7,8}}> {{ {body} }}"
    )
    written = optimized(source, opset)
    assert opset_of(written) == opset
    x = X.copy()
    if name == "order":
        x[0, 0, 0] = np.nan
    feeds = {"x": x, "d": np.zeros((1, 3, 2), np.float32)}
    used = {item.name for item in written.graph.input}
    assert used == set(feeds)
    for ours, theirs in zip(
        onnxruntime_gives(written, feeds), onnxruntime_gives(source, feeds), strict=True
    ):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_all_that_an_opset_lacks_is_told_at_once() -> None:
    source = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 18]> g (float[1,1,2,3] x, float[1,2,3,2] g,'
        " int64[m] i) => (float[a,b,c,d] y) { t = GridSample(x, g) y = ReduceMean(t, i) }"
    )
    with pytest.raises(LeptonError, match="opset 11 lacks 2 operators") as caught:
        optimized(source, 11)
    assert caught.value.notes == ["grid_sample needs opset 20", "reduce_mean needs opset 18"]


@pytest.mark.parametrize("past", [0, 2])
def test_triangles_are_spelled_out(past: int) -> None:
    source = model(
        [
            node("Shape", ("x",), ("s",)), node("Gather", ("s", "one"), ("n",)),
            node("Range", ("zero", "n", "one"), ("r",)), node("Add", ("r", "past"), ("p",)),
            node("Reshape", ("p", "column"), ("c",)), node("Less", ("c", "r"), ("m",)),
            node("Where", ("m", "none", "x")),
        ],
        inputs=[value("x", (2, "n", "n"))], outputs=[value("y", (2, "n", "n"))], opset=13,
        initializers=[
            const("zero", 0), const("one", 1), const("past", past), const("column", [-1, 1]),
            const("none", 0, np.float32),
        ],
    )  # fmt: skip
    newer, older = optimized(source), optimized(source, 13)
    assert (ops_of(newer), opset_of(newer)) == (["Trilu"], 14)
    assert ("Trilu" in ops_of(older), opset_of(older)) == (False, 13)
    for size in (0, 1, 5):
        x = np.random.default_rng(size).standard_normal((2, size, size)).astype(np.float32)
        same(source, newer, x=x)
        same(source, older, x=x)


def test_limits_of_integers_are_spelled_out() -> None:
    source = model(
        [
            node("Equal", ("x", "places"), ("e",)), node("Cast", ("e",), ("f",), to=1),
            node("MatMul", ("f", "w")),
        ],
        inputs=[value("x", (5, 1), TensorProto.INT64)], outputs=[value("y", (5, 2))], opset=11,
        initializers=[
            const("places", [0, 1, 2]), const("w", [[1, 2], [3, 4], [5, 6]], np.float32),
        ],
    )  # fmt: skip
    older = optimized(source, 11)
    assert "MatMul" not in ops_of(older)
    assert opset_of(older) == 11
    same(source, older, x=np.array([[0], [-1], [2], [3], [-(1 << 63)]], np.int64))
