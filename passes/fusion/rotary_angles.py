"""Cosines and sines that are each there twice: the tensor that has them once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from leptonc.ir.blob import Array, Blob
from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim
from leptonc.ir.graph import Op, Value
from leptonc.passes.constants import array_of, integers
from leptonc.passes.fusion.attention_masks import number_of
from leptonc.passes.views import expand_to, reshape_to

_STEPS = 12
LOOKED_AT = 1 << 24
"""Tables with more elements than this are not searched."""


@dataclass(frozen=True)
class Twice:
    """A tensor, the operations that make it of one with half the columns, and that one."""

    ops: tuple[Op, ...]
    once: Value | Array
    squeezed: bool = False
    """Whether `once` has one more axis, of one element."""

    def made(self, build: Builder) -> Value:
        """The tensor with half the columns."""
        if isinstance(self.once, Value):
            value = self.once
            if self.squeezed:
                value = reshape_to(build, value, value.type.shape[:-1])
        else:
            value = build.const(Blob.of(self.once))
        for op in reversed(self.ops):
            value = _again(build, op, value)
        return value


def _again(build: Builder, op: Op, value: Value) -> Value:
    """What `op` makes, of a narrower operand."""
    if op.name in ("reshape", "expand"):
        shape: tuple[Dim, ...] = (*op.result.type.shape[:-1], value.type.shape[-1])
        return (reshape_to if op.name == "reshape" else expand_to)(build, value, shape)
    operands = [value if index == _place(op) else item for index, item in enumerate(op.operands)]
    return build.op(op.definition, operands, op.attrs, names=op.operand_names).result


def _place(op: Op) -> int:
    """Which operand of a step is the tensor."""
    return int(op.name == "mul" and number_of(op.operands[0]) is not None)


def twice(value: Value, *, neighbours: bool) -> Twice | None:
    """How `value` has each column twice: as two halves, or each beside its copy."""
    ops: list[Op] = []
    for _ in range(_STEPS):
        table = _table(value, neighbours=neighbours)
        if table is not None:
            return Twice(tuple(ops), table)
        op = value.producer
        if op is None:
            return None
        found = _neighbours(op) if neighbours else _halves(op)
        if found is not None:
            return Twice(tuple(ops), found, squeezed=neighbours)
        if not _is_step(op):
            return None
        ops.append(op)
        value = op.operands[_place(op)]
    return None


def _table(value: Value, *, neighbours: bool) -> Array | None:
    blob = value.blob
    if blob is None or blob.size > LOOKED_AT or not value.type.rank:
        return None
    data = array_of(value)
    if data is None or data.shape[-1] % 2:
        return None
    half = data.shape[-1] // 2
    first = data[..., ::2] if neighbours else data[..., :half]
    second = data[..., 1::2] if neighbours else data[..., half:]
    return np.ascontiguousarray(first) if np.array_equal(first, second) else None


def _halves(op: Op) -> Value | None:
    rank = op.results[0].type.rank
    if op.name == "concat" and len(op.operands) == 2 and op.int("axis") % rank == rank - 1:
        return op.operands[0] if op.operands[0] is op.operands[1] else None
    return None


def _neighbours(op: Op) -> Value | None:
    """The tensor with one more axis of one element that is repeated along it."""
    pairs = op.operands[0].producer if op.name == "reshape" else None
    if pairs is None or pairs.name not in ("expand", "concat"):
        return None
    shape, one = pairs.result.type.shape, pairs.operands[0]
    made = op.result.type.shape
    if len(shape) < 2 or shape[-1] != 2 or one.type.shape != (*shape[:-1], 1):
        return None
    if made != (*shape[:-2], shape[-2] * 2):
        return None
    same = pairs.name == "expand" or set(pairs.operands) == {one}
    return one if same and len(pairs.operands) == 2 else None


def _is_step(op: Op) -> bool:
    """True for what treats all columns alike."""
    if not op.operands:
        return False
    if op.name in ("cos", "sin", "cast"):
        return True
    if op.name in ("mul", "div"):
        number = op.operands[1 - _place(op)]
        return number_of(number) is not None and op.operands[_place(op)].type == op.result.type
    columns = op.operands[0].type.shape[-1:]
    if op.name in ("reshape", "expand"):
        return bool(columns) and columns == op.result.type.shape[-1:] and columns != (1,)
    rank = op.operands[0].type.rank
    if op.name == "gather":
        return op.int("axis") % rank != rank - 1
    if op.name == "slice":
        axes = integers(op.operand("axes"))
        return axes is not None and rank - 1 not in {axis % rank for axis in axes}
    return False
