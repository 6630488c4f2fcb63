"""join-triangles: comparisons of places that say one side of a diagonal are said by `trilu`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.blob import Blob
from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim, symbol, symbols
from leptonc.ir.graph import Graph, Op, Value
from leptonc.ir.location import Location
from leptonc.ir.table import DIMS, GROUP, RETURN
from leptonc.ir.types import DType
from leptonc.passes.base import Pass
from leptonc.passes.context import PassContext
from leptonc.passes.contract import EXACT, Contract
from leptonc.passes.refine import erase_dead_from, replace_value
from leptonc.passes.shapes.ranges import Ranges
from leptonc.passes.shapes.triangles import Triangle, Triangles, kept_triangle, triangle_of

_WALKED = 8
"""How many operations behind a comparison are looked at."""

_ROUNDS = 8
"""How often masks are left out because of others that are."""

_COUNTING = ("range", "cum_sum")


@dataclass(frozen=True)
class JoinTriangles(Pass):
    """Says in fewer nodes of ONNX what lies on one side of a diagonal.

    A `where` that keeps one side of a diagonal and puts zeros on the other is a `trilu` of what it
    chooses from. A mask that compares rows that count up is a `trilu` of truths, where nothing else
    reads the rows. Runtimes then do not compare each pair of places, which takes up to ten times as
    long; kernels made from a graph do that beside other work, so this runs before a model is
    written only.
    """

    name: ClassVar[str] = "join-triangles"
    numbers: ClassVar[Contract] = EXACT

    def run(self, graph: Graph, context: PassContext) -> None:
        """Learn what is compared in program order; then replace what reads it, the last first."""
        walk, known = Ranges(), Triangles()
        masks: dict[Op, Triangle] = {}
        kept: list[tuple[Op, Value, Triangle]] = []
        given = _given(graph)
        for op in graph.walk():
            if len(op.results) != 1 or op.definition in (RETURN, GROUP):
                continue
            walk.learn(op)
            if op.name == "where" and (found := kept_triangle(op, known)) is not None:
                kept.append((op, *found))
            if op.result.type.dtype is DType.BOOL:
                triangle = triangle_of(op, walk.facts, known)
                if triangle is not None and _is_told((*op.result.type.shape, triangle.k), given):
                    known[op.result] = triangle
                    masks[op] = triangle
        for op, value, triangle in kept:
            _replace(op, value, triangle, context)
        for op in _alone(masks, context):
            _replace(op, None, masks[op], context)


def _given(graph: Graph) -> frozenset[Dim]:
    """The extents that inputs have."""
    return frozenset(dim for value in graph.inputs for dim in value.type.shape)


def _is_told(dims: Iterable[Dim], given: frozenset[Dim]) -> bool:
    """True where inputs tell all symbols."""
    return all(symbol(name) in given for dim in dims for name in symbols(dim))


def _alone(masks: Iterable[Op], context: PassContext) -> list[Op]:
    """The masks, the last first, that die with rows of places that only they read."""
    left = [op for op in masks if op.region is not None and not op.result.type.is_static]
    left = [op for op in reversed(left) if op.name != "expand"]
    for _ in range(_ROUNDS):
        others = set(left)
        passed = [op for op in left if _stands_alone(op, others)]
        if len(passed) == len(left):
            return left
        for op in left:
            if op not in passed:
                reason = "something else reads the places that it compares"
                context.miss(JoinTriangles.name, op.location, reason)
        left = passed
    return []


def _stands_alone(op: Op, others: set[Op]) -> bool:
    """True for what dies with a row of places that only it and others read."""
    gone, waiting = {op}, [value.producer for value in op.operands]
    while waiting and len(gone) < _WALKED:
        inner = waiting.pop(0)
        if inner is None or inner in gone or not gone.union(others).issuperset(inner.result.users):
            continue
        if inner.name in _COUNTING:
            return True
        gone.add(inner)
        waiting += [value.producer for value in inner.operands]
    return False


def _replace(op: Op, value: Value | None, triangle: Triangle, context: PassContext) -> None:
    if op.region is None or not context.grant(JoinTriangles.name, op.location):
        return
    location = Location.fused([op.location], by=JoinTriangles.name)
    build = Builder(op.region, before=op, location=location)
    replace_value(op.result, triangle.of(build, _truths(build, op) if value is None else value))
    erase_dead_from([op])


def _truths(build: Builder, op: Op) -> Value:
    """A tensor like the result of a comparison, true everywhere."""
    shape = op.result.type.shape
    extents = build.op(DIMS, [], {"value": shape, "shape": (len(shape),)}).result
    value = Blob.of(np.ones(1, np.bool_))
    return build.op("constant_of_shape", [extents], {"value": value}).result
