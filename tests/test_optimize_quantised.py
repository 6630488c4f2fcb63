"""Quantised weights stay in bytes in optimised models, and give what they gave."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import leptonc
from leptonc.onnx_optimize import OptimizeOptions, optimize_model
from tests.peer import onnxruntime_gives

HEAD = '<ir_version: 9, opset_import: ["" : 17]>'
BYTES = ", ".join(str(number) for number in range(-32, 32))
ROWS = (
    f"<int8[16,4] w = {{{BYTES}}}, float s = {{0.02}}, int8 z = {{0}}, int8[4] c = {{1,-2,3,-4}}>"
)
READS = {
    "product": "d = DequantizeLinear(w, s, z) y = MatMul(r, d)",
    "product of a turned one": (
        "d = DequantizeLinear(w, s, z) i = Transpose<perm=[1,0]>(d) k = Transpose<perm=[1,0]>(i)"
        " y = MatMul(r, k)"
    ),
    "general product": "d = DequantizeLinear(w, s, z) b = DequantizeLinear(c, s, z)"
    " y = Gemm(r, d, b)",
}


@pytest.mark.parametrize("opset", [None, 17, 21, 23])
@pytest.mark.parametrize("name", READS)
def test_weights_stay_in_bytes(name: str, opset: int | None) -> None:
    body = f"q = QuantizeLinear(x, s, z) r = DequantizeLinear(q, s, z) {READS[name]}"
    text = f"{HEAD} g (float[n,16] x) => (float[n,4] y) {ROWS} {{ {body} }}"
    source = onnx.parser.parse_model(text)
    written = optimize_model(source, None, OptimizeOptions(opset=opset)).model
    kinds = {tuple(item.dims): item.data_type for item in written.graph.initializer}
    assert kinds[(16, 4)] == onnx.TensorProto.INT8
    feeds = {"x": np.random.default_rng(3).uniform(-2, 2, (3, 16)).astype(np.float32)}
    expected = onnxruntime_gives(source, feeds)
    np.testing.assert_allclose(onnxruntime_gives(written, feeds)[0], expected[0], rtol=1e-5)


def test_quantised_constants_that_nothing_multiplies_become_numbers() -> None:
    text = (
        f"{HEAD} g (float[4] x) => (float[4] y) <int8[4] c = {{1,-2,3,-4}}, float s = {{0.5}}>"
        " { d = DequantizeLinear(c, s) y = Sub(x, d) }"
    )
    written = leptonc.optimize(onnx.parser.parse_model(text))
    assert [node.op_type for node in written.graph.node] == ["Sub"]


MOVED = "t = Transpose<perm=[0,2,1,3]>(a) u = QuantizeLinear(t, s, z) v = DequantizeLinear(u, s, z)"


@pytest.mark.parametrize("signed", [True, False])
def test_signed_numbers_keep_the_pairs_that_onnxruntime_looks_for(signed: bool) -> None:
    """It computes a convolution of signed bytes in integers only if pairs stand around it."""
    kind = "int8" if signed else "uint8"
    text = (
        f"{HEAD} g (float[1,3,4,5] x) => (float[1,5,3,2] y) <float s = {{0.05}}, {kind} z = {{3}},"
        f" int8[2,4,1,1] w = {{1,-2,3,-4,5,6,-7,8}}, int8 zero = {{0}}, int64[4] to = {{1,5,3,2}}>"
        " { q = QuantizeLinear(x, s, z) a = DequantizeLinear(q, s, z)"
        f" {MOVED} r = DequantizeLinear(w, s, zero) c = Conv<kernel_shape=[1,1]>(v, r)"
        " o = QuantizeLinear(c, s, z) p = DequantizeLinear(o, s, z) y = Reshape(p, to) }"
    )
    source = onnx.parser.parse_model(text)
    written = leptonc.optimize(source)
    kinds = [node.op_type for node in written.graph.node]
    assert kinds.count("QuantizeLinear") == (3 if signed else 2)
    feeds = {"x": np.random.default_rng(3).uniform(-2, 2, (1, 3, 4, 5)).astype(np.float32)}
    expected = onnxruntime_gives(source, feeds)
    np.testing.assert_allclose(onnxruntime_gives(written, feeds)[0], expected[0], rtol=1e-5)
    by_name = {output: node for node in written.graph.node for output in node.output}
    readers = [node for node in written.graph.node if node.op_type == "DequantizeLinear"]
    pairs = [by_name[node.input[0]].op_type for node in readers if node.input[0] in by_name]
    assert (set(pairs) == {"QuantizeLinear"}) == signed
