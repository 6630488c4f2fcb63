"""Builds models that are broken in one exact way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto
from onnx import helper as h

F32, I64 = TensorProto.FLOAT, TensorProto.INT64
Shape = Sequence["int | str | None"]


def value(name: str, shape: Shape = (2,), dtype: int = F32) -> onnx.ValueInfoProto:
    return h.make_tensor_value_info(name, dtype, shape)


def model(
    nodes: Sequence[NodeProto],
    *,
    inputs: Sequence[onnx.ValueInfoProto] | None = None,
    outputs: Sequence[onnx.ValueInfoProto] | None = None,
    initializers: Sequence[TensorProto] = (),
    functions: Sequence[FunctionProto] = (),
    opset: int = 20,
    domains: Sequence[str] = (),
    **graph: Any,
) -> ModelProto:
    """A model from x to y, both f32[2] unless said otherwise."""
    proto = h.make_graph(
        nodes,
        "hostile",
        [value("x")] if inputs is None else inputs,
        [untyped("y")] if outputs is None else outputs,
        initializers,
        **graph,
    )
    imports = [h.make_opsetid("", opset), *(h.make_opsetid(domain, 1) for domain in domains)]
    return h.make_model(proto, opset_imports=imports, functions=functions, ir_version=10)


def untyped(name: str) -> onnx.ValueInfoProto:
    """An output about which the model says nothing."""
    return onnx.ValueInfoProto(name=name)


def node(
    op: str, inputs: Sequence[str] = ("x",), outputs: Sequence[str] = ("y",), **attributes: Any
) -> NodeProto:
    return h.make_node(op, inputs, outputs, **attributes)


def relu() -> ModelProto:
    return model([node("Relu", name="the relu")])


def tensor(dims: Sequence[int], dtype: int = F32, name: str = "w", **fields: Any) -> TensorProto:
    """A tensor message exactly as told, whether or not it makes sense."""
    made = TensorProto(name=name, data_type=dtype, dims=dims)
    for key, data in fields.items():
        if key == "raw_data":
            made.raw_data = data
        else:
            getattr(made, key).extend(data)
    return made


def with_weight(weight: TensorProto) -> ModelProto:
    """X + w."""
    return model([node("Add", ("x", "w"))], initializers=[weight])


def external(location: str, dims: Sequence[int] = (2,), **entries: str) -> TensorProto:
    """A tensor that keeps its data in a file."""
    made = TensorProto(name="w", data_type=F32, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, text in {"location": location, **entries}.items():
        made.external_data.add(key=key, value=text)
    return made


def const(name: str, array: Any, dtype: Any = np.int64) -> TensorProto:
    return onnx.numpy_helper.from_array(np.asarray(array, dtype), name)


def function(name: str, nodes: Sequence[NodeProto]) -> FunctionProto:
    """A function from a to b in the domain local."""
    imports = [h.make_opsetid("", 20), h.make_opsetid("local", 1)]
    return h.make_function("local", name, ["a"], ["b"], nodes, imports)


def call(name: str, source: str = "a", target: str = "b") -> NodeProto:
    return h.make_node(name, [source], [target], domain="local")


def graph(nodes: Sequence[NodeProto], outputs: Sequence[str]) -> GraphProto:
    """A subgraph without inputs."""
    return h.make_graph(nodes, "inner", [], [untyped(name) for name in outputs])


def branch(then_op: NodeProto, else_op: NodeProto) -> ModelProto:
    """A choice by the input c."""
    choice = node(
        "If", ("c",), then_branch=graph([then_op], ["t"]), else_branch=graph([else_op], ["e"])
    )
    return model([choice], inputs=[value("c", (), TensorProto.BOOL), value("x")])


def nested(depth: int) -> ModelProto:
    """Choices inside each other."""
    inner = node("Relu", ("x",), ("o0",))
    for level in range(1, depth + 1):
        below = f"o{level - 1}"
        inner = node(
            "If", ("c",), (f"o{level}",),
            then_branch=graph([inner], [below]), else_branch=graph([inner], [below]),
        ) if level < 2 else node(
            "If", ("c",), (f"o{level}",),
            then_branch=graph([inner], [below]),
            else_branch=graph([node("Relu", ("x",), ("r",))], ["r"]),
        )  # fmt: skip
    return model(
        [inner],
        inputs=[value("c", (), TensorProto.BOOL), value("x")],
        outputs=[untyped(f"o{depth}")],
    )


def chain(count: int, opset: int = 20) -> ModelProto:
    """Relu after relu."""
    made = onnx.ModelProto(ir_version=10)
    made.opset_import.add(domain="", version=opset)
    made.graph.input.append(value("v0"))
    for index in range(count):
        made.graph.node.add(op_type="Relu", input=[f"v{index}"], output=[f"v{index + 1}"])
    made.graph.output.append(untyped(f"v{count}"))
    return made


def attribute(name: str, **fields: Any) -> AttributeProto:
    return AttributeProto(name=name, **fields)
