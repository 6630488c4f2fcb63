"""The invariants every pass may rely on and must leave behind."""

from __future__ import annotations

import re

from leptonc.ir.build import infer_types
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim, symbols
from leptonc.ir.graph import Graph, Op, Region, Use, Value
from leptonc.ir.location import UNKNOWN, Location
from leptonc.ir.types import TensorType

_VAGUE = re.compile(r"\?\d+|u\d+_")
"""Symbols of inference and fresh symbols: extents with these are as good as they were known."""


def verify(graph: Graph) -> None:
    """Raise unless the graph holds together.

    Every region ends in return, definitions come before uses, use lists agree and types are as
    inferred.
    """
    Verifier().verify(graph)


class Verifier:
    """Verifies a graph again and again; types of what stayed as it was are not inferred again."""

    def __init__(self) -> None:
        self._right: dict[Op, tuple[object, ...]] = {}
        """What the types of each operation depended on when they were found right."""
        self._before = self._right

    def verify(self, graph: Graph) -> None:
        """Raise as the function `verify` does."""
        self._before, self._right = self._right, {}
        self._verify_region(graph, set(), f"graph @{graph.name}")
        if len(graph.output_names) != len(graph.outputs):
            raise LeptonError(
                f"@{graph.name} names {len(graph.output_names)} outputs "
                f"and returns {len(graph.outputs)}",
                code="E202",
            )

    def _verify_region(self, region: Region, outside: set[Value], what: str) -> None:
        known = outside | set(region.inputs)
        last = region.last
        if last is None or last.name != "return":
            raise LeptonError(
                f"{what} does not end in return",
                last.location if last else region_location(region),
                code="E201",
            )
        for op in region:
            if op.name == "return" and op is not last:
                raise LeptonError(f"{what} has a return before its end", op.location, code="E201")
            _verify_operands(op, known)
            visible = set[Value]() if op.name == "group" else known
            for inner in op.regions:
                if inner.parent is not op:
                    raise LeptonError(
                        f"a region of {op.name} has another parent", op.location, code="E204"
                    )
                self._verify_region(inner, visible, f"a region of {op.name}")
            self._verify_types(op)
            known.update(op.results)

    def _verify_types(self, op: Op) -> None:
        if op.regions:  # more than its operands tells the types
            _verify_types(op)
            return
        state = (
            op.operands, op.operand_names, *op.attrs.values(),
            *[value.type for value in op.operands], *[value.type for value in op.results],
        )  # fmt: skip
        if self._before.get(op) != state:
            _verify_types(op)
        self._right[op] = state


def region_location(region: Region) -> Location:
    """Where the operation that holds the region came from."""
    return region.parent.location if region.parent is not None else UNKNOWN


def _verify_operands(op: Op, known: set[Value]) -> None:
    for slot, operand in enumerate(op.operands):
        if operand not in known:
            name = operand.name or "a value"
            raise LeptonError(
                f"operand {slot} of {op.name}, {name}, is read before it is defined",
                op.location,
                code="E203",
            )
        if Use(op, slot) not in operand._uses:  # pyright: ignore[reportPrivateUsage]
            raise LeptonError(
                f"the use list of {op.name}'s operand {slot} is stale", op.location, code="E204"
            )
    for operand in op.definition.operands:
        if not (operand.optional or operand.variadic) and operand.name not in op.operand_names:
            raise LeptonError(
                f"{op.name} lacks its operand {operand.name}", op.location, code="E205"
            )


def _verify_types(op: Op) -> None:
    if op.name == "return":
        return
    try:
        inferred = infer_types(op)
    except LeptonError as error:
        error.location = op.location
        raise
    if len(inferred) < len(op.results):
        raise LeptonError(
            f"{op.name} has {len(op.results)} results and computes {len(inferred)}",
            op.location,
            code="E206",
        )
    for value, type in zip(op.results, inferred, strict=False):
        if not compatible(value.type, type):
            raise LeptonError(
                f"{op.name} is declared {value.type} but computes {type}", op.location, code="E206"
            )


def compatible(declared: TensorType, inferred: TensorType) -> bool:
    """True where the types agree, as far as their extents are known."""
    if declared.dtype != inferred.dtype or declared.rank != inferred.rank:
        return False
    return all(
        a == b or _is_vague(a) or _is_vague(b)
        for a, b in zip(declared.shape, inferred.shape, strict=True)
    )


def _is_vague(dim: Dim) -> bool:
    return any(_VAGUE.fullmatch(name) for name in symbols(dim))
