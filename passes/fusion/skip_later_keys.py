"""skip-later-keys: attention whose mask hides what comes after each query skips these keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from leptonc.ir.build import Builder
from leptonc.ir.graph import Graph, Op, Value
from leptonc.ir.location import Location
from leptonc.ir.ops.attention import head_shapes
from leptonc.ir.table import GROUP, RETURN
from leptonc.ir.types import DType
from leptonc.passes.base import Pass
from leptonc.passes.constants import uniform
from leptonc.passes.context import PassContext
from leptonc.passes.contract import REASSOCIATES, Contract, for_finite
from leptonc.passes.fusion.attention_masks import hides, lowest_of
from leptonc.passes.refine import erase_dead_from, replace_value
from leptonc.passes.shapes.ranges import Ranges
from leptonc.passes.shapes.triangles import Triangle, Triangles, adds_axes, triangle_of

EARLIER = Triangle(upper=False, k=0)
"""Where a mask is true, or adds nothing, that shows each query what comes before it, and itself."""


@dataclass(frozen=True)
class SkipLaterKeys(Pass):
    """Makes attention causal where places that are compared make its mask.

    The mask is true, or zero, from the first key to the query's own and hides all others. Kernels
    then read no mask, and half of the products are left out. Masks that are constants are
    recognised with the attention.
    """

    name: ClassVar[str] = "skip-later-keys"
    numbers: ClassVar[Contract] = for_finite(REASSOCIATES)

    def run(self, graph: Graph, context: PassContext) -> None:
        """Learn what is compared in program order, and where it hides later keys."""
        masked = [op for op in graph.walk() if _is_masked(op)]
        if not masked:
            return
        walk, known = Ranges(), Triangles()
        for op in graph.walk():
            if len(op.results) != 1 or op.definition in (RETURN, GROUP):
                continue
            walk.learn(op)
            triangle = (
                triangle_of(op, walk.facts, known)
                if op.result.type.dtype is DType.BOOL
                else _added_triangle(op, known)
            )
            if triangle is not None:
                known[op.result] = triangle
        for op in masked:
            _make_causal(op, known, context)


def _is_masked(op: Op) -> bool:
    return op.name == "attention" and op.operand("mask") is not None and not op.int("is_causal")


def _added_triangle(op: Op, known: Triangles) -> Triangle | None:
    """Where floats are zero, if they hide scores that they are added to everywhere else."""
    if not op.result.type.dtype.is_float:
        return None
    if op.name in ("reshape", "unsqueeze", "squeeze", "expand"):
        before = op.operands[0]
        alike = adds_axes(before.type.shape, op.result.type.shape)
        return known.get(before) if alike else None
    if op.name != "where" or op.operands[0].type.shape[-2:] != op.result.type.shape[-2:]:
        return None
    condition, shown, hidden = op.operands
    triangle = known.get(condition)
    if triangle is None:
        return None
    if _is_nothing(shown) and _hides(hidden):
        return triangle
    return triangle.rest if _is_nothing(hidden) and _hides(shown) else None


def _is_nothing(value: Value) -> bool:
    return uniform(value) == 0


def _hides(value: Value) -> bool:
    number = uniform(value)
    return number is not None and hides(number, lowest_of(value.type.dtype))


def _make_causal(op: Op, known: Triangles, context: PassContext) -> None:
    q, k, v = op.operands[:3]
    mask = op.operand("mask")
    assert mask is not None
    assert op.region is not None
    heads = op.int("q_num_heads"), op.int("kv_num_heads")
    queries, keys, _ = head_shapes([value.type.shape for value in (q, k, v)], *heads)
    wanted = (queries[2], keys[2])
    if queries[2] != keys[2] or mask.type.shape[-2:] != wanted or known.get(mask) != EARLIER:
        context.miss(SkipLaterKeys.name, op.location, "the mask is not known to hide later keys")
        return
    if not context.grant(SkipLaterKeys.name, op.location):
        return
    location = Location.fused([op.location], by=SkipLaterKeys.name)
    build = Builder(op.region, before=op, location=location)
    new = build.op(op.definition, [q, k, v], {**op.attrs, "is_causal": 1}, names=("q", "k", "v"))
    replace_value(op.result, new.result)
    erase_dead_from([op])
