"""What a step multiplies where the product of all steps stands before them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim
from leptonc.ir.graph import Graph, Op, Value
from leptonc.ir.types import TensorType
from leptonc.passes.constants import integers
from leptonc.passes.recurrent.steps import VIEWS, behind_views
from leptonc.passes.views import reshape_to

MOST_PICKS = 8
"""Between a product and the step that reads a part of it are fewer operations."""


@dataclass(frozen=True)
class Picked:
    """The rows of `whole` that a product would have read, had the picks been made before it.

    `picks` are what moved and selected the rows, the one that the step reads first. Each keeps the
    last axis, so that it can be done before the product as well. Equal `moves` give equal rows.
    """

    whole: Value
    moves: tuple[Hashable, ...]
    picks: tuple[Value, ...] = field(compare=False)

    @classmethod
    def of(cls, product: Op, picks: tuple[Value, ...]) -> Picked:
        """What `product` would have multiplied."""
        return cls(product.operands[0], tuple(map(_move, picks)), picks)

    @property
    def type(self) -> TensorType:
        """The type of what the step multiplies."""
        picked = self.picks[0].type
        return picked.with_shape(*picked.shape[:-1], self.whole.type.shape[-1])

    def read_at(self, number: Value) -> Dim | None:
        """Of how many parts the one at `number` is read; None where something else is."""
        found = [op for pick in self.picks if (op := pick.producer) is not None]
        numbered = [
            op for op in found
            if op.name == "gather" and behind_views(op.operands[1]) is number
        ]  # fmt: skip
        if len(numbered) != 1:
            return None
        return numbered[0].operands[0].type.shape[numbered[0].int("axis")]


def _move(pick: Value) -> Hashable:
    """What tells one way to move and select rows from others."""
    op, rows = pick.producer, pick.type.shape[:-1]
    if op is None or op.name in VIEWS:
        return rows
    attrs = tuple(sorted(op.attrs.items(), key=lambda item: item[0]))
    return (op.name, op.operands[1:], attrs, op.results.index(pick), rows)


def row_wise(value: Value) -> Value | None:
    """What `value` is rows of, in another order or shape; None for anything else."""
    op = value.producer
    if op is None or not op.operands:
        return None
    source = op.operands[0]
    last, rank = source.type.rank - 1, source.type.rank
    if rank < 2 or value.type.rank < 2 or value.type.shape[-1] != source.type.shape[-1]:
        return None
    if op.name in VIEWS:
        return source
    if op.name == "transpose":
        return source if op.ints("perm")[-1:] == (last,) else None
    if op.name in ("gather", "split"):
        behind = op.operands[1:] if op.name == "gather" else ()
        moved = source in behind or op.int("axis") % rank == last
        return None if moved else source
    if op.name == "slice":
        axes = op.operand("axes")
        along = None if axes is None else integers(axes)
        known = all(integers(value) is not None for value in op.operands[1:])
        return source if known and along and not {last, -1} & set(along) else None
    return None


@dataclass
class Picker:
    """Makes picks again, of what products are of instead of what they give; each once."""

    graph: Graph
    made: dict[tuple[Value, Value], Value] = field(default_factory=dict[tuple[Value, Value], Value])

    def rows(self, source: Picked) -> Value:
        """The rows that a step multiplies, each pick where it was made before."""
        value = source.whole
        for pick in reversed(source.picks):
            key = (pick, value)
            if key not in self.made:
                self.made[key] = self._again(pick, value)
            value = self.made[key]
        return value

    def _again(self, pick: Value, value: Value) -> Value:
        op = pick.producer
        assert op is not None
        assert op.region is not None
        build = Builder(op.region, before=op, location=op.location, graph=self.graph)
        if op.name in VIEWS:
            return reshape_to(build, value, (*pick.type.shape[:-1], value.type.shape[-1]))
        operands = [value, *op.operands[1:]]
        again = build.op(op.definition, operands, op.attrs, names=op.operand_names)
        return again.results[op.results.index(pick)]
