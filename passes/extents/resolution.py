"""What a resolver of sizes works with: rows of int64 numbers, and the sizes made of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.diagnostics import LeptonBug
from leptonc.ir.dims import Dim
from leptonc.ir.graph import Graph, Op, Value
from leptonc.ir.ops.contents import content_of
from leptonc.ir.types import DType, TensorType
from leptonc.passes.refine import refines


class Resolution:
    """One operation to replace by others that read no sizes from data.

    A row is a one-dimensional int64 tensor with one element for each axis (or axis to come).
    """

    def __init__(self, op: Op, build: Builder, graph: Graph) -> None:
        self.op, self.build, self.graph = op, build, graph

    def operand(self, name: str) -> Value:
        """The operand called `name`, which is there."""
        value = self.op.operand(name)
        if value is None:
            raise LeptonBug(f"{self.op.name} lacks {name}", self.op.location)
        return value

    def row(self, name: str) -> Value:
        """The integers of an operand as a row."""
        return self.as_row(self.operand(name))

    def as_row(self, value: Value) -> Value:
        """The integers of a tensor, one after the other."""
        if value.type.dtype is not DType.I64:
            value = self.build.cast(value, to=DType.I64)
        return value if value.type.rank == 1 else self.build.reshape(value, self.const(-1))

    def const(self, *numbers: int) -> Value:
        """A row of known numbers."""
        return self.build.const(np.array(numbers, np.int64))

    def count(self, rank: int) -> Value:
        """0, 1, ... `rank` - 1."""
        return self.const(*range(rank))

    def extents_of(self, value: Value) -> Value:
        """The extents of a tensor as a row."""
        return self.build.shape(value)

    def choose(self, condition: Value, yes: Value, no: Value) -> Value:
        """Element by element `yes` where the condition holds, else `no`."""
        return self.build.where(condition, yes, no)

    def checked(self, row: Value, *conditions: Value) -> Value:
        """`row`, or -1 everywhere, which is no extent, unless all conditions hold everywhere."""
        if not conditions:
            return row
        parts = [self.as_row(self.build.cast(one, to=DType.I64)) for one in conditions]
        truths = self.build.concat(*parts, axis=0) if len(parts) > 1 else parts[0]
        # the product of no elements is 1, so that empty conditions hold
        holds = self.product_of(truths)
        return self.choose(self.build.equal(holds, self.const(1)), row, self.const(-1))

    def sizes(self, row: Value, names: Sequence[Dim] = ()) -> Value:
        """`row` as extents: those in `names`, or new symbols."""
        (count,) = row.type.extents
        given = tuple(names) or tuple(self.graph.fresh_dim() for _ in range(count))
        return self.build.extents(row, names=given, fault=self._fault())

    def _fault(self) -> str:
        """What a size that cannot be says of the operands it comes from."""
        op = self.op
        given = [name for name in dict.fromkeys(op.operand_names) if is_open(op, name)]
        shape_like = [one.name for one in op.definition.operands if one.shape_like]
        given = [name for name in given if name in shape_like]
        return f"{' and '.join(given)} of {op.name} cannot be met" if given else ""

    def scalar(self, value: Value) -> Value:
        """The only element of a row without its dimension."""
        return self.build.reshape(value, self.build.const(np.zeros(0, np.int64)))

    def shaped(self, value: Value, type: TensorType) -> Value:
        """`value` with the extents of `type`, which it turns out to have at run time."""
        if refines(value.type, type):
            return value
        row = self.sizes(self.extents_of(value), type.shape)
        return self.build.reshape(value, row, allowzero=1)

    def pairs(self, axes: Value, rank: int) -> Value:
        """bool[k, rank]: whether element `k` of a row of axes, negative ones too, is that axis."""
        positive = self.wrapped(axes, rank)
        return self.build.equal(self.build.unsqueeze(positive, self.const(1)), self.count(rank))

    def spread(self, row: Value, axes: Value, rank: int) -> Value:
        """The numbers of a row at their axes, 0 at the others."""
        known = content_of(axes)
        if known is None or not all(isinstance(axis, int) for axis in known):
            hits = self.build.cast(self.pairs(axes, rank), to=DType.I64)
            return self.sum_of(self.build.mul(hits, self.build.unsqueeze(row, self.const(1))))
        places = [len(known)] * rank
        for place, axis in enumerate(known):
            places[axis] = place
        return self.build.gather(self.build.concat(row, self.const(0), axis=0), self.const(*places))

    def wrapped(self, axes: Value, rank: int) -> Value:
        """Axes counted from the end where they are negative."""
        behind = self.build.add(axes, self.const(rank))
        return self.choose(self.build.less(axes, self.const(0)), behind, axes)

    def valid_axes(self, axes: Value, rank: int) -> Value:
        """Whether each element of a row is an axis."""
        positive = self.wrapped(axes, rank)
        low = self.build.greater_or_equal(positive, self.const(0))
        return self.build.and_(low, self.build.less(positive, self.const(rank)))

    def sum_of(self, table: Value) -> Value:
        """The sums of the columns of a table of numbers."""
        return self.build.reduce_sum(table, axes=self.const(0), keepdims=0)

    def product_of(self, row: Value) -> Value:
        """The product of a row, as a row of one."""
        return self.build.reduce_prod(row, keepdims=1)

    def kept(self, row: Value, keep: Value, count: int) -> Value:
        """The `count` elements of a row where `keep`, a row of 0 and 1, is 1, in their order."""
        place = self.build.cum_sum(keep, self.build.const(np.array(0)), exclusive=1)
        wanted = self.build.unsqueeze(self.count(count), self.const(1))
        hit = self.build.cast(self.build.equal(wanted, place), to=DType.I64)
        hit = self.build.mul(hit, self.build.mul(keep, row))
        return self.build.reduce_sum(hit, axes=self.const(1), keepdims=0)


def is_open(op: Op, name: str) -> bool:
    """True for an operand whose elements only run time tells."""
    value = op.operand(name)
    return value is not None and value.blob is None and content_of(value) is None
