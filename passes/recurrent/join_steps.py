"""join-steps: layers that go on from each other with the same weights are one layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.graph import Graph, Op, Region, Value
from leptonc.ir.location import Location
from leptonc.passes.base import Pass
from leptonc.passes.context import PassContext
from leptonc.passes.contract import REASSOCIATES, Contract
from leptonc.passes.recurrent.sequences import common_whole, joined, stacked_from
from leptonc.passes.recurrent.steps import VIEWS, behind_views, without_step
from leptonc.passes.refine import erase_dead_from, has_effect, replace_value

LAYERS = ("lstm", "gru", "rnn")


@dataclass(frozen=True)
class JoinSteps(Pass):
    """Makes one recurrent layer of those that each take the state which the one before gives.

    Their weights and attributes are the same, and what they read does not depend on what they
    give. Inputs that are parts of one tensor are read from it as a whole, and outputs that are put
    together again are the output of the layer.
    """

    name: ClassVar[str] = "join-steps"
    numbers: ClassVar[Contract] = REASSOCIATES

    def run(self, graph: Graph, context: PassContext) -> None:
        """Join in each region by itself."""
        found: dict[Region, list[Op]] = {}
        for op in graph.walk():
            if op.name in LAYERS and _is_plain(op) and op.region is not None:
                found.setdefault(op.region, []).append(op)
        for region, layers in found.items():
            if len(layers) > 1:
                for chain in _chains(layers):
                    _join(region, chain, graph, context)


def _is_plain(op: Op) -> bool:
    """True for one direction of a known number of steps, the same for each example."""
    steps = op.operands[0].type.shape[0]
    plain = op.attrs["direction"] == "forward" and not op.int("layout")
    return plain and isinstance(steps, int) and op.operand("sequence_lens") is None


def _chains(layers: Sequence[Op]) -> list[list[Op]]:
    """The layers that follow each other, each in one chain."""
    following: dict[Op, Op] = {}
    for op in layers:
        before = _before(op)
        if before is not None and before not in following:
            following[before] = op
    chains: list[list[Op]] = []
    behind = set(following.values())
    for op in layers:
        if op in following and op not in behind:
            chain = [op]
            while chain[-1] in following:
                chain.append(following[chain[-1]])
            chains.append(chain)
    return chains


def _before(op: Op) -> Op | None:
    """The layer whose last state `op` takes, and that has the same weights."""
    state = op.operand("initial_h")
    source = behind_views(state) if state is not None else None
    before = source.producer if source is not None else None
    if before is None or before.definition is not op.definition or before.region is not op.region:
        return None
    alike = all(before.operand(name) is op.operand(name) for name in ("w", "r", "bias", "p"))
    if not alike or before.attrs != op.attrs or not _is_plain(before):
        return None
    if source is not before.results[1] and not _is_only_step(before, source):
        return None
    cell = op.operand("initial_c")
    if op.name == "lstm" and (cell is None or behind_views(cell) is not before.results[2]):
        return None
    return before


def _is_only_step(op: Op, value: Value | None) -> bool:
    return value is op.results[0] and op.operands[0].type.shape[0] == 1


def _join(region: Region, chain: list[Op], graph: Graph, context: PassContext) -> None:
    """Join as much of a chain as nothing keeps apart."""
    parts: list[list[Op]] = [[chain[0]]]
    for op in chain[1:]:
        before = parts[-1][-1]
        reason = _reason(before, op)
        if reason is None:
            parts[-1].append(op)
        else:
            context.miss("join-steps", op.location, reason)
            parts.append([op])
    for part in parts:
        if len(part) < 2:
            continue
        between = _between(region, part)
        if between is None:
            context.miss("join-steps", part[-1].location, "an input depends on an output")
        elif context.grant("join-steps", part[-1].location):
            for op in between:
                region.move_before(part[0], op)
            _Joining(part, graph).run()


def _reason(before: Op, op: Op) -> str | None:
    """Why two layers stay apart."""
    if op.name == "lstm":
        cell = op.operand("initial_c")
        readers = _readers_behind_views(before.results[2])
        if cell is None or readers != {op}:
            return "the cells between two steps are read"
    return None


def _readers_behind_views(value: Value) -> set[Op]:
    found: set[Op] = set()
    waiting = [value]
    while waiting:
        for reader in waiting.pop().users:
            if reader.name in VIEWS:
                waiting += reader.results
            else:
                found.add(reader)
    return found


def _between(region: Region, chain: list[Op]) -> list[Op] | None:
    """What stands behind the first layer and feeds the others' inputs; None if it feeds on them."""
    order: dict[Op, int] = {}
    for op in region:
        order[op] = len(order)
    start, layers = order[chain[0]], set(chain)
    needed: set[Op] = set()
    inputs = [each.operands[0] for each in chain]
    common = common_whole(inputs)
    waiting = inputs[1:] if common is None or common.whole is None else [common.whole]
    while waiting:
        maker = waiting.pop().producer
        if maker is None or maker.region is not region or order[maker] < start or maker in needed:
            continue
        if maker in layers or maker.regions or has_effect(maker):
            return None
        needed.add(maker)
        waiting += maker.operands
    return sorted(needed, key=order.__getitem__)


class _Joining:
    def __init__(self, chain: list[Op], graph: Graph) -> None:
        first = chain[0]
        assert first.region is not None
        self.chain = chain
        location = Location.fused([op.location for op in chain], by="join-steps")
        self.build = Builder(first.region, before=first, location=location, graph=graph)

    def run(self) -> None:
        """Put one layer in place of the chain."""
        first, last = self.chain[0], self.chain[-1]
        x = joined(self.build, [op.operands[0] for op in self.chain])
        operands = [x, *first.operands[1:]]
        results = self.build.op(
            first.definition, operands, first.attrs, names=first.operand_names
        ).results
        dead = stacked_from(self.build, results[0], self.chain)
        for old, new in zip(last.results[1:], results[1:], strict=True):
            replace_value(old, new)
        start = 0
        for op in self.chain:
            self._give(op, results[0], start, {*self.chain, *dead})
            start += int(str(op.operands[0].type.shape[0]))
        erase_dead_from([*dead, *reversed(self.chain), *self.build.made])

    def _give(self, op: Op, y: Value, start: int, gone: set[Op]) -> None:
        """Let readers of one step's outputs read their part of the whole."""
        steps = int(str(op.operands[0].type.shape[0]))
        if all(_readers_behind_views(value) <= gone for value in op.results):
            return
        part = step_slice(self.build, y, start, start + steps)
        if op.results[0].is_used:
            replace_value(op.results[0], part)
        if op.results[1].is_used:
            end = part
            if steps > 1:
                end = step_slice(self.build, y, start + steps - 1, start + steps)
            replace_value(op.results[1], without_step(self.build, end, op.results[1].type.shape))


def step_slice(build: Builder, value: Value, start: int, end: int) -> Value:
    """Some steps of a sequence."""
    limits = [build.const(np.array([number])) for number in (start, end, 0)]
    return build.slice(value, *limits)
