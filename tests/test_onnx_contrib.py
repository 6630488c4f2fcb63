"""Fused operators of onnxruntime mean what onnxruntime says they mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.interpret import interpret
from leptonc.ir.verify import verify
from leptonc.onnx_import import import_model
from tests.peer import onnxruntime_gives
from tests.robustness.models import F32, const, model, node, untyped, value

MICROSOFT = "com.microsoft"
RNG = np.random.default_rng(5)
X = RNG.standard_normal((2, 3, 4)).astype(np.float32)
ROW = RNG.standard_normal(4).astype(np.float32)
BYTES = RNG.integers(0, 255, (2, 3, 4, 4)).astype(np.uint8)
BACKWARDS = BYTES[::-1].copy()
IMAGE = RNG.standard_normal((1, 2, 5, 5)).astype(np.float32)
KERNEL = RNG.standard_normal((3, 2, 3, 3)).astype(np.float32)


def f32(number: float) -> Array:
    return np.array(number, np.float32)


def u8(number: int) -> Array:
    return np.array(number, np.uint8)


QUANTISED = {"x": BYTES, "xs": f32(0.1371), "xz": u8(100)}
QUANTISED_OUT = {"ys": f32(0.0713), "yz": u8(90)}

CASES: dict[str, tuple[str, Mapping[str, Array], dict[str, Any], int]] = {
    "gelu": ("Gelu", {"x": X}, {}, 1),
    "fast gelu": ("FastGelu", {"x": X}, {}, 1),
    "fast gelu with bias": ("FastGelu", {"x": X, "b": ROW}, {}, 1),
    "bias gelu": ("BiasGelu", {"x": X, "b": ROW}, {}, 1),
    "quick gelu": ("QuickGelu", {"x": X}, {"alpha": 1.5}, 1),
    "fused matmul": ("FusedMatMul", {"x": X, "b": X}, {"alpha": 0.5, "transB": 1}, 1),
    "skip layer norm": (
        "SkipLayerNormalization", {"x": X, "skip": X[::-1].copy(), "g": ROW, "b": ROW, "c": ROW},
        {"epsilon": 1e-3}, 1),
    "skip layer norm without bias": (
        "SkipLayerNormalization", {"x": X, "skip": X, "g": ROW}, {"epsilon": 1e-3}, 1),
    "skip layer norm with its sum": (
        "SkipLayerNormalization", {"x": X, "skip": X, "g": ROW, "b": ROW}, {}, 4),
    "skip rms norm": (
        "SkipSimplifiedLayerNormalization",
        {"x": X, "skip": X[::-1].copy(), "g": ROW, "b": ROW}, {}, 1),
    "fused conv": (
        "FusedConv", {"x": IMAGE, "w": KERNEL}, {"activation": "Relu", "pads": [1, 1, 1, 1]}, 1),
    "fused conv leaky": (
        "FusedConv", {"x": IMAGE, "w": KERNEL},
        {"activation": "LeakyRelu", "activation_params": [0.2]}, 1),
    "fused conv clipped": (
        "FusedConv", {"x": IMAGE, "w": KERNEL},
        {"activation": "Clip", "activation_params": [0.0, 6.0]}, 1),
    "fused conv with a sum": (
        "FusedConv",
        {"x": IMAGE, "w": KERNEL, "b": ROW[:3], "z": np.ones((1, 3, 3, 3), np.float32)},
        {"activation": "Relu"}, 1),
    "fused gemm": (
        "FusedGemm", {"x": X[0], "w": X[1], "c": np.ones(3, np.float32)},
        {"activation": "Relu", "transB": 1, "alpha": 2.0}, 1),
    "qlinear add": (
        "QLinearAdd",
        QUANTISED | {"b": BACKWARDS, "bs": f32(0.2), "bz": u8(128)} | QUANTISED_OUT, {}, 1),
    "qlinear mul": (
        "QLinearMul",
        QUANTISED | {"b": BACKWARDS, "bs": f32(0.02), "bz": u8(128)} | QUANTISED_OUT, {}, 1),
    "qlinear sigmoid": ("QLinearSigmoid", QUANTISED | {"ys": f32(0.004), "yz": u8(0)}, {}, 1),
    "qlinear leaky relu": ("QLinearLeakyRelu", QUANTISED | QUANTISED_OUT, {"alpha": 0.1}, 1),
    "qlinear global average pool": ("QLinearGlobalAveragePool", QUANTISED | QUANTISED_OUT, {}, 1),
    "qlinear average pool": (
        "QLinearAveragePool", QUANTISED | QUANTISED_OUT, {"kernel_shape": [2, 2]}, 1),
    "qlinear concat": (
        "QLinearConcat", {"ys": f32(0.05), "yz": u8(90)} | QUANTISED, {"axis": 1}, 1),
    "qgemm": (
        "QGemm",
        {"x": BYTES[0, 0], "xs": f32(0.1371), "xz": u8(100), "b": BYTES[1, 0], "bs": f32(0.0217),
         "bz": u8(7), "c": np.arange(4, dtype=np.int32) * 100} | {"ys": f32(1.713), "yz": u8(9)},
        {"transB": 1, "alpha": 0.5}, 1),
    "qgemm to real numbers": (
        "QGemm",
        {"x": BYTES[0, 0], "xs": f32(0.1371), "xz": u8(100), "b": BYTES[1, 0], "bs": f32(0.0217),
         "bz": u8(7)},
        {"transA": 1}, 1),
    "integer product": (
        "MatMulIntegerToFloat",
        {"x": BYTES[0], "b": BYTES[1, 0], "xs": f32(0.1371), "bs": ROW, "xz": u8(100),
         "bz": u8(7), "bias": ROW}, {}, 1),
    "dynamic product": (
        "DynamicQuantizeMatMul",
        {"x": X, "b": BYTES[1, 0], "bs": f32(0.0217), "bz": u8(100)}, {}, 1),
    "quantize": ("QuantizeLinear", {"x": X, "s": f32(0.1), "z": u8(3)}, {}, 1),
    "dequantize": ("DequantizeLinear", QUANTISED, {}, 1),
}  # fmt: skip


def fused(op: str, operands: Mapping[str, Array], attributes: dict[str, Any], count: int) -> Any:
    """A model of one fused operator; the operand called x is the input, the rest is constant."""
    x = operands["x"]
    kind = F32 if x.dtype == np.float32 else TensorProto.UINT8
    names = ["y", "mean", "deviation", "sum"][:count]
    outputs = [name if name in ("y", "sum") else "" for name in names]
    return model(
        [node(op, list(operands), outputs, domain=MICROSOFT, **attributes)],
        inputs=[value("x", x.shape, kind)],
        outputs=[untyped(name) for name in outputs if name],
        initializers=[
            const(name, data, data.dtype) for name, data in operands.items() if name != "x"
        ],
        domains=[MICROSOFT],
    )


def compare(source: Any, feeds: dict[str, Array]) -> None:
    graph = import_model(source)
    verify(graph)
    ours = interpret(graph, feeds).values()
    for mine, other in zip(ours, onnxruntime_gives(source, feeds), strict=True):
        assert mine.dtype == other.dtype
        assert mine.shape == other.shape
        if mine.dtype == np.uint8:  # rounding of exact halves is not told
            assert np.abs(mine.astype(int) - other.astype(int)).max() <= 1
            assert (mine != other).mean() < 0.02
        else:
            np.testing.assert_allclose(mine, other, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", CASES)
def test_as_onnxruntime(name: str) -> None:
    op, operands, attributes, count = CASES[name]
    x = operands["x"]
    compare(fused(op, operands, attributes, count), {"x": x})


def test_layer_norm_before_onnx_had_it() -> None:
    source = model(
        [node("LayerNormalization", ("x", "g", "b"), epsilon=1e-3)],
        inputs=[value("x", (2, 3, 4))],
        initializers=[const("g", ROW, np.float32), const("b", ROW, np.float32)],
        opset=12,
    )
    compare(source, {"x": X})


def test_root_mean_square_norm_in_onnxs_own_domain() -> None:
    source = model(
        [node("SimplifiedLayerNormalization", ("x", "g"), epsilon=1e-3, axis=-1)],
        inputs=[value("x", (2, 3, 4))],
        initializers=[const("g", ROW, np.float32)],
        opset=17,
    )
    compare(source, {"x": X})


def test_embeddings() -> None:
    names = ("x", "segments", "w", "p", "s", "g", "b")
    tables = {name: RNG.standard_normal((10, 4)).astype(np.float32) for name in ("w", "p", "s")}
    source = model(
        [node("EmbedLayerNormalization", names, ("y", ""), domain=MICROSOFT)],
        inputs=[value(name, (2, 3), TensorProto.INT32) for name in names[:2]],
        initializers=[
            *(const(name, table, np.float32) for name, table in tables.items()),
            const("g", ROW, np.float32), const("b", ROW, np.float32),
        ],
        domains=[MICROSOFT],
    )  # fmt: skip
    ids = RNG.integers(0, 10, (2, 3)).astype(np.int32)
    compare(source, {"x": ids, "segments": ids % 2})


def test_an_activation_that_is_not_known() -> None:
    source = fused("FusedConv", {"x": IMAGE, "w": KERNEL}, {"activation": "Frob"}, 1)
    with pytest.raises(LeptonError, match="the activation 'Frob' is not supported"):
        import_model(source)
