"""Bodies imported once for each turn: what maps over a sequence, and loops that carry one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.graph import Value
from leptonc.onnx_regions import Attributes, subgraph
from leptonc.onnx_scope import FAILED, Failed, Importer, Meaning, Scope
from leptonc.onnx_sequence import known_number

MOST_TURNS = 1000
"""Turns that are imported one by one; each is a copy of the body."""


def sequence_map(
    importer: Importer, scope: Scope, attributes: Attributes, operands: Sequence[Meaning]
) -> Sequence[Meaning]:
    """Import a SequenceMap: its body for each tensor of the sequences."""
    graph = subgraph(attributes, "body")
    if not operands or not isinstance(operands[0], tuple):
        raise LeptonError("input 0 of SequenceMap should be a sequence", code="E014")
    length = len(operands[0])
    for index, operand in enumerate(operands):
        if isinstance(operand, tuple) and len(operand) != length:
            raise LeptonError(
                f"input {index} of SequenceMap has {len(operand)} tensors, input 0 has {length}",
                code="E104",
            )
    _check_turns("SequenceMap", length)
    rows: list[Sequence[Meaning]] = []
    for turn in range(length):
        given = [item[turn] if isinstance(item, tuple) else item for item in operands]
        rows.append(_turn(importer, scope, graph, given, turn))
    return [_sequence([row[at] for row in rows]) for at in range(len(graph.output))]


def unrolled_loop(
    importer: Importer, scope: Scope, attributes: Attributes, operands: Sequence[Meaning]
) -> Sequence[Meaning]:
    """Import a Loop that carries a sequence, whose turns have to be known."""
    graph, build = subgraph(attributes, "body"), scope.build
    trip, condition, *carried = [*operands, None, None] if len(operands) < 2 else operands
    turns = None if trip is None else known_number(trip)
    going = 1 if condition is None else known_number(condition)
    if (turns is None and trip is not None) or going is None:
        raise _unknown()
    scans: list[Sequence[Meaning]] = []
    while going and (turns is None or len(scans) < turns):
        _check_turns("Loop", len(scans) + 1)
        counter, truth = build.const(np.array(len(scans), np.int64)), build.const(np.array(True))
        row = _turn(importer, scope, graph, [counter, truth, *carried], len(scans))
        if any(isinstance(item, Failed) for item in row):
            return [FAILED] * (len(graph.output) - 1)
        going, carried = known_number(row[0]), list(row[1 : 1 + len(carried)])
        if going is None:
            raise _unknown()
        scans.append(row[1 + len(carried) :])
    count = len(graph.output) - 1 - len(carried)
    return [*carried, *(_stacked(scope, [row[at] for row in scans]) for at in range(count))]


def _unknown() -> LeptonError:
    return LeptonError(
        "Loop carries a sequence, so its turns have to be known at compile time", code="E109"
    )


def _check_turns(what: str, turns: int) -> None:
    if turns > MOST_TURNS:
        raise LeptonError(f"{what} takes more than {MOST_TURNS} turns over sequences", code="E018")


def _turn(
    importer: Importer,
    scope: Scope,
    graph: onnx.GraphProto,
    given: Sequence[Meaning],
    turn: int,
) -> Sequence[Meaning]:
    if len(graph.input) != len(given):
        raise LeptonError(
            f"the subgraph has {len(graph.input)} inputs, should have {len(given)}", code="E014"
        )
    inner = scope.inner(scope.build)
    inner.prefix = f"{''.join(scope.build.location.nodes)}[{turn}]/"
    inner.names.update(zip((item.name for item in graph.input), given, strict=True))
    with importer.findings.at(turn):
        return importer.body(inner, graph)


def _sequence(items: Sequence[Meaning]) -> Meaning:
    values: list[Value] = []
    for item in items:
        if isinstance(item, Failed):
            return FAILED
        if not isinstance(item, Value):
            raise LeptonError("SequenceMap makes a sequence of sequences", code="E013")
        values.append(item)
    return tuple(values)


def _stacked(scope: Scope, items: Sequence[Meaning]) -> Meaning:
    """The values of all turns along a new first axis."""
    values = _sequence(items)
    if not isinstance(values, tuple):
        return values
    if not values:
        raise LeptonError(
            f"{shown('Loop')} takes no turn, so the type of what it stacks is not known",
            code="E013",
        )
    axis = scope.build.const(np.array([0], np.int64))
    rows = [scope.build.unsqueeze(value, axis) for value in values]
    return scope.build.op("concat", rows, {"axis": 0}).result
