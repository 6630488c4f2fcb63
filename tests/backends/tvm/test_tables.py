"""What is looked up for bytes is what they are computed to, for each of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, reference

import leptonc
from leptonc.driver import Options, compute_ops, optimize_graph
from leptonc.onnx_import import import_model
from leptonc.targets import Target, backend_of


def activation(dtype: type[Any], shape: tuple[int, ...], *, pooled: bool) -> onnx.ModelProto:
    """A smooth function between two quantisations, and the largest results of each row."""
    point = np.array(np.iinfo(dtype).min + 100, dtype)
    data = {
        "scale": np.float32(0.037), "point": point, "half": np.array([0.5], np.float32),
        "next_scale": np.array([0.021], np.float32), "next_point": np.array([3], np.uint8),
    }  # fmt: skip
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "scale", "point"], ["r"]),
        helper.make_node("Erf", ["r"], ["e"]),
        helper.make_node("Add", ["e", "half"], ["s"]),
        helper.make_node("Mul", ["s", "r"], ["m"]),
        helper.make_node("QuantizeLinear", ["m", "next_scale", "next_point"], ["y"]),
        helper.make_node("DequantizeLinear", ["y", "next_scale", "next_point"], ["d"]),
        helper.make_node("GlobalMaxPool" if pooled else "Neg", ["d"], ["z"]),
    ]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", kind, ["n", *shape[1:]])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, None),
         helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in data.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)])


@pytest.mark.parametrize("isa", ["avx2", "avx512-vnni"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("shape", [(5, 4099), (3, 2, 2051), (2, 64, 64)])
def test_each_byte_gives_what_it_is_computed_to(
    dtype: type[Any], shape: tuple[int, ...], isa: str
) -> None:
    model = activation(dtype, shape, pooled=len(shape) > 2)
    target = Target.parse(f"cpu:isa={isa},spelled_out=true")
    graph = import_model(model)
    optimize_graph(graph, Options(target=target), backend_of(target))
    assert "gather" in {op.name for op in compute_ops(graph)}
    session = leptonc.compile(model, target=str(target), isolated=False)
    x = np.arange(np.prod(shape)).reshape(shape).astype(np.uint8).view(dtype)
    found = session.run({"x": x})
    evaluator: Any = reference.ReferenceEvaluator(model)
    wanted = evaluator.run(["y"], {"x": x})[0]
    np.testing.assert_array_equal(found["y"], wanted)
    real = (wanted.astype(np.float32) - 3) * np.float32(0.021)
    largest = real.max(tuple(range(2, x.ndim)), keepdims=True) if x.ndim > 2 else -real
    np.testing.assert_array_equal(found["z"], largest)
