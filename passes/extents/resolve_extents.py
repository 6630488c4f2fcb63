"""resolve-extents: sizes that data decides are computed first, and bound by `extents`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from leptonc.ir.build import Builder
from leptonc.ir.graph import Graph, Op, Region, Value
from leptonc.ir.location import Location
from leptonc.ir.table import GROUP
from leptonc.passes.base import Pass
from leptonc.passes.context import PassContext
from leptonc.passes.contract import EXACT, Contract
from leptonc.passes.extents import (
    counts,
    cuts,
    reductions,
    reshapes,
    resizes,
    selections,
    signals,
)
from leptonc.passes.extents.resolution import Resolution
from leptonc.passes.refine import erase_dead_from, replace_value

Resolver = Callable[[Resolution], "Sequence[Value] | None"]
"""Makes the results of an operation anew; None where it knows its sizes already."""

RESOLVERS: Mapping[str, Resolver] = MappingProxyType({
    **counts.RESOLVERS, **cuts.RESOLVERS, **reductions.RESOLVERS, **reshapes.RESOLVERS,
    **resizes.RESOLVERS, **selections.RESOLVERS, **signals.RESOLVERS,
})  # fmt: skip
"""By operation. What is missing here computes no sizes from data."""


@dataclass(frozen=True)
class ResolveExtents(Pass):
    """Replaces operations that read sizes from data by integer arithmetic and `extents`.

    What remains has shapes made of known extents and symbols that `extents` binds, so that it
    compiles like any other operation on symbolic shapes. Sizes that cannot be (a negative extent,
    an axis that does not exist) become an extent of -1, which is an error at run time.
    """

    name: ClassVar[str] = "resolve-extents"
    numbers: ClassVar[Contract] = EXACT

    def run(self, graph: Graph, context: PassContext) -> None:
        """Resolve in program order, so that what becomes known flows on."""
        for op in list(_ops(graph)):
            resolver = RESOLVERS.get(op.name)
            if resolver is None or op.region is None:
                continue
            build = Builder(op.region, before=op, location=_location(op), graph=graph)
            results = resolver(Resolution(op, build, graph))
            if results is not None and context.grant(self.name, op.location):
                _replace(op, results)


def _ops(region: Region) -> Iterator[Op]:
    for op in region:
        yield op
        if op.definition is not GROUP:
            for inner in op.regions:
                yield from _ops(inner)


def _location(op: Op) -> Location:
    return Location.fused([op.location], by=ResolveExtents.name)


def _replace(op: Op, results: Sequence[Value]) -> None:
    for old, new in zip(op.results, results, strict=True):
        if old.is_used:
            new.name = new.name or old.name
            replace_value(old, new)
    feeders = [value.producer for value in op.operands if value.producer is not None]
    assert op.region is not None
    op.region.erase(op)
    erase_dead_from(feeders)
