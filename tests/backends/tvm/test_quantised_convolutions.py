# pyright: standard
"""Convolutions between quantised planes are computed in integers, and give what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, reference

import leptonc
from leptonc.driver import Options, compute_ops, optimize_graph
from leptonc.ir.blob import Array
from leptonc.onnx_import import import_model
from leptonc.targets import Target, backend_of

RNG = np.random.default_rng(12)


class Network:
    """A quantised network, built node by node."""

    def __init__(self, kind: str = "uint8", top: int = 63) -> None:
        self.kind, self.top = kind, top
        self.nodes: list[onnx.NodeProto] = []
        self.data: dict[str, Any] = {}

    def add(self, kind: str, inputs: str, **attributes: Any) -> str:
        """One node; its output."""
        name = f"{kind}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs.split(), [name], **attributes))
        return name

    def known(self, value: Any) -> str:
        """A constant's name."""
        name = f"c{len(self.data)}"
        self.data[name] = np.asarray(value)
        return name

    def quantised(self, x: str, scale: float, point: int) -> str:
        """The numbers in bytes and back."""
        kind = np.iinfo(self.kind)
        names = self.known(np.float32(scale)), self.known(np.array(point + kind.min, self.kind))
        pair = " ".join(names)
        return self.add("DequantizeLinear", f"{self.add('QuantizeLinear', f'{x} {pair}')} {pair}")

    def conv(self, x: str, shape: tuple[int, ...], *, one: bool = False, **attributes: Any) -> str:
        """With a scale for each filter, or `one`, and a quantised bias."""
        weight = RNG.integers(-self.top, self.top + 1, shape).astype(np.int8)
        count = 1 if one else shape[0]
        scales = np.exp(RNG.normal(size=count)).astype(np.float32) / 3000
        scales = scales.reshape(()) if one else scales
        zero = self.known(np.zeros(scales.shape, np.int8))
        axes = {} if one else {"axis": 0}
        real = f"{self.known(weight)} {self.known(scales)} {zero}"
        matrix = self.add("DequantizeLinear", real, **axes)
        row = self.known(RNG.normal(size=shape[0]).astype(np.float32))
        return self.add("Conv", f"{x} {matrix} {row}", **attributes)

    def model(self, channels: int, outputs: list[str], space: tuple[Any, Any]) -> onnx.ModelProto:
        """Of planes `x`."""
        graph = helper.make_graph(
            self.nodes, "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", channels, *space])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [numpy_helper.from_array(value, name) for name, value in self.data.items()],
        )  # fmt: skip
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def convolutions(model: onnx.ModelProto) -> int:
    """How many are computed in integers."""
    graph = import_model(model)
    optimize_graph(graph, Options(), backend_of(Target()))
    return [op.name for op in compute_ops(graph)].count("integer_conv_blocked")


def check(model: onnx.ModelProto, *feeds: Array, step: float = 0.0) -> None:
    """Against ONNX's own reference; what is quantised twice may fall the other way."""
    session = leptonc.compile(model, isolated=False)
    evaluator: Any = reference.ReferenceEvaluator(model)
    for x in feeds:
        ours = session.run({"x": x})
        for name, expected in zip(ours, evaluator.run(None, {"x": x}), strict=True):
            spread = np.abs(expected).max(initial=1e-9)
            off = np.abs(ours[name] - expected)
            assert ours[name].shape == expected.shape
            assert off.max(initial=0) <= 2e-6 * spread + step * 1.01
            assert np.count_nonzero(off > 4e-6 * spread) <= (0.1 if step else 0) * off.size


def planes(*shape: int) -> Array:
    """Some numbers are beyond what bytes hold."""
    x = (RNG.normal(size=shape) * 2).astype(np.float32)
    x[..., ::3, ::5] *= 100
    return x


