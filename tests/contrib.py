"""Models of one operator of com.microsoft, held against onnxruntime."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from leptonc.ir.blob import Array
from leptonc.ir.interpret import interpret
from leptonc.ir.verify import verify
from leptonc.onnx_import import import_model
from tests.peer import onnxruntime_gives

MICROSOFT = "com.microsoft"
Operands = Mapping[str, "Array | None"]


def lone(
    op: str, operands: Operands, outputs: Sequence[str] = ("y",), *,
    fed: Collection[str] = ("x",), free: Mapping[str, Sequence[int | str]] | None = None,
    **attributes: Any,
) -> onnx.ModelProto:  # fmt: skip
    """A model of one operator: the operands in `fed` are inputs, the others constants.

    Operands of None and outputs without a name are absent; `free` gives inputs symbolic extents.
    """
    inputs: list[onnx.ValueInfoProto] = []
    constants: list[onnx.TensorProto] = []
    for name, data in operands.items():
        if data is None:
            continue
        if name in fed:
            shape: Sequence[int | str] = data.shape if free is None else free.get(name, data.shape)
            kind = helper.np_dtype_to_tensor_dtype(data.dtype)
            inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        else:
            constants.append(onnx.numpy_helper.from_array(data, name))
    names = ["" if data is None else name for name, data in operands.items()]
    node = helper.make_node(op, names, list(outputs), name="lone", domain=MICROSOFT, **attributes)
    results: list[Any] = [onnx.ValueInfoProto(name=name) for name in outputs if name]
    graph = helper.make_graph([node], "lone", inputs, results, initializer=constants)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def feeds_of(source: onnx.ModelProto, operands: Operands) -> dict[str, Array]:
    """What the inputs of `source` are fed."""
    given = {item.name: operands[item.name] for item in source.graph.input}
    return {name: data for name, data in given.items() if data is not None}


def interpreted(source: onnx.ModelProto, operands: Operands) -> list[Array]:
    """What the imported model means."""
    graph = import_model(source)
    verify(graph)
    return list(interpret(graph, feeds_of(source, operands)).values())


def compare(ours: Sequence[Array], theirs: Sequence[Array], near: float) -> None:
    """Same types and shapes, and numbers `near` each other.

    Integers are equal but for one unit in 2 of 100 elements: rounding of exact halves is not told.
    """
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == other.dtype
        assert mine.shape == other.shape
        if mine.dtype.kind in "iu" and mine.dtype.itemsize == 1:
            off = np.abs(mine.astype(int) - other.astype(int))
            assert off.max(initial=0) <= 1
            assert (off != 0).mean() < 0.02
        elif mine.dtype.kind in "iub":
            np.testing.assert_array_equal(mine, other)
        else:
            wide = (mine.astype(np.float64), other.astype(np.float64))
            np.testing.assert_allclose(*wide, rtol=near, atol=near)


def check(
    op: str, operands: Operands, outputs: Sequence[str] = ("y",), *,
    fed: Collection[str] = ("x",), near: float = 2e-5, **attributes: Any,
) -> None:  # fmt: skip
    """Hold the interpreted model of one operator against onnxruntime."""
    source = lone(op, operands, outputs, fed=fed, **attributes)
    theirs = onnxruntime_gives(source, feeds_of(source, operands))
    compare(interpreted(source, operands), theirs, near)
