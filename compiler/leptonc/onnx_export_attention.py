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
from leptonc.onnx_export_nodes import node_name
from leptonc.passes.fusion.attention_masks import may_hide_all

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
    exporter.emit(proto, "Attention", operands, [name], node_name(op), attributes)


def export_rotary(exporter: Exporter, proto: GraphProto, op: Op) -> None:
    """One node, which onnxruntime computes in a third of the time of what it stands for."""
    newer = exporter.asked is None or exporter.asked >= OPSET
    x, cos = op.operands[0].type, op.operands[1].type
    length = x.shape[1 if x.rank == 3 else 2]
    plain = all(value.type.shape[:2] == (x.shape[0], length) for value in op.operands[1:])
    if not newer or x.dtype not in (DType.F32, DType.F16) or not plain:
        _Spelling(exporter, proto, op).write_rotary()
        return
    heads, width = op.int("num_heads"), x.shape[-1]
    if heads and isinstance(width, int):
        width //= heads
    attributes: dict[str, Attribute] = {}
    if heads:
        attributes["num_heads"] = heads
    if op.int("interleaved"):
        attributes["interleaved"] = 1
    pairs = cos.shape[2]
    if isinstance(pairs, int) and width != 2 * pairs:
        attributes["rotary_embedding_dim"] = 2 * pairs
        attributes.setdefault("num_heads", x.shape[1] if isinstance(x.shape[1], int) else 0)
    exporter.need(OPSET, op)
    operands = [exporter.names[value] for value in op.operands]
    name, node = exporter.names[op.result], node_name(op)
    exporter.emit(proto, "RotaryEmbedding", operands, [name], node, attributes)


class _Spelling:
    """Writes attention as products and a softmax, and rotary embedding as sums of products."""

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

    def heads(self, value: Value, heads: int, perm: tuple[int, ...] = (0, 2, 1, 3)) -> str:
        name = self.exporter.names[value]
        if value.type.rank == 4:
            return name
        split = self.node("Reshape", name, self.integers(0, 0, heads, -1))
        return self.node("Transpose", split, perm=perm)

    def turned_keys(self, heads: int, kv_heads: int) -> str:
        """Keys with a column for each place."""
        keys = self.op.operands[1]
        if keys.type.rank == 3 and heads == kv_heads:
            return self.heads(keys, heads, (0, 2, 3, 1))
        every = self.repeated(self.heads(keys, kv_heads), heads // kv_heads, kv_heads)
        return self.node("Transpose", every, perm=(0, 1, 3, 2))

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
        values = self.heads(op.operands[2], kv_heads)
        values = self.repeated(values, heads // kv_heads, kv_heads)
        scores = self.node("MatMul", query, self.turned_keys(heads, kv_heads))
        weights = self.node("Softmax", self.hidden(self.scaled(scores)), axis=-1)
        mask = op.operand("mask")
        unseen = mask is not None and (mask.type.dtype is DType.BOOL or may_hide_all(mask))
        if op.int("guarded") and unseen:
            lost = self.node("IsNaN", weights)
            weights = self.node("Where", lost, self.number(0.0), weights)
        if op.operands[0].type.rank == 4:
            self.node("MatMul", weights, values, result=self.name)
            return
        turned = self.node("Transpose", self.node("MatMul", weights, values), perm=(0, 2, 1, 3))
        self.node("Reshape", turned, self.integers(0, 0, -1), result=self.name)

    def write_rotary(self) -> None:
        op = self.op
        source, in_rows = self.exporter.names[op.operands[0]], op.operands[0].type.rank == 3
        if in_rows:
            source = self.node("Reshape", source, self.integers(0, 0, op.int("num_heads"), -1))
        axis = self.integers(2 if in_rows else 1)
        cos, sin = (
            self.node("Unsqueeze", self.exporter.names[value], axis) for value in op.operands[1:]
        )
        pairs, width = op.operands[1].type.shape[2], op.operands[0].type.shape[-1]
        assert isinstance(pairs, int)
        step = 2 if op.int("interleaved") else 1
        low = self.columns(source, 0, pairs * step, step)
        high = self.columns(source, 1 if step == 2 else pairs, 2 * pairs, step)
        real = self.node("Sub", self.node("Mul", low, cos), self.node("Mul", high, sin))
        other = self.node("Add", self.node("Mul", high, cos), self.node("Mul", low, sin))
        turned = [real, other]
        if step == 2:
            apart = [self.node("Unsqueeze", part, self.integers(4)) for part in turned]
            pair = self.node("Concat", *apart, axis=4)
            turned = [self.node("Reshape", pair, self.integers(0, 0, 0, 2 * pairs))]
        if in_rows and isinstance(width, int):
            width //= op.int("num_heads")
        if width != 2 * pairs:
            turned.append(self.columns(source, 2 * pairs, np.iinfo(np.int64).max, 1))
        whole = self.node("Concat", *turned, axis=3) if len(turned) > 1 else turned[0]
        last = self.integers(0, 0, -1) if in_rows else self.integers(0, 0, 0, -1)
        self.node("Reshape", whole, last, result=self.name)

    def columns(self, value: str, start: int, stop: int, step: int) -> str:
        bounds = [self.integers(number) for number in (start, stop, 3, step)]
        return self.node("Slice", value, *bounds)

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
