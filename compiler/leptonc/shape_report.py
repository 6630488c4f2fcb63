"""The type of every value of a graph, and for each extent that is not known: who left it open."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from leptonc.ir.diagnostics import LeptonBug, shown
from leptonc.ir.dims import symbols
from leptonc.ir.graph import Content, Graph, Op, Region, Value
from leptonc.shape_reasons import operator_name, place_name, reason_of

_FRESH = re.compile(r"u\d+_")
_CONTENT_SHOWN = 12

STATIC, SYMBOLIC, RUN_TIME = "static", "symbolic", "run time"
"""How much is known of a value's extents: all of them, up to those of the inputs, or less."""


@dataclass(frozen=True)
class ShapeRow:
    """One value."""

    depth: int
    """How many bodies of If, Loop and Scan it stands in."""
    node: str
    op: str
    value: str
    type: str
    content: str
    """The elements, where they are known as extents."""
    known: str


@dataclass(frozen=True)
class OpenExtent:
    """An extent that is known at run time only."""

    symbol: str
    value: str
    axis: int
    node: str
    op: str
    operand: str
    """The operand that decides it; empty where none does."""
    because: str
    settle: str
    """The fact that would make it known."""


@dataclass(frozen=True)
class InputExtent:
    """An extent of the inputs that a caller chooses."""

    symbol: str
    input: str
    axis: int

    @property
    def settle(self) -> str:
        """The option that fixes it."""
        return f"--dim {self.symbol}=N"


@dataclass(frozen=True)
class ShapeReport:
    """What is known of the shapes of a graph."""

    rows: tuple[ShapeRow, ...]
    open_extents: tuple[OpenExtent, ...]
    input_extents: tuple[InputExtent, ...]

    @property
    def counts(self) -> Mapping[str, int]:
        """How many values there are of each kind."""
        kinds = [row.known for row in self.rows]
        return {kind: kinds.count(kind) for kind in (STATIC, SYMBOLIC, RUN_TIME)}

    def as_json(self) -> dict[str, Any]:
        """The report as plain data."""
        return {
            "values": [asdict(row) for row in self.rows],
            "open_extents": [asdict(item) for item in self.open_extents],
            "input_extents": [
                {**asdict(item), "settle": item.settle} for item in self.input_extents
            ],
            "summary": dict(self.counts),
        }


def shape_report(graph: Graph) -> ShapeReport:
    """What is known of the shapes of a graph, which may lack its end."""
    inputs = _input_extents(graph)
    given = frozenset(item.symbol for item in inputs)
    rows: list[ShapeRow] = []
    made: dict[str, OpenExtent] = {}
    for depth, value, op in _values(graph, 0):
        rows.append(_row(depth, value, op, given))
    for value, op in _definitions(graph):
        for axis, dim in enumerate(value.type.shape):
            for symbol in sorted(symbols(dim) - given - set(made), key=_by_number):
                made[symbol] = _open_extent(symbol, value, axis, op)
    return ShapeReport(tuple(rows), tuple(made.values()), inputs)


def _by_number(symbol: str) -> tuple[int, str]:
    return (int(symbol[1:-1]) if _FRESH.fullmatch(symbol) else 0, symbol)


def _input_extents(graph: Graph) -> tuple[InputExtent, ...]:
    found: dict[str, InputExtent] = {}
    for value in graph.inputs:
        for axis, dim in enumerate(value.type.shape):
            for symbol in sorted(symbols(dim)):
                found.setdefault(symbol, InputExtent(symbol, value.name, axis))
    return tuple(found.values())


def _values(region: Region, depth: int) -> Iterator[tuple[int, Value, Op | None]]:
    """Each value with its depth, in the order of the model; inputs of bodies have no operation."""
    for value in region.inputs:
        yield depth, value, region.parent
    for op in region:
        for value in op.results:
            yield depth, value, op
        for inner in op.regions:
            yield from _values(inner, depth + 1)


def _definitions(region: Region) -> Iterator[tuple[Value, Op | None]]:
    """Each value in the order in which its type became known: bodies before what holds them."""
    for value in region.inputs:
        yield value, region.parent
    for op in region:
        for inner in op.regions:
            yield from _definitions(inner)
        for value in op.results:
            yield value, op


def _row(depth: int, value: Value, op: Op | None, given: frozenset[str]) -> ShapeRow:
    free = {symbol for dim in value.type.shape for symbol in symbols(dim)}
    known = STATIC if not free else SYMBOLIC if free <= given else RUN_TIME
    kind = "input" if value.producer is None else operator_name(value.producer)
    node = place_name(op) if op is not None else ""
    content = _content_text(value.content)
    return ShapeRow(depth, node, kind, value.name, str(value.type), content, known)


def _content_text(content: Content | None) -> str:
    if content is None:
        return ""
    items = [str(item) for item in content.reshape(-1)[:_CONTENT_SHOWN]]
    if content.size > _CONTENT_SHOWN:
        items.append(f"... {content.size - _CONTENT_SHOWN} more")
    return f"[{', '.join(items)}]" if content.ndim else items[0]


def _open_extent(symbol: str, value: Value, axis: int, op: Op | None) -> OpenExtent:
    if op is None:  # every symbol of an input is given
        raise LeptonBug(f"nothing made the extent {symbol} of {value.name}")
    reason = reason_of(value, op)
    return OpenExtent(
        symbol, value.name, axis, place_name(op), operator_name(op),
        reason.operand, reason.because, reason.settle,
    )  # fmt: skip


def sentence(item: OpenExtent) -> str:
    """An open extent as one sentence."""
    name = f"axis {item.axis} of {shown(item.value)}" if item.value else f"axis {item.axis}"
    return f"{item.symbol} is {name}, made by {item.op} {shown(item.node)}: {item.because}"
