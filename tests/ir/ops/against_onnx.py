"""Runs one row beside ONNX's reference, and its inference with symbolic extents."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim, substitute, symbol, symbols
from leptonc.ir.graph import Attribute, Graph, Op, Value
from leptonc.ir.table import Evaluation, OpDef, all_ops
from leptonc.ir.types import DType, TensorType

Array = np.ndarray[Any, np.dtype[Any]]

TOLERANCE = {"float64": 1e-10, "float32": 2e-5, "float16": 4e-3, "bfloat16": 4e-2}


def row_of(onnx_name: str, domain: str = "") -> OpDef:
    """The row that says it is the ONNX operator."""
    for row in all_ops().values():
        if row.onnx is not None and (row.onnx.name, row.onnx.domain) == (onnx_name, domain):
            return row
    raise KeyError(onnx_name)


def build_op(
    row: OpDef,
    arrays: Sequence[Array | None],
    attrs: Mapping[str, Attribute],
    *,
    symbolic: Sequence[int] = (),
) -> tuple[Op, dict[str, Dim]]:
    """The operation on operands of these types; those in `symbolic` have symbolic extents.

    Also what each symbol stands for.
    """
    given = [(i, array) for i, array in enumerate(arrays) if array is not None]
    sizes: dict[str, Dim] = {}
    inputs: list[Value] = []
    constants: dict[int, Array] = {}
    for i, array in given:
        if row.operands[min(i, len(row.operands) - 1)].shape_like:
            constants[i] = array
            continue
        shape: list[Dim] = []
        for axis, extent in enumerate(array.shape):
            if i in symbolic:
                sizes[f"s{i}_{axis}"] = extent
                shape.append(symbol(f"s{i}_{axis}"))
            else:
                shape.append(extent)
        inputs.append(Value(TensorType(DType.of(array.dtype), tuple(shape)), f"v{i}"))
    graph = Graph("test", inputs)
    build, rest = Builder(graph), iter(inputs)
    values = [build.const(constants[i]) if i in constants else next(rest) for i, _ in given]
    names = [row.operands[min(i, len(row.operands) - 1)].name for i, _ in given]
    return build.op(row, values, attrs, names=names), sizes


def evaluate(
    row: OpDef, arrays: Sequence[Array | None], attrs: Mapping[str, Attribute]
) -> list[Array]:
    """What the row computes, checked against the types it infers."""
    op, _ = build_op(row, arrays, attrs)
    assert row.evaluate is not None
    call = Evaluation(row, [a for a in arrays if a is not None], op.operand_names, op.attrs)
    found = row.evaluate(call)
    results = [found] if isinstance(found, np.ndarray) else list(found)
    assert [TensorType(DType.of(r.dtype), r.shape) for r in results] == [v.type for v in op.results]
    return results


def check_symbolic(
    row: OpDef,
    arrays: Sequence[Array | None],
    attrs: Mapping[str, Attribute],
    symbolic: Sequence[int] = (0,),
) -> None:
    """Inference over symbols agrees with inference over the extents they stand for."""
    op, sizes = build_op(row, arrays, attrs, symbolic=symbolic)
    plain, _ = build_op(row, arrays, attrs)
    for result, expected in zip(op.results, plain.results, strict=True):
        shape = tuple(substitute(dim, sizes) for dim in result.type.shape)
        assert shape == expected.type.shape, f"{result.type} at {sizes}"
        assert not any(
            name.startswith(("u", "?")) for dim in result.type.shape for name in symbols(dim)
        )


def model_of(
    onnx_name: str,
    arrays: Sequence[Array | None],
    attrs: dict[str, Any],
    outputs: int,
    opset: int,
    domain: str,
) -> onnx.ModelProto:
    """A model of one node."""
    names = [f"v{i}" if array is not None else "" for i, array in enumerate(arrays)]
    node = helper.make_node(
        onnx_name, names, [f"y{i}" for i in range(outputs)], domain=domain, **attrs
    )
    inputs = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in zip(names, arrays, strict=True)
        if array is not None
    ]
    results = [onnx.ValueInfoProto(name=f"y{i}") for i in range(outputs)]
    graph = helper.make_graph([node], "test", inputs, results)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def onnx_reference(
    onnx_name: str,
    arrays: Sequence[Array | None],
    attrs: dict[str, Any],
    outputs: int = 1,
    opset: int = 25,
) -> list[Array]:
    """What `onnx.reference` computes."""
    model = model_of(onnx_name, arrays, attrs, outputs, opset, "")
    feeds = {f"v{i}": array for i, array in enumerate(arrays) if array is not None}
    evaluator: Any = ReferenceEvaluator(model)
    return [np.asarray(y) for y in evaluator.run(None, feeds)]


def onnxruntime_reference(
    onnx_name: str, arrays: Sequence[Array | None], attrs: dict[str, Any], outputs: int = 1,
    opset: int = 21, domain: str = "",
) -> list[Array]:  # fmt: skip
    """What onnxruntime computes."""
    onnxruntime: Any = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    model = model_of(onnx_name, arrays, attrs, outputs, opset, domain)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feeds = {f"v{i}": array for i, array in enumerate(arrays) if array is not None}
    return [np.asarray(y) for y in session.run(None, feeds)]


def assert_close(actual: Sequence[Array], expected: Sequence[Array]) -> None:
    """Equal types and shapes; floats near, everything else equal."""
    for mine, theirs in zip(actual, expected, strict=False):
        assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
        if mine.dtype.name in TOLERANCE:
            tolerance = TOLERANCE[mine.dtype.name]
            np.testing.assert_allclose(
                mine.astype(np.float64), theirs.astype(np.float64), rtol=tolerance, atol=tolerance
            )
        else:
            np.testing.assert_array_equal(mine, theirs)


def check_row(
    onnx_name: str, arrays: Sequence[Array | None], *, outputs: int = 1,
    symbolic: Sequence[int] = (0,), runtime: bool = False, **attrs: Any,
) -> list[Array]:  # fmt: skip
    """The row agrees with the reference, or onnxruntime, also in types and extents."""
    row = row_of(onnx_name)
    ours: dict[str, Attribute] = {name: frozen(value) for name, value in attrs.items()}
    results = evaluate(row, arrays, ours)
    if runtime:
        expected = onnxruntime_reference(onnx_name, arrays, attrs, outputs)
    else:
        expected = onnx_reference(onnx_name, arrays, attrs, outputs)
    assert_close(results, expected)
    check_symbolic(row, arrays, ours, symbolic)
    return results


def frozen(value: Any) -> Attribute:
    """An attribute as the IR holds it."""
    return tuple(value) if isinstance(value, list | tuple) else value  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def normal(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Array:
    """Standard normal numbers."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)
