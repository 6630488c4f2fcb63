"""Operators of onnxruntime's own are written where they are allowed, and mean the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import leptonc
from tests.peer import onnxruntime_gives

HEAD = '<ir_version: 9, opset_import: ["" : 20]>'
CONV = "float[1,3,6,6] x) => (float[1,4,6,6] y"
K = ", ".join(str(number / 10) for number in range(-18, 18))
CONV_WEIGHTS = f"<float[4,3,1,3] k = {{{K}}}, float[4] c = {{1,-2,3,-4}}>"
PADS = "pads=[0,1,0,1]"
ROWS = "float[n,3] x) => (float[n,4] y"
W = ", ".join(str(number / 4) for number in range(-6, 6))
ROW_WEIGHTS = f"<float[3,4] w = {{{W}}}, float[4] c = {{1,-2,3,-4}}>"
BLOCK = "float[2,n,4] x, float[2,n,4] z"

CASES: dict[str, tuple[str, list[str]]] = {
    "relu of conv": (
        f"({CONV}) {CONV_WEIGHTS} {{ p = Conv<{PADS}>(x, k, c) y = Relu(p) }}", ["FusedConv"]
    ),
    "leaky relu of conv without a bias": (
        f"({CONV}) {CONV_WEIGHTS} {{ p = Conv<{PADS}>(x, k) y = LeakyRelu<alpha=0.3>(p) }}",
        ["FusedConv"],
    ),
    "hard sigmoid of conv": (
        f"({CONV}) {CONV_WEIGHTS} {{ p = Conv<{PADS}>(x, k, c) y = HardSigmoid<alpha=0.4>(p) }}",
        ["FusedConv"],
    ),
    "clip of conv": (
        f"({CONV}) <float[4,3,1,3] k = {{{K}}}, float low = {{-0.5}}, float high = {{6}}>"
        f" {{ p = Conv<{PADS}>(x, k) y = Clip(p, low, high) }}",
        ["FusedConv"],
    ),
    "tanh of rows": (
        f"({ROWS}) {ROW_WEIGHTS} {{ p = MatMul(x, w) q = Add(p, c) y = Tanh(q) }}", ["FusedGemm"]
    ),
    "leaky relu of rows": (
        f"({ROWS}) {ROW_WEIGHTS} {{ q = Gemm(x, w, c) y = LeakyRelu<alpha=0.3>(q) }}",
        ["FusedGemm"],
    ),
    "gelu of a sum": (
        f"({BLOCK}) => (float[2,n,4] y) <float[4] c = {{1,-2,3,-4}}>"
        " { m = Mul(x, z) q = Add(m, c) y = Gelu(q) }",
        ["BiasGelu", "Mul"],
    ),
    "gelu by tanh": (
        f'({BLOCK}) => (float[2,n,4] y) {{ m = Mul(x, z) y = Gelu<approximate="tanh">(m) }}',
        ["FastGelu", "Mul"],
    ),
    "a multiple in the gate": (
        f"({BLOCK}) => (float[2,n,4] y) <float a = {{1.702}}>"
        " { m = Mul(x, z) i = Mul(m, a) g = Sigmoid(i) y = Mul(m, g) }",
        ["Mul", "QuickGelu"],
    ),
    "scaled scores": (
        f"({BLOCK}) => (float[2,n,n] y) <float s = {{0.3}}>"
        " { t = Transpose<perm=[0,2,1]>(z) p = MatMul(x, t) y = Mul(p, s) }",
        ["FusedMatMul"],
    ),
    "a turned operand": (
        f"({BLOCK}) => (float[2,4,4] y) {{ t = Transpose<perm=[0,2,1]>(x) y = MatMul(t, z) }}",
        ["FusedMatMul"],
    ),
}  # fmt: skip


def parsed(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f"{HEAD} g {text}")


def optimized(source: onnx.ModelProto, *allow: str) -> onnx.ModelProto:
    return leptonc.optimize(source, allow=allow)


def ops_of(model: onnx.ModelProto) -> list[str]:
    return sorted(node.op_type for node in model.graph.node)


def feeds_of(model: onnx.ModelProto) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    return {
        item.name: generator.standard_normal(
            [dim.dim_value or 5 for dim in item.type.tensor_type.shape.dim]
        ).astype(onnx.helper.tensor_dtype_to_np_dtype(item.type.tensor_type.elem_type))
        for item in model.graph.input
    }


def domains_of(model: onnx.ModelProto) -> set[str]:
    return {node.domain for node in model.graph.node}


@pytest.mark.parametrize("name", CASES)
def test_several_operators_become_one(name: str) -> None:
    text, expected = CASES[name]
    source = parsed(text)
    written = optimized(source, "com.microsoft")
    assert ops_of(written) == expected
    assert "com.microsoft" in {item.domain for item in written.opset_import}
    constants = {item.name for item in written.graph.initializer}
    assert constants <= {name for node in written.graph.node for name in node.input}
    feeds = feeds_of(source)
    for ours, theirs in zip(
        onnxruntime_gives(written, feeds), onnxruntime_gives(source, feeds), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_nothing_else_than_onnx_is_written_unless_it_is_allowed(name: str) -> None:
    text, _ = CASES[name]
    assert domains_of(optimized(parsed(text))) == {""}
    assert domains_of(optimized(parsed(text), "org.test")) == {""}


@pytest.mark.parametrize(
    "text",
    [
        # what is read elsewhere, or is an output, stays
        f"(float[1,3,6,6] x) => (float[1,4,6,6] y, float[1,4,6,6] p) {CONV_WEIGHTS}"
        f" {{ p = Conv<{PADS}>(x, k, c) y = Relu(p) }}",
        f"(float[1,3,6,6] x) => (float[1,4,6,6] y, float[1,4,6,6] q) {CONV_WEIGHTS}"
        f" {{ p = Conv<{PADS}>(x, k, c) y = Relu(p) q = Exp(p) }}",
        # a norm of a sum, for which onnxruntime's operator takes several times as long
        f"({BLOCK}) => (float[2,n,4] y) <float[4] g = {{1,2,3,4}}, float[4] c = {{1,-2,3,-4}}>"
        " { a = Add(x, z) y = LayerNormalization<epsilon=0.01>(a, g, c) }",
        # limits of run time
        "(float[1,3,6,6] x, float low, float high) => (float[1,4,6,6] y)"
        f" {CONV_WEIGHTS} {{ p = Conv<{PADS}>(x, k, c) y = Clip(p, low, high) }}",
        # kernels of other types than f32 are not there
        "(double[n,3] x) => (double[n,n] y) <double s = {0.5}>"
        " { t = Transpose(x) p = MatMul(x, t) y = Mul(p, s) }",
    ],
)
def test_what_does_not_fit_stays_and_means_the_same(text: str) -> None:
    source = parsed(text)
    written = optimized(source, "com.microsoft")
    assert domains_of(written) == {""}
    feeds = feeds_of(source)
    for ours, theirs in zip(
        onnxruntime_gives(written, feeds), onnxruntime_gives(source, feeds), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
