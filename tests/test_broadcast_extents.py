"""Optimised and compiled models compute what ONNX says where extents turn out to be 1 or 0."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

import leptonc
from leptonc.driver import Options, compile_model
from leptonc.ir.blob import Array
from leptonc.onnx_optimize import OptimizeOptions, optimize_model
from tests.peer import onnxruntime_gives

Feeds = Mapping[str, Array]

GRAPHS = {
    "the shape of a sum that nothing else reads": """
g (float[b,c] x, float[c,b] y) => (float[o,p] t) {
  zero = Constant <value_float: float = 0.0> ()
  some = Greater (y, zero)
  both = Where (some, y, x)
  shape = Shape (both)
  t = Expand (y, shape)
}
""",
    "a view by the shape of a product": """
g (float[c] x, float[b] y) => (float[o,p] t) {
  axes = Constant <value_ints: ints = [0]> ()
  m = Mul (x, y)
  u = Tanh (m)
  v = Unsqueeze (u, axes)
  turned = Transpose <perm: ints = [1, 0]> (v)
  shape = Shape (turned)
  t = Reshape (m, shape)
}
""",
    "an expand to another tensor's shape": """
g (float[b] x, float[c] y) => (float[o] t) {
  shape = Shape (y)
  wide = Expand (x, shape)
  t = Max (wide, y, x)
}
""",
    "a difference turned round": """
g (float[b,c] x, float[c] y) => (float[o,p] t) {
  turned = Transpose <perm: ints = [1, 0]> (x)
  d = Sub (turned, y)
  t = Neg (d)
}
""",
    "products of many matrices": """
g (float[b,2,3] x, float[c,3,2] y) => (float[o,p,q] t, float[r] n) {
  m = MatMul (x, y)
  t = Relu (m)
  wanted = Constant <value_ints: ints = [-1]> ()
  n = Reshape (t, wanted)
}
""",
    "a transpose that moves an extent of 1": """
g (float[b,b,1] x, float[c] y) => (float[o,p,q] t) {
  turned = Transpose <perm: ints = [0, 2, 1]> (x)
  m = Mul (turned, x)
  t = Sub (m, y)
}
""",
}


Run = Callable[[Feeds], Sequence[Array]]


@pytest.mark.parametrize("name", GRAPHS)
def test_extents_of_one_give_way_where_a_model_is_optimised(name: str) -> None:
    model = _model(name)
    made = optimize_model(model, None, OptimizeOptions()).model
    _agree(model, lambda feeds: onnxruntime_gives(made, feeds))


COMPILED = ("the shape of a sum that nothing else reads", "products of many matrices",
            "an expand to another tensor's shape")  # fmt: skip


@pytest.mark.parametrize("name", COMPILED)
def test_extents_of_one_give_way_where_a_model_is_compiled(name: str, tmp_path: Path) -> None:
    model = _model(name)
    compile_model(model, tmp_path / "compiled", Options())
    loaded = leptonc.load(tmp_path / "compiled")
    _agree(model, lambda feeds: list(loaded.run(feeds).values()))


def _model(name: str) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 9, opset_import: ["" : 17]>\n{GRAPHS[name]}')


def _agree(model: onnx.ModelProto, run: Run) -> None:
    """`run` gives the model's numbers, and an error for what ONNX says cannot be."""
    random = np.random.default_rng(0)
    for b, c in product((1, 3, 2, 0), repeat=2):
        sizes = {"b": b, "c": c}
        feeds = {
            item.name: random.standard_normal(
                [sizes.get(dim.dim_param, dim.dim_value) for dim in item.type.tensor_type.shape.dim]
            ).astype(np.float32)
            for item in model.graph.input
        }
        try:
            want = onnxruntime_gives(model, feeds)
        except Exception as error:
            if "Non-zero status code" not in str(error):
                raise
            want = None
        if want is not None:
            for got, expected in zip(run(feeds), want, strict=True):
                np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6, strict=True)
        elif b != c and 1 not in (b, c):
            with pytest.raises(Exception, match=r"Non-zero status code|elements"):
                run(feeds)