CASES: dict[str, tuple[str, int, tuple[int, ...], dict[str, Any]]] = {
    "pointwise": ("uint8", 63, (24, 16, 1, 1), {}),
    "padded, strided": ("uint8", 63, (19, 21, 3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
    "uneven, dilated": (
        "int8", 63, (16, 11, 3, 2), {"pads": [2, 0, 1, 1], "dilations": [2, 1], "strides": [1, 2]}
    ),
    "large weights": ("uint8", 127, (9, 40, 3, 3), {"auto_pad": "SAME_LOWER"}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_one(name: str) -> None:
    kind, top, shape, attributes = CASES[name]
    net = Network(kind, top)
    net.conv(net.quantised("x", 0.031, 117), shape, one=name == "pointwise", **attributes)
    channels = shape[1]
    known = "auto_pad" in attributes
    model = net.model(channels, [net.nodes[-1].output[0]], (9, 7) if known else ("h", "w"))
    if top < 127:
        assert convolutions(model) == 1
    more = [] if known else [planes(1, channels, 20, 33), planes(0, channels, 9, 7)]
    check(model, planes(2, channels, 9, 7), *more)


@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_a_network(kind: str) -> None:
    """A first layer, a pooling, a residual around two of them, planes that are also an output."""
    net = Network(kind)
    x = net.add("Relu", net.conv(net.quantised("x", 0.04, 120), (16, 3, 3, 3), pads=[1, 1, 1, 1]))
    x = net.quantised(x, 0.01, 0)
    x = net.quantised(net.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), 0.01, 0)
    y = net.quantised(net.add("Relu", net.conv(x, (24, 16, 1, 1))), 0.01, 0)
    y = net.quantised(net.conv(y, (16, 24, 3, 3), pads=[1, 1, 1, 1]), 0.0173, 131)
    z = net.quantised(net.add("Relu", net.add("Add", f"{x} {y}")), 0.0237, 0)
    last = net.conv(z, (9, 16, 1, 1), strides=[2, 2])
    mean = net.add("GlobalAveragePool", z)
    model = net.model(3, [last, mean], ("h", 10))
    assert convolutions(model) == 4
    check(model, planes(1, 3, 12, 10), planes(3, 3, 7, 10), step=0.05)


def test_pooled_bytes_of_one_reader() -> None:
    """Between two convolutions, bytes are pooled as such."""
    net = Network()
    x = net.quantised(net.conv(net.quantised("x", 0.04, 120), (16, 16, 1, 1)), 0.01, 128)
    pool = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    x = net.quantised(net.add("MaxPool", x, **pool), 0.01, 128)
    model = net.model(16, [net.conv(x, (16, 16, 3, 3))], (11, "w"))
    assert convolutions(model) == 2
    check(model, planes(2, 16, 11, 9), planes(1, 16, 11, 40), step=0.01)


@pytest.mark.parametrize(("x", "w"), [("uint8", "uint8"), ("int8", "int8")])
def test_quantised_planes(x: str, w: str) -> None:
    """Every byte is that of the sums and scales as they are written."""
    channels, filters, zero = 13, 18, 70
    points = RNG.integers(120, 130, filters) if w == "uint8" else np.zeros(filters)
    centred = RNG.integers(-63, 64, (filters, channels, 3, 3))
    scales = np.exp(RNG.normal(size=filters)).astype(np.float32) / 512
    data: dict[str, Any] = {
        "a": np.float32(0.031), "b": np.array(zero, x),
        "w": (centred + points.reshape(-1, 1, 1, 1)).astype(w), "c": scales, "d": points.astype(w),
        "e": np.float32(0.9), "f": np.array(9, x),
        "g": RNG.integers(-9999, 9999, filters).astype(np.int32),
    }  # fmt: skip
    kind = TensorProto.UINT8 if x == "uint8" else TensorProto.INT8
    node = helper.make_node(
        "QLinearConv", ["x", "a", "b", "w", "c", "d", "e", "f", "g"], ["y"], pads=[1, 2, 0, 1]
    )
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", kind, ["n", channels, "h", 15])],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in data.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    assert convolutions(model) == 1
    limits = np.iinfo(x)
    given = RNG.integers(limits.min, limits.max + 1, (2, channels, 14, 15)).astype(x)
    padded = np.pad(given, ((0, 0), (0, 0), (1, 0), (2, 1)), constant_values=zero).astype(np.int64)
    every = np.lib.stride_tricks.sliding_window_view(padded - zero, (3, 3), axis=(2, 3))
    sums = np.einsum("nchwij,fcij->nfhw", every, centred) + data["g"].reshape(-1, 1, 1)
    factor = (data["a"] * scales / data["e"]).astype(np.float32).reshape(-1, 1, 1)
    expected = np.rint(sums.astype(np.float32) * factor) + 9
    ours = leptonc.compile(model, isolated=False).run({"x": given})["y"]
    np.testing.assert_array_equal(ours, np.clip(expected, limits.min, limits.max).astype(x))
