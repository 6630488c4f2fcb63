"""sink-transposes: transposes move to where they meet and cancel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from leptonc.ir.build import Builder
from leptonc.ir.graph import Value
from leptonc.passes.base import RewritePass
from leptonc.passes.cleanup import transpose_rules
from leptonc.passes.cleanup.movement_rules import (
    permutation,
    transpose_nothing,
    transpose_of_transpose,
)
from leptonc.passes.cleanup.transpose_rules import (
    ELEMENTWISE,
    is_single,
    transpose_of,
    untransposed,
)
from leptonc.passes.constants import array_of
from leptonc.passes.contract import EXACT, Contract
from leptonc.passes.pattern import Match, pat
from leptonc.passes.rewrite import Rule, rule


@rule(pat.any_of(*ELEMENTWISE)(...).fed_by("transpose"))
def transpose_behind(m: Match, build: Builder) -> Value:
    """An elementwise operation on tensors that are transposed alike is transposed itself."""
    op = m.root
    moved = [v for v in op.operands if array_of(v) is None and not is_single(v)]
    turned = [each for each in map(transpose_of, moved) if each is not None]
    m.fits(bool(turned))
    order = permutation(turned[0])
    alike = len(turned) == len(moved) and all(permutation(each) == order for each in turned)
    m.require(alike, "not all operands are transposed alike")
    rank = op.result.type.rank
    same = len(order) == rank and all(value.type.rank <= rank for value in op.operands)
    m.require(same, "an operand is broadcast")
    shared = any(each.result.only_user is not op for each in turned)
    m.require(not shared or len(turned) > 1, "something else reads the transposed tensor")
    operands = [untransposed(build, value, order) for value in op.operands]
    result = build.op(op.definition, operands, op.attrs, names=op.operand_names).result
    return build.transpose(result, perm=order)


@dataclass(frozen=True)
class SinkTransposes(RewritePass):
    """Moves transposes behind operations on tensors that are transposed alike.

    So the transposes that exporters put around each layer meet and cancel, and what stays does not
    stand between a product and the operations that can join its kernel. Constants are transposed
    at compile time. A transpose that would cancel others goes before the operation instead.
    """

    name: ClassVar[str] = "sink-transposes"
    numbers: ClassVar[Contract] = EXACT
    rules: ClassVar[tuple[Rule, ...]] = (
        transpose_behind,
        *transpose_rules.RULES,
        transpose_nothing,
        transpose_of_transpose,
    )
