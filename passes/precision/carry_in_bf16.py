"""carry-in-bf16: what convolutions round is rounded where it is computed."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from leptonc.ir.build import Builder
from leptonc.ir.graph import Graph, Op, Region, Value
from leptonc.ir.ops.bf16 import OPERANDS
from leptonc.ir.table import Trait
from leptonc.ir.types import DType
from leptonc.passes.base import Pass
from leptonc.passes.context import PassContext
from leptonc.passes.contract import EXACT, Contract


@dataclass(frozen=True)
class CarryInBf16(Pass):
    """Stores in bf16 what only convolutions read that round it to bf16.

    Each number is then rounded once, not by each reader; half the memory is written and read, and
    convolutions without pads need no copy of their operand. No result changes.

    Only the result of a convolution in blocks, or of an operation element by element, is carried
    so: their kernels round what they store. What another operation reads in fp32, such as a sum
    with what a convolution skipped, stays as it is, and so does what Winograd's tiles read: they
    round what their points take of it.
    """

    name: ClassVar[str] = "carry-in-bf16"
    numbers: ClassVar[Contract] = EXACT

    def run(self, graph: Graph, context: PassContext) -> None:
        """Look at every result, in every region."""
        regions: list[Region] = [graph]
        regions += [region for op in graph.walk() for region in op.regions]
        for region in regions:
            for op, following in pairwise(list(region)):
                if _may_round(op) and context.grant(self.name, op.location):
                    _carry(op.result, Builder(region, before=following, location=op.location))


def _may_round(op: Op) -> bool:
    """True for what computes floats, in a kernel that can round them, that all readers round."""
    if len(op.results) != 1 or op.result.type.dtype is not DType.F32 or not op.result.is_used:
        return False
    can_round = op.name == "conv_blocked" or op.definition.has(Trait.ELEMENTWISE)
    return can_round and all(_rounds(user, op.result) for user in op.result.users)


def _rounds(user: Op, value: Value) -> bool:
    """True where an operation takes a value as bf16, and only so."""
    if user.name != "conv_blocked" or user.attrs["rounds"] != OPERANDS:
        return False
    is_read_so = not user.attrs["plain"] and not user.int("tile")
    return is_read_so and value not in user.operands[1:]


def _carry(value: Value, build: Builder) -> None:
    """Let the readers of a value take it rounded."""
    users = list(dict.fromkeys(value.users))
    short = build.cast(value, to=DType.BF16)
    for user in users:
        user.set_operand(0, short)
