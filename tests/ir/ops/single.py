# pyright: standard
"""Graphs and ONNX models of one operation, to hold rows against ONNX's reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from leptonc.ir.blob import Array, Blob
from leptonc.ir.build import Builder
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim
from leptonc.ir.dims_parse import parse_dim
from leptonc.ir.graph import Graph, Value
from leptonc.ir.interpret import interpret
from leptonc.ir.table import OpDef, op_named
from leptonc.ir.types import DType, TensorType

Attributes = Mapping[str, Any]


def row(name: str) -> OpDef:
    """The row called `name`, which has to be there."""
    found = op_named(name)
    assert found is not None, name
    return found


def tensor(text: str) -> TensorType:
    """A type from its spelling, as ``f32[batch,3]``."""
    dtype, _, rest = text.partition("[")
    parts = [part for part in rest.rstrip("]").split(",") if part]
    return TensorType(DType(dtype), tuple(parse_dim(part) for part in parts))


def one_op(
    name: str,
    operands: Sequence[Array | None],
    attrs: Attributes | None = None,
    *,
    shapes: Mapping[int, Sequence[Dim | str]] | None = None,
    runtime: Sequence[int] = (),
) -> Graph:
    """A graph of one operation: its shape-like operands are constants, unless in `runtime`.

    `shapes` gives inputs symbolic extents in place of those of their arrays.
    """
    definition = row(name)
    labels = definition.slot_names(len(operands)) if operands else ()
    by_name = {operand.name: operand for operand in definition.operands}
    values: list[Value | None] = []
    inputs: list[Value] = []
    graph = Graph("one")
    build = Builder(graph)
    for slot, (label, array) in enumerate(zip(labels, operands, strict=True)):
        if array is None:
            values.append(None)
        elif by_name[label].shape_like and slot not in runtime:
            values.append(build.const(array))
        else:
            given = shapes[slot] if shapes and slot in shapes else array.shape
            dims = tuple(parse_dim(dim) if isinstance(dim, str) else dim for dim in given)
            inputs.append(Value(TensorType(DType.of(array.dtype), dims), f"x{slot}"))
            graph.add_input(inputs[-1])
            values.append(inputs[-1])
    pairs = [
        (value, label) for value, label in zip(values, labels, strict=True) if value is not None
    ]
    op = build.op(
        definition, [value for value, _ in pairs], attrs, names=[label for _, label in pairs]
    )
    build.return_(*op.results)
    graph.output_names = tuple(f"y{index}" for index in range(len(op.results)))
    return graph


def run(graph: Graph, operands: Sequence[Array | None]) -> list[Array]:
    """The results of a graph of one operation."""
    feeds = {value.name: operands[int(value.name[1:])] for value in graph.inputs}
    results = interpret(graph, {name: array for name, array in feeds.items() if array is not None})
    return list(results.values())


def onnx_model(
    name: str,
    operands: Sequence[Array | None],
    attrs: Attributes | None,
    results: int,
    opset: int = 0,
) -> onnx.ModelProto:
    """The ONNX model of the same operation."""
    definition = row(name)
    assert definition.onnx is not None
    inputs = [f"x{slot}" if array is not None else "" for slot, array in enumerate(operands)]
    spelled = {
        key: _onnx_attribute(value) for key, value in (attrs or {}).items() if value is not None
    }
    outputs = [f"y{index}" for index in range(results)]
    node = helper.make_node(
        definition.onnx.name, inputs, outputs, domain=definition.onnx.domain, **spelled
    )
    infos = [
        helper.make_tensor_value_info(
            f"x{slot}", helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for slot, array in enumerate(operands)
        if array is not None
    ]
    made = [helper.make_empty_tensor_value_info(output) for output in outputs]
    graph = helper.make_graph([node], "one", infos, made)
    imports = [helper.make_opsetid("", opset or max(definition.onnx.since, 20))]
    return helper.make_model(graph, opset_imports=imports)


def _onnx_attribute(value: Any) -> Any:
    if isinstance(value, DType):
        return helper.np_dtype_to_tensor_dtype(value.numpy)
    if isinstance(value, Blob):
        return numpy_helper.from_array(value.array)
    return value


def reference(
    name: str,
    operands: Sequence[Array | None],
    attrs: Attributes | None,
    results: int = 1,
    opset: int = 0,
) -> list[Array]:
    """What ONNX's reference gives."""
    model = onnx_model(name, operands, attrs, results, opset)
    feeds = {f"x{slot}": array for slot, array in enumerate(operands) if array is not None}
    with np.errstate(all="ignore"):
        return [np.asarray(array) for array in ReferenceEvaluator(model).run(None, feeds)]  # pyright: ignore


def check_row(
    name: str,
    operands: Sequence[Array | None],
    attrs: Attributes | None = None,
    *,
    tolerance: float = 0.0,
) -> list[Array]:
    """Hold a row's inferred types and its data against ONNX's reference; gives the data."""
    graph = one_op(name, operands, attrs)
    found = run(graph, operands)
    expected = reference(name, operands, attrs, len(graph.output_names))
    types = [value.type for value in graph.outputs]
    for type, mine, theirs in zip(types, found, expected, strict=True):
        assert mine.dtype == type.dtype.numpy == theirs.dtype, (type, mine.dtype, theirs.dtype)
        assert mine.shape == theirs.shape, (name, attrs, mine.shape, theirs.shape)
        assert not type.is_static or type.extents == mine.shape, (type, mine.shape)
        if mine.dtype.kind in "OUS":
            assert mine.tolist() == theirs.tolist()
        else:
            np.testing.assert_allclose(
                mine.astype(np.float64), theirs.astype(np.float64), rtol=tolerance, atol=tolerance
            )
    return found


def result_types(
    name: str, operands: Sequence[str | Array | None], attrs: Attributes | None = None
) -> list[str]:
    """The spelled types that a row infers; operands are types, or arrays as constants."""
    graph = Graph("types")
    build = Builder(graph)
    definition = row(name)
    labels = definition.slot_names(len(operands)) if operands else ()
    values: list[Value] = []
    names: list[str] = []
    for slot, (operand, label) in enumerate(zip(operands, labels, strict=True)):
        if operand is None:
            continue
        if isinstance(operand, str):
            values.append(graph.add_input(Value(tensor(operand), f"x{slot}")))
        else:
            values.append(build.const(operand))
        names.append(label)
    op = build.op(definition, values, attrs, names=names)
    return [str(result.type) for result in op.results]


def check_refusal(
    name: str, operands: Sequence[str | Array | None], attrs: Attributes, code: str, text: str
) -> None:
    """Typing the operation is an error with that code and a message that has the text."""
    with pytest.raises(LeptonError) as raised:
        result_types(name, operands, attrs)
    assert raised.value.code == code
    assert text in raised.value.message


def ints(*items: int) -> Array:
    """An int64 vector."""
    return np.array(items, np.int64)


def data(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Array:
    """Random data with distinct magnitudes."""
    generator = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "b":
        return generator.integers(0, 2, shape).astype(bool)
    if np.dtype(dtype).kind in "iu":
        return generator.integers(0, 100, shape).astype(dtype)
    return generator.standard_normal(shape).astype(dtype)
