"""Layers between quantised numbers are computed in integers, and give what they say."""

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

RNG = np.random.default_rng(11)
DEPTH, COLUMNS = 83, 41


def node(kind: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def layer(x: str, w: str, *, by_column: bool, gemm: bool, small: bool = False) -> onnx.ModelProto:
    """Rows are quantised; a layer, a bias that was quantised, and once more."""
    low, high = (-64, 64) if small else (np.iinfo(w).min, np.iinfo(w).max + 1)
    count, axis = (COLUMNS, int(not gemm)) if by_column else (1, 1)
    weight = RNG.integers(low, high, (DEPTH, COLUMNS)).astype(w)
    weight[0], weight[1] = low, high - 1
    scales = np.exp(RNG.normal(size=count)).astype(np.float32) / 256
    points = RNG.integers(60, 200, count) if w == "uint8" else np.zeros(count)
    data = {
        "scale": np.float32(0.031), "point": np.array(np.iinfo(x).max // 2 - 5, x),
        "weight": np.ascontiguousarray(weight.T) if gemm else weight,
        "scales": scales if by_column else scales.reshape(()),
        "points": points.astype(w) if by_column else points.astype(w).reshape(()),
        "bias": RNG.integers(-9999, 9999, COLUMNS).astype(np.int32),
        "bias_scales": (np.float32(0.031) * np.broadcast_to(scales, COLUMNS)).astype(np.float32),
        "next_scale": np.float32(0.2), "next_point": np.array(100, np.uint8),
    }  # fmt: skip
    axes = {"axis": axis} if by_column else {}
    nodes = [
        node("QuantizeLinear", "x scale point", "bytes"),
        node("DequantizeLinear", "bytes scale point", "real"),
        node("DequantizeLinear", "weight scales points", "matrix", **axes),
        node("DequantizeLinear", "bias bias_scales", "row", axis=0),
        node("Gemm", "real matrix row", "sums", transB=1) if gemm
        else node("MatMul", "real matrix", "products"),
        *([] if gemm else [node("Add", "products row", "sums")]),
        node("QuantizeLinear", "sums next_scale next_point", "y"),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", DEPTH])],
        [helper.make_tensor_value_info("sums", TensorProto.FLOAT, ["n", COLUMNS]),
         helper.make_tensor_value_info("y", TensorProto.UINT8, ["n", COLUMNS])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in data.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def rows(count: int) -> Array:
    """Some numbers are beyond what bytes hold."""
    x = (RNG.normal(size=(count, DEPTH)) * 3).astype(np.float32)
    x[::3, ::5] *= 100
    return x


@pytest.mark.parametrize(
    ("x", "w", "by_column", "gemm", "small"),
    [("uint8", "int8", False, False, True), ("uint8", "int8", True, False, False),
     ("int8", "int8", True, True, False), ("int8", "uint8", True, False, False)],
)  # fmt: skip
def test_a_layer(x: str, w: str, *, by_column: bool, gemm: bool, small: bool) -> None:
    model = layer(x, w, by_column=by_column, gemm=gemm, small=small)
    graph = import_model(model)
    optimize_graph(graph, Options(), backend_of(Target()))
    assert [op.name for op in compute_ops(graph)].count("integer_linear") == 1
    session = leptonc.compile(model, isolated=False)
    evaluator: Any = reference.ReferenceEvaluator(model)
    for count in (1, 4, 37):
        feeds = {"x": rows(count)}
        ours = session.run(feeds)
        expected: list[Array] = evaluator.run(None, feeds)
        sums, bytes = expected
        spread = np.abs(sums).max()
        np.testing.assert_allclose(ours["sums"], sums, rtol=2e-6, atol=2e-6 * spread)
        steps = ours["y"].astype(np.int32) - bytes.astype(np.int32)
        assert np.abs(steps).max() <= 1
        assert (steps == 0).mean() > 0.99


def signal(x: str, channels: int, taps: int, filters: int, **attributes: Any) -> onnx.ModelProto:
    """A convolved signal of bytes with a scale for each filter."""
    scales = np.exp(RNG.normal(size=filters)).astype(np.float32) / 256
    data = {
        "scale": np.float32(0.031), "point": np.array(np.iinfo(x).max // 2 - 5, x),
        "weight": RNG.integers(-128, 128, (filters, channels, taps)).astype(np.int8),
        "scales": scales, "points": np.zeros(filters, np.int8),
        "bias": RNG.normal(size=filters).astype(np.float32),
    }  # fmt: skip
    nodes = [
        node("QuantizeLinear", "x scale point", "bytes"),
        node("DequantizeLinear", "bytes scale point", "real"),
        node("DequantizeLinear", "weight scales points", "filters", axis=0),
        node("Conv", "real filters bias", "y", **attributes),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", channels, 21])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in data.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize(
    ("x", "channels", "taps", "attributes"),
    [("uint8", 68, 5, {"pads": [2, 1], "strides": [2]}), ("int8", 256, 1, {"strides": [3]}),
     ("int8", 130, 3, {"dilations": [2], "auto_pad": "SAME_UPPER"})],
)  # fmt: skip
def test_a_signal(x: str, channels: int, taps: int, attributes: dict[str, Any]) -> None:
    model = signal(x, channels, taps, 67, **attributes)
    graph = import_model(model)
    optimize_graph(graph, Options(), backend_of(Target()))
    assert [op.name for op in compute_ops(graph)].count("integer_linear") == 1
    session = leptonc.compile(model, isolated=False)
    evaluator: Any = reference.ReferenceEvaluator(model)
    feeds = {"x": (RNG.normal(size=(3, channels, 21)) * 3).astype(np.float32)}
    (expected,) = evaluator.run(None, feeds)
    spread = np.abs(expected).max()
    ours = session.run(feeds)["y"]
    np.testing.assert_allclose(ours, expected, rtol=2e-6, atol=2e-6 * spread)


@pytest.mark.parametrize(("x", "w"), [("uint8", "uint8"), ("int8", "int8")])
def test_a_quantised_signal(x: str, w: str) -> None:
    """Every byte is that of the sums and scales as they are written."""
    channels, filters, info = 65, 70, np.iinfo(w)
    weight = RNG.integers(info.min, info.max + 1, (filters, channels, 4)).astype(w)
    scales = np.exp(RNG.normal(size=filters)).astype(np.float32) / 256
    data: dict[str, Any] = {
        "a": np.float32(0.031), "b": np.array(100, x), "w": weight, "c": scales,
        "d": (RNG.integers(60, 200, filters) if w == "uint8" else np.zeros(filters)).astype(w),
        "e": np.float32(0.9), "f": np.array(9, x),
        "g": RNG.integers(-9999, 9999, filters).astype(np.int32),
    }  # fmt: skip
    kind = TensorProto.UINT8 if x == "uint8" else TensorProto.INT8
    graph = helper.make_graph(
        [node("QLinearConv", "x a b w c d e f g", "y", pads=[2, 1])], "g",
        [helper.make_tensor_value_info("x", kind, ["n", channels, 21])],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in data.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    limits = np.iinfo(x)
    rows = RNG.integers(limits.min, limits.max + 1, (2, channels, 21)).astype(x)
    padded = np.full((2, channels, 24), 100, np.int64)
    padded[..., 2:-1] = rows
    windows = np.lib.stride_tricks.sliding_window_view(padded - 100, 4, axis=2)
    centred = weight.astype(np.int64) - data["d"].astype(np.int64)[:, None, None]
    sums = np.einsum("nclk,fck->nfl", windows, centred) + data["g"][:, None]
    factor = (data["a"] * scales / data["e"]).astype(np.float32)
    expected = np.rint(sums.astype(np.float32) * factor[:, None]) + 9
    ours = leptonc.compile(model, isolated=False).run({"x": rows})["y"]
    np.testing.assert_array_equal(ours, np.clip(expected, limits.min, limits.max).astype(x))
    imported = import_model(model)
    optimize_graph(imported, Options(), backend_of(Target()))
    assert [op.name for op in compute_ops(imported)].count("integer_linear") == 1
