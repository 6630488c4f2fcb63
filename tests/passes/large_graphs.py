"""Models of as many nodes as asked for, spelled as exporters do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from leptonc.ir.blob import Array

WIDTH = 8


class Blocks:
    """A residual network that grows by blocks of about 25 nodes."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(0)
        self.weight = self.constant(self._normal(WIDTH, WIDTH))

    def _normal(self, *shape: int) -> Array:
        return self._random.normal(size=shape).astype(np.float32)

    def constant(self, array: Array) -> str:
        """The name of a new constant."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def number(self, number: float) -> str:
        """The name of a constant of one f32."""
        return self.constant(np.array(number, np.float32))

    def ints(self, *numbers: int) -> str:
        """The name of a constant row of integers."""
        return self.constant(np.array(numbers, np.int64))

    def node(self, kind: str, *operands: str, **attributes: Any) -> str:
        """The name of what a new node gives."""
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, operands, [name], name=name, **attributes))
        return name

    def block(self, x: str) -> str:
        """One block on `x`: product, GELU, views of an open batch, normalisation."""
        product = self.node("MatMul", x, self.weight)
        y = self.node("Add", product, self.constant(self._normal(WIDTH)))
        root = self.node("Erf", self.node("Div", y, self.number(1.41421354)))
        gate = self.node("Mul", y, self.node("Add", root, self.number(1)))
        y = self._views(self.node("Mul", gate, self.number(0.5)))
        centred = self.node("Sub", y, self.node("ReduceMean", y, axes=[-1]))
        squares = self.node("Pow", centred, self.number(2))
        variance = self.node("ReduceMean", squares, axes=[-1])
        deviation = self.node("Sqrt", self.node("Add", variance, self.number(1e-5)))
        normal = self.node("Div", centred, deviation)
        scaled = self.node("Mul", normal, self.constant(self._normal(WIDTH)))
        return self.node("Add", x, scaled)

    def _views(self, y: str) -> str:
        rows = self.node("Gather", self.node("Shape", y), self.constant(np.array(0, np.int64)))
        split = self.node(
            "Concat", self.node("Unsqueeze", rows, self.ints(0)), self.ints(2, WIDTH // 2), axis=0
        )
        y = self.node("Transpose", self.node("Reshape", y, split), perm=[0, 2, 1])
        y = self.node("Transpose", self.node("Identity", y), perm=[0, 2, 1])
        return self.node("Reshape", y, self.ints(-1, WIDTH))


def large_model(nodes: int) -> onnx.ModelProto:
    """A model of at least so many nodes."""
    return _grown(nodes, Blocks.block)


def near_misses(nodes: int) -> onnx.ModelProto:
    """Sums with a product that is nearly an activation at each."""

    def step(blocks: Blocks, x: str) -> str:
        near = blocks.node("Mul", blocks.node("Add", x, blocks.weight), blocks.node("Sigmoid", x))
        return blocks.node("Add", x, near)

    return _grown(nodes, step, rows=WIDTH)


def concatenations(nodes: int) -> onnx.ModelProto:
    """Rows put to what was put together so far, one after the other."""
    return _grown(nodes, lambda blocks, x: blocks.node("Concat", x, "x", axis=0), rows=WIDTH)


def factors(nodes: int) -> onnx.ModelProto:
    """Factors that become one."""

    def step(blocks: Blocks, x: str) -> str:
        return blocks.node("Mul", x, blocks.constant(np.full(WIDTH, 1.01, np.float32)))

    return _grown(nodes, step)


def parts(nodes: int) -> onnx.ModelProto:
    """As many parts of one tensor, which are put together again."""
    blocks = Blocks()
    names = [f"part{index}" for index in range(nodes)]
    blocks.nodes.append(helper.make_node("Split", ["x"], names, name="split", axis=0))
    ends = [blocks.node("Sin", name) for name in names]
    return _model(blocks, blocks.node("Concat", *ends, axis=0), nodes)


def readers(nodes: int) -> onnx.ModelProto:
    """One tensor that every other node reads."""
    blocks = Blocks()
    shared = blocks.node("Exp", "x")
    ends = [
        blocks.node("Sin", blocks.node("Add", shared, blocks.number(index)))
        for index in range(nodes // 2)
    ]
    return _model(blocks, blocks.node("Concat", *ends, axis=0), "n")


def _grown(
    nodes: int, step: Callable[[Blocks, str], str], rows: int | str = "n"
) -> onnx.ModelProto:
    blocks, x = Blocks(), "x"
    while len(blocks.nodes) < nodes:
        x = step(blocks, x)
    return _model(blocks, x, rows)


def _model(blocks: Blocks, output: str, rows: int | str) -> onnx.ModelProto:
    graph = helper.make_graph(
        blocks.nodes,
        "large",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, WIDTH])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [None, WIDTH])],
        blocks.constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
