"""trim-regions: choices and loops carry and give back only what something reads."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.graph import Graph, Op, Value
from leptonc.ir.ops.control import IF, LOOP
from leptonc.ir.table import RETURN
from leptonc.passes.base import Pass
from leptonc.passes.context import PassContext
from leptonc.passes.contract import EXACT, Contract
from leptonc.passes.control_flow.induction import equal_carried
from leptonc.passes.control_flow.liveness import Kept, Live, is_dead, kept_of
from leptonc.passes.control_flow.regions import Turning, is_true, known_number, origin, rebuilt
from leptonc.passes.refine import erase_dead_from, refines, replace_value


@dataclass(frozen=True)
class TrimRegions(Pass):
    """Removes results of `if`, `loop` and `scan` that nothing reads, and what only they need.

    A carried value that no turn changes is read from where it came from. Of two that begin alike
    one stays, if each turn gives equal ones where it takes equal ones; of equal results too.
    Sequences that no turn reads go, and so does a condition that never ends a loop before its last
    turn.
    """

    name: ClassVar[str] = "trim-regions"
    numbers: ClassVar[Contract] = EXACT

    def run(self, graph: Graph, context: PassContext) -> None:
        """Share what is equal, then drop what nothing needs, again as long as there is more."""
        before = -1
        while before != len(context.applied):
            before = len(context.applied)
            ops = [op for op in graph.walk() if op.name in ("if", "loop", "scan")]
            for op in ops:
                if op.definition is LOOP:
                    _settle_condition(Turning(op), context)
                _share_results(op, context)
                if op.definition is not IF:
                    _share_carried(Turning(op), context)
            if ops:
                _drop_unread(ops, graph, context)


def _drop_unread(ops: list[Op], graph: Graph, context: PassContext) -> None:
    live = Live(graph)
    kept = {op: kept_of(op, live) for op in ops}
    changed = [op for op in ops if not kept[op].is_everything(op)]
    if not changed or not all(context.grant("unread-results", op.location) for op in changed):
        return
    # what reads an operation stands behind it or in it, so it is gone or changed before
    for op in reversed(list(graph.walk())):
        parent = op.region.parent if op.region is not None else None
        if op.definition is RETURN and parent in kept:
            assert parent is not None
            places = _kept_outputs(parent, kept[parent])
            op.set_operands([op.operands[index] for index in places])
        elif op.region is not None and is_dead(op):
            op.region.erase(op)
        elif op in kept and not kept[op].is_everything(op):
            _keep_only(op, kept[op])


def _kept_outputs(op: Op, kept: Kept) -> list[int]:
    if op.definition is IF:
        return list(kept.carried)
    loop = Turning(op)
    behind = loop.first_output + len(loop.starts)
    places = [*range(loop.first_output), *(loop.first_output + index for index in kept.carried)]
    return [*places, *(behind + index for index in kept.collected)]


def _keep_only(op: Op, kept: Kept) -> None:
    """Take an operation apart and put it together with less; its region gives less already."""
    if op.definition is IF:
        rebuilt(op, kept.carried)
        return
    loop = Turning(op)
    starts, sequences, region = loop.starts, loop.sequences, loop.region
    gone = [value for index, value in enumerate(loop.taken) if index not in kept.carried]
    slices = region.inputs[len(starts) :] if sequences else ()
    gone += [value for index, value in enumerate(slices) if index not in kept.sequences]
    for value in gone:
        region.remove_input(value)
    results = [*kept.carried, *(len(starts) + index for index in kept.collected)]
    pairs = [
        pair for pair in zip(op.operands, op.operand_names, strict=True)
        if pair[1] in ("max_trip", "cond")
    ]  # fmt: skip
    name = "carried" if op.definition is LOOP else "inputs"
    pairs += [(starts[index], name) for index in kept.carried]
    pairs += [(sequences[index], name) for index in kept.sequences]
    operands, names = [value for value, _ in pairs], [name for _, name in pairs]
    rebuilt(op, results, operands, names, kept.attributes(loop))


def _settle_condition(loop: Turning, context: PassContext) -> None:
    """The condition always holds inside the region; it is dropped where it always will."""
    op, (turn, condition), end = loop.op, loop.region.inputs[:2], loop.region.terminator
    inside = [use for use in condition.uses if use.op is not end]
    if inside and context.grant("known-condition", op.location):
        build = Builder(loop.region, before=next(iter(loop.region)), location=op.location)
        truth = build.const(np.full(condition.type.extents, fill_value=True))
        for use in inside:
            use.op.set_operand(use.slot, truth)
    limit, again = op.operand("max_trip"), end.operands[0]
    idle = limit is not None and _holds_until(origin(again), turn, limit)
    if idle and context.grant("condition-of-limit", op.location):
        end.set_operand(0, condition)
        erase_dead_from([again.producer] if again.producer is not None else [])
    start = op.operand("cond")
    given = limit is not None and start is not None and is_true(start)
    if given and loop.is_endless and context.grant("endless-condition", op.location):
        pairs = [pair for pair in zip(op.operands, op.operand_names, strict=True)
                 if pair[1] != "cond"]  # fmt: skip
        op.set_operands([value for value, _ in pairs], [name for _, name in pairs])


def _holds_until(again: Value, turn: Value, limit: Value) -> bool:
    """True for a comparison that fails after the last turn at the earliest."""
    op = again.producer
    if op is None or op.name not in ("less", "greater") or again.type.rank > 1:
        return False
    low, high = op.operands if op.name == "less" else op.operands[::-1]
    known, most = known_number(high), known_number(limit)
    same = origin(high) is origin(limit) or (known is not None and known == most)
    return same and (_counts(origin(low), turn))


def _counts(value: Value, turn: Value) -> bool:
    """True for the number of the turn, and for that of the next."""
    if value is turn:
        return True
    op = value.producer
    if op is None or op.name != "add":
        return False
    pairs = (op.operands, op.operands[::-1])
    return any(origin(a) is turn and known_number(b) == 1 for a, b in pairs)


def _share_carried(loop: Turning, context: PassContext) -> None:
    """Read what no turn changes from where it came from, and one of two that are alike."""
    changing: list[int] = []
    for index, (start, taken, given) in enumerate(
        zip(loop.starts, loop.taken, loop.given, strict=True)
    ):
        result = loop.op.results[index]
        if not (taken.is_used or result.is_used):
            continue
        if origin(given) is not taken:
            changing.append(index)
            continue
        fits = refines(start.type, taken.type) and refines(start.type, result.type)
        others = [use for use in taken.uses if use.op is not loop.region.terminator]
        new = fits and bool(others or result.is_used)
        if new and context.grant("invariant-carried", loop.op.location):
            replace_value(taken, start)
            replace_value(result, start)
    for index, twin in equal_carried(loop, changing):
        result, other = loop.op.results[index], loop.op.results[twin]
        same = refines(other.type, result.type)
        if same and context.grant("equal-carried", loop.op.location):
            replace_value(loop.taken[index], loop.taken[twin])
            replace_value(result, other)


def _share_results(op: Op, context: PassContext) -> None:
    """Of results that are the same values, one is read."""
    first: dict[Hashable, Value] = {}
    for result, given in _meanings(op):
        twin = first.setdefault(given, result)
        new = twin is not result and result.is_used and refines(twin.type, result.type)
        if new and context.grant("equal-results", op.location):
            replace_value(result, twin)


def _meanings(op: Op) -> list[tuple[Value, Hashable]]:
    """What each result that no turn carries is: equal for equal ones."""
    if op.definition is IF:
        outputs = zip(*(region.outputs for region in op.regions), strict=True)
        return list(zip(op.results, outputs, strict=True))
    loop = Turning(op)
    count = len(loop.collected)
    axes = [
        axis % (value.type.rank + 1)
        for value, axis in zip(
            loop.collected, loop.per_item("scan_output_axes", count), strict=True
        )
    ]
    back = loop.per_item("scan_output_directions", count)
    stacks = zip(loop.collected, axes, back, strict=True)
    return list(zip(op.results[len(loop.starts) :], stacks, strict=True))
