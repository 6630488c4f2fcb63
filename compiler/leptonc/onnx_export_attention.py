"""Attention as ONNX nodes: its own operator where onnxruntime is fast with it, else spelled out.

Measured with onnxruntime 1.32 on one and two threads, its own optimisation on and off: Attention
of rows takes 0.6 to 0.95 of the time of what it stands for, of heads 0.7 to 1.05.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import GraphProto

from leptonc.ir.blob import Blob
from leptonc.ir.graph import Attribute, Op, Value
from leptonc.ir.types import DType

if TYPE_CHECKING:
    from leptonc.onnx_export import Exporter

OPSET = 23
"""The opset that has Attention."""


def export_attention(exporter: Exporter, proto: GraphProto, op: Op) -> None:
    """One node, or the nodes that it stands for."""
    newer = exporter.asked is None or exporter.asked >= OPSET
    if newer and is_one_node(op):
        _whole(exporter, proto, op)
    else:
        _Spelling(exporter, proto, op).write()


def is_one_node(op: Op) -> bool:
    """True for attention that ONNX's operator says, and onnxruntime computes as ONNX says."""
    plain = op.operands[0].type.dtype is DType.F32 and not op.float("softcap")
    mask, axis = op.operand("mask"), op.operands[0].type.rank // 2
    if mask is not None and plain:
        # onnxruntime does not broadcast the lengths
        lengths = tuple(value.type.shape[axis] for value in op.operands[:2])
        plain = mask.type.rank in (2, 4) and mask.type.shape[-2:] == lengths
    return plain and bool(op.int("guarded"))


def _whole(exporter: Exporter, proto: GraphProto, op: Op) -> None:
    attributes: dict[str, Attribute] = {"scale": op.float("scale")}
    for name in ("is_causal", "q_num_heads", "kv_num_heads"):
        if op.int(name):
            attributes[name] = op.int(name)
    exporter.need(OPSET, op)
    operands = [exporter.names[value] for value in op.operands]
    name = exporter.names[op.result]
    exporter.emit(
        proto, "Attention", operands, [name], "+".join(op.location.nodes)[:200], attributes
    )


class _Spelling:
    """Writes attention as products and a softmax."""

    def __init__(self, exporter: Exporter, proto: GraphProto, op: Op) -> None:
        self.exporter, self.proto, self.op = exporter, proto, op
        self.name = exporter.names[op.result]
        self.dtype = op.result.type.dtype

    def node(self, op_type: str, *operands: str, result: str = "", **attributes: Attribute) -> str:
        name = result or self.exporter.fresh_name(f"{self.name}_{op_type.lower()}")
        self.exporter.emit(self.proto, op_type, operands, [name], name, attributes)
        return name

    def integers(self, *numbers: int) -> str:
        return self.exporter.constant(self.proto, Blob.of(np.array(numbers, np.int64)), "extents")

    def number(self, value: float) -> str:
        data = np.array(value).astype(self.dtype.numpy)
        return self.exporter.constant(self.proto, Blob.of(data), "number")

    def heads(self, value: Value, heads: int) -> str:
        name = self.exporter.names[value]
        if value.type.rank == 4:
            return name
        split = self.node("Reshape", name, self.integers(0, 0, heads, -1))
        return self.node("Transpose", split, perm=(0, 2, 1, 3))

    def repeated(self, heads: str, copies: int, count: int) -> str:
        """Each head of keys as often as queries' heads read it."""
        if copies == 1:
            return heads
        apart = self.node("Unsqueeze", heads, self.integers(2))
        wide = self.node("Expand", apart, self.integers(1, 1, copies, 1, 1))
        shape = self.node("Shape", heads, start=2)
        lead = self.node("Shape", heads, end=1)
        whole = self.node("Concat", lead, self.integers(count * copies), shape, axis=0)
        return self.node("Reshape", wide, whole)

    def counts(self) -> tuple[int, int]:
        op = self.op
        if op.operands[0].type.rank == 3:
            return op.int("q_num_heads"), op.int("kv_num_heads")
        found = [value.type.shape[1] for value in op.operands[:2]]
        return tuple(dim if isinstance(dim, int) else 1 for dim in found)  # pyright: ignore[reportReturnType]

    def write(self) -> None:
        op, (heads, kv_heads) = self.op, self.counts()
        query = self.heads(op.operands[0], heads)
        keys, values = (
            self.repeated(self.heads(value, kv_heads), heads // kv_heads, kv_heads)
            for value in op.operands[1:3]
        )
        scores = self.node("MatMul", query, self.node("Transpose", keys, perm=(0, 1, 3, 2)))
        weights = self.node("Softmax", self.hidden(self.scaled(scores)), axis=-1)
        if op.int("guarded") and op.operand("mask") is not None:
            lost = self.node("IsNaN", weights)
            weights = self.node("Where", lost, self.number(0.0), weights)
        if op.operands[0].type.rank == 4:
            self.node("MatMul", weights, values, result=self.name)
            return
        turned = self.node("Transpose", self.node("MatMul", weights, values), perm=(0, 2, 1, 3))
        self.node("Reshape", turned, self.integers(0, 0, -1), result=self.name)

    def scaled(self, scores: str) -> str:
        cap, scale = self.op.float("softcap"), self.op.float("scale")
        scale = scale / cap if cap else scale
        if scale != 1:
            scores = self.node("Mul", scores, self.number(scale))
        if cap:
            scores = self.node("Mul", self.node("Tanh", scores), self.number(cap))
        return scores

    def hidden(self, scores: str) -> str:
        mask = self.op.operand("mask")
        if mask is not None:
            given = self.exporter.names[mask]
            if mask.type.dtype is DType.BOOL:
                given = self.node("Where", given, self.number(0.0), self.number(-np.inf))
            scores = self.node("Add", scores, given)
        if not self.op.int("is_causal"):
            return scores
        shape = self.node("Shape", scores, start=2)
        lowest = self.node("Expand", self.number(-np.inf), shape)
        later = self.node("Trilu", lowest, self.integers(1), upper=1)
        return self.node("Add", scores, later)
