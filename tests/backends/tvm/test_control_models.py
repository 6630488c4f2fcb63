"""Models with loops and scans, beside onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import leptonc
from leptonc.ir.blob import Array
from tests.peer import onnxruntime_gives

WIDTH = 16
NOISE = np.random.default_rng(11)


def tensor(name: str, kind: int, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    """What a graph takes or gives."""
    return helper.make_tensor_value_info(name, kind, shape)


def weight(name: str, *shape: int) -> onnx.TensorProto:
    """A constant of small random numbers."""
    return numpy_helper.from_array((NOISE.standard_normal(shape) * 0.3).astype(np.float32), name)


def model(graph: onnx.GraphProto) -> onnx.ModelProto:
    """The model of a graph in a version that onnxruntime reads."""
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def recurrent() -> onnx.ModelProto:
    """A plain recurrent layer as a scan, its weights around the body."""
    row = [1, WIDTH]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("MatMul", ["state", "u"], ["c"]),
        helper.make_node("Add", ["a", "c"], ["d"]),
        helper.make_node("Add", ["d", "b"], ["e"]),
        helper.make_node("Tanh", ["e"], ["next"]),
        helper.make_node("Identity", ["next"], ["y"]),
    ]
    body = helper.make_graph(
        nodes, "body",
        [tensor("state", TensorProto.FLOAT, row), tensor("x", TensorProto.FLOAT, row)],
        [tensor("next", TensorProto.FLOAT, row), tensor("y", TensorProto.FLOAT, row)],
    )  # fmt: skip
    scan = helper.make_node("Scan", ["h", "xs"], ["last", "ys"], body=body, num_scan_inputs=1)
    graph = helper.make_graph(
        [scan], "recurrent",
        [tensor("h", TensorProto.FLOAT, row), tensor("xs", TensorProto.FLOAT, ["n", 1, WIDTH])],
        [tensor("last", TensorProto.FLOAT, row), tensor("ys", TensorProto.FLOAT, ["n", 1, WIDTH])],
        [weight("w", WIDTH, WIDTH), weight("u", WIDTH, WIDTH), weight("b", WIDTH)],
    )  # fmt: skip
    return model(graph)


def newton() -> onnx.ModelProto:
    """Square roots by iteration until they are good, and every step on the way."""
    nodes = [
        helper.make_node("Div", ["square", "root"], ["other"]),
        helper.make_node("Add", ["root", "other"], ["both"]),
        helper.make_node("Mul", ["both", "half"], ["better"]),
        helper.make_node("Sub", ["better", "root"], ["step"]),
        helper.make_node("Abs", ["step"], ["size"]),
        helper.make_node("ReduceMax", ["size"], ["largest"], keepdims=0),
        helper.make_node("Less", ["small", "largest"], ["again"]),
        helper.make_node("Identity", ["better"], ["shown"]),
    ]
    body = helper.make_graph(
        nodes, "body",
        [tensor("turn", TensorProto.INT64, []), tensor("go", TensorProto.BOOL, []),
         tensor("root", TensorProto.FLOAT, ["k"])],
        [tensor("again", TensorProto.BOOL, []), tensor("better", TensorProto.FLOAT, ["k"]),
         tensor("shown", TensorProto.FLOAT, ["k"])],
    )  # fmt: skip
    loop = helper.make_node("Loop", ["", "", "square"], ["root", "steps"], body=body)
    constants = {"half": 0.5, "small": 1e-2}
    graph = helper.make_graph(
        [loop], "newton", [tensor("square", TensorProto.FLOAT, ["k"])],
        [tensor("root", TensorProto.FLOAT, ["k"]), tensor("steps", TensorProto.FLOAT, ["t", "k"])],
        [numpy_helper.from_array(np.array(v, np.float32), name) for name, v in constants.items()],
    )  # fmt: skip
    return model(graph)


def compare(source: onnx.ModelProto, feeds: Sequence[dict[str, Array]]) -> None:
    """The compiled model gives what onnxruntime gives, for each size."""
    with leptonc.compile(source, threads=1, isolated=False) as session:
        for given in feeds:
            found = list(session.run(given).values())
            for want, got in zip(onnxruntime_gives(source, given), found, strict=True):
                assert got.shape == want.shape
                np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_a_recurrent_layer_of_any_length() -> None:
    compare(
        recurrent(),
        [
            {
                "h": NOISE.standard_normal((1, WIDTH)).astype(np.float32),
                "xs": NOISE.standard_normal((length, 1, WIDTH)).astype(np.float32),
            }
            for length in (7, 1, 30)
        ],
    )


def test_a_loop_that_ends_when_it_is_done() -> None:
    compare(newton(), [{"square": np.arange(1, count, dtype=np.float32)} for count in (5, 90, 2)])
