# pyright: standard
"""Networks whose planes are quantised by their own range are convolved in integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import leptonc
from leptonc.driver import Options, compute_ops, optimize_graph
from leptonc.ir.blob import Array
from leptonc.onnx_import import import_model
from leptonc.targets import Target, backend_of

RNG = np.random.default_rng(17)


class Network:
    """A dynamically quantised network, as onnxruntime's tools write one."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.data: dict[str, Any] = {}

    def add(self, kind: str, inputs: list[str], count: int = 1, **attributes: Any) -> list[str]:
        """One node; its outputs."""
        names = [f"{kind}{len(self.nodes)}_{at}" for at in range(count)]
        self.nodes.append(helper.make_node(kind, inputs, names, **attributes))
        return names

    def known(self, value: Any) -> str:
        """A constant's name."""
        name = f"c{len(self.data)}"
        self.data[name] = np.asarray(value)
        return name

    def conv(self, x: str, shape: tuple[int, ...], point: int = 117, **attributes: Any) -> str:
        """Of bytes whose scale and zero point run time tells, with weights that have one, too."""
        y, scale, zero = self.add("DynamicQuantizeLinear", [x], 3)
        weight = np.clip(np.rint(RNG.normal(size=shape) * 30 + point), 0, 255).astype(np.uint8)
        weight.reshape(-1)[0] = 255
        inputs = [y, self.known(weight), zero, self.known(np.array(point, np.uint8))]
        sums = self.add("ConvInteger", inputs, **attributes)
        real = self.add("Cast", sums, to=TensorProto.FLOAT)
        both = self.add("Mul", [scale, self.known(np.float32(0.003))])
        scaled = self.add("Mul", [*real, *both])
        row = self.known(RNG.normal(size=(shape[0], 1, 1)).astype(np.float32))
        return self.add("Add", [*scaled, row])[0]

    def model(self, channels: int, output: str, space: tuple[Any, Any]) -> onnx.ModelProto:
        """Of planes `x`."""
        graph = helper.make_graph(
            self.nodes, "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", channels, *space])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            [numpy_helper.from_array(value, name) for name, value in self.data.items()],
        )  # fmt: skip
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def counted(model: onnx.ModelProto, cpu: str) -> dict[str, int]:
    """How many there are of some operations."""
    graph = import_model(model)
    target = Target(options={"isa": cpu}) if cpu else Target()
    optimize_graph(graph, Options(), backend_of(target))
    names = [op.name for op in compute_ops(graph)]
    wanted = ("integer_conv_blocked", "dynamic_quantize_blocked", "dynamic_quantize_linear")
    return {name: names.count(name) for name in wanted}


def check(model: onnx.ModelProto, x: Array, step: float) -> None:
    """Against onnxruntime; what is quantised again may fall the other way."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    peer = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    want = np.asarray(peer.run(None, {"x": x})[0])
    (got,) = leptonc.compile(model, isolated=False).run({"x": x}).values()
    assert got.shape == want.shape
    spread = float(np.abs(want).max(initial=1e-9))
    off = np.abs(got - want)
    assert off.max(initial=0) <= 2e-6 * spread + step
    assert np.count_nonzero(off > 4e-6 * spread) <= (0.1 if step else 0) * off.size


CASES: dict[str, tuple[int, tuple[int, ...], dict[str, Any]]] = {
    "pointwise": (16, (24, 16, 1, 1), {}),
    "few channels": (3, (19, 3, 3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
    "uneven, dilated": (
        11, (16, 11, 3, 2), {"pads": [2, 0, 1, 1], "dilations": [2, 1], "strides": [1, 2]}
    ),
    "each channel alone": (20, (20, 1, 5, 5), {"pads": [2, 2, 2, 2], "group": 20}),
    "groups": (8, (8, 4, 3, 3), {"group": 2}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("positive", [False, True])
def test_one(name: str, positive: bool) -> None:
    channels, shape, attributes = CASES[name]
    net = Network()
    model = net.model(channels, net.conv("x", shape, **attributes), ("h", "w"))
    x = RNG.normal(size=(2, channels, 9, 7)).astype(np.float32)
    check(model, np.abs(x) if positive else x, 0.0)


def network() -> onnx.ModelProto:
    """Several, with what stands between them."""
    net = Network()
    first = net.conv("x", (24, 3, 3, 3), pads=[1, 1, 1, 1], strides=[2, 2])
    (first,) = net.add("HardSwish", [first])
    wide = net.conv(first, (40, 24, 1, 1))
    (wide,) = net.add("Relu", [wide])
    single = net.conv(wide, (40, 1, 3, 3), pads=[1, 1, 1, 1], group=40)
    (mean,) = net.add("GlobalAveragePool", [single])
    (gate,) = net.add("HardSigmoid", [net.conv(mean, (40, 40, 1, 1))])
    (scaled,) = net.add("Mul", [single, gate])
    back = net.conv(scaled, (24, 40, 1, 1), point=128)
    (added,) = net.add("Add", [first, back])
    last = net.conv(added, (9, 24, 1, 1))
    return net.model(3, last, ("h", "w"))


def test_a_network() -> None:
    model = network()
    check(model, RNG.normal(size=(1, 3, 30, 22)).astype(np.float32), 0.2)
    check(model, RNG.normal(size=(2, 3, 7, 9)).astype(np.float32), 0.2)


def test_bytes_stay_in_blocks() -> None:
    assert counted(network(), "avx512-vnni") == {
        "integer_conv_blocked": 6, "dynamic_quantize_blocked": 5, "dynamic_quantize_linear": 1,
    }  # fmt: skip
