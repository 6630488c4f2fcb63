"""turn-reductions: reductions read what was transposed before they read the transposed tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.graph import Attribute, Op, Value
from leptonc.passes.base import RewritePass
from leptonc.passes.cleanup.movement_rules import permutation, transpose_of_ones
from leptonc.passes.cleanup.reduction_rules import POSITIONS, REDUCTIONS, combined_axes
from leptonc.passes.cleanup.sink_transposes import SinkTransposes
from leptonc.passes.cleanup.slice_rules import axis_of
from leptonc.passes.contract import REASSOCIATES, Contract
from leptonc.passes.pattern import Match, Var, pat
from leptonc.passes.rewrite import Rule, rule

x = Var("x")
turned = pat.transpose(x)
reduced = pat.any_of(*REDUCTIONS)(turned, Var("axes").optional())
position = pat.any_of(*POSITIONS)(turned)


@rule(reduced)
def reduction_before_transpose(m: Match, build: Builder) -> Value:
    """A reduction of a transposed tensor is one along other axes; what is left is transposed."""
    axes, order = combined_axes(m.root), permutation(m[turned])
    m.require(axes is not None, "the axes are known at run time only")
    m.fits(bool(axes))
    listed = sorted(order[axis] for axis in axes or ())
    rows = build.const(np.array(listed, np.int64))
    made = build.op(m.root.definition, [m[x], rows], m.root.attrs)
    return _left(build, made, order, listed)


@rule(position)
def position_before_transpose(m: Match, build: Builder) -> Value:
    """Where the largest is in a transposed tensor is looked for along another axis."""
    order = permutation(m[turned])
    axis = order[axis_of(m.root)]
    attrs: dict[str, Attribute] = {**m.root.attrs, "axis": axis}
    return _left(build, build.op(m.root.definition, [m[x]], attrs), order, [axis])


def _left(build: Builder, reduced: Op, order: Sequence[int], axes: Sequence[int]) -> Value:
    """The result with the axes that are left in the order of the transpose."""
    if not reduced.int("keepdims"):
        left = [axis for axis in order if axis not in axes]
        order = [sorted(left).index(axis) for axis in left]
    if list(order) == sorted(order):
        return reduced.result
    return build.transpose(reduced.result, perm=tuple(order))


softmax = pat.any_of("softmax", "log_softmax")(turned)


@rule(pat.transpose(softmax))
def softmax_between_transposes(m: Match, build: Builder) -> Value:
    """A softmax between two transposes that cancel is one along another axis."""
    order, back = permutation(m[turned]), permutation(m.root)
    m.require(
        tuple(order[axis] for axis in back) == tuple(range(len(order))),
        "the transposes do not cancel",
    )
    attrs = {"axis": order[axis_of(m[softmax])]}
    return build.op(m[softmax].definition, [m[x]], attrs).result


@dataclass(frozen=True)
class TurnReductions(RewritePass):
    """Moves transposes behind reductions, along with all that `sink-transposes` does.

    Sums are taken in another order then, and what is left to transpose is small or nothing. A
    softmax stays on its axis unless that rids it of the transposes on both sides.
    """

    name: ClassVar[str] = "turn-reductions"
    numbers: ClassVar[Contract] = REASSOCIATES
    rules: ClassVar[tuple[Rule, ...]] = (
        reduction_before_transpose,
        position_before_transpose,
        softmax_between_transposes,
        transpose_of_ones,
        *SinkTransposes.rules,
    )
