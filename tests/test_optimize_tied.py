"""Weights that are read as they are and turned are stored once, and never turned at run time."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import leptonc
from tests.peer import onnxruntime_gives

WEIGHTS = ", ".join(str(number / 8) for number in range(-10, 10))


@pytest.mark.parametrize("shape", [(2, 3), (1, 0), (0, 2)])
@pytest.mark.parametrize("dims", ["2,m", "b,s", "1,3", "0,s"])
def test_a_tied_head_turns_no_weights(dims: str, shape: tuple[int, int]) -> None:
    """Whatever of the extents is known, and where there are no rows."""
    named = zip(dims.split(","), shape, strict=True)
    given = [int(dim) if dim.isdigit() else size for dim, size in named]
    text = (
        f'<ir_version: 9, opset_import: ["" : 17]> g (int64[{dims}] i) => (float[{dims},5] y)'
        f" <float[5,4] w = {{{WEIGHTS}}}>"
        " { e = Gather(w, i) r = Tanh(e) t = Transpose<perm=[1,0]>(w) y = MatMul(r, t) }"
    )
    source = onnx.parser.parse_model(text)
    written = leptonc.optimize(source, disable=["fold-constants"])  # as if they were large
    assert "Transpose" not in {node.op_type for node in written.graph.node}
    assert [item.name for item in written.graph.initializer if item.dims == [5, 4]] == ["w"]
    assert not [item.name for item in written.graph.initializer if item.dims == [4, 5]]
    feeds = {"i": np.random.default_rng(1).integers(0, 5, given)}
    expected = onnxruntime_gives(source, feeds)[0]
    got = onnxruntime_gives(written, feeds)[0]
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
