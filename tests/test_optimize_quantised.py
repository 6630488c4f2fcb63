"""Quantised weights stay in bytes in optimised models, and give what they gave."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import leptonc
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


@pytest.mark.parametrize("name", READS)
def test_weights_stay_in_bytes(name: str) -> None:
    body = f"q = QuantizeLinear(x, s, z) r = DequantizeLinear(q, s, z) {READS[name]}"
    text = f"{HEAD} g (float[n,16] x) => (float[n,4] y) {ROWS} {{ {body} }}"
    source = onnx.parser.parse_model(text)
    written = leptonc.optimize(source)
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
