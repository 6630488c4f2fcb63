"""merge-parallel: chains side by side whose results are joined become one chain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from leptonc.ir.build import Builder
from leptonc.ir.graph import Op, Value
from leptonc.passes.base import RewritePass
from leptonc.passes.cleanup.slice_rules import axis_of
from leptonc.passes.contract import REASSOCIATES, Contract
from leptonc.passes.fusion.parallel_chains import WEIGHTED, Chains, chains_to
from leptonc.passes.fusion.parallel_heads import joined_heads_to_one
from leptonc.passes.pattern import Match, pat
from leptonc.passes.rewrite import Rule, rule


def _runs(operands: tuple[Value, ...]) -> Iterator[list[Value]]:
    """The operands in order, those together that follow each other and are made alike."""
    run: list[Value] = []
    for value in operands:
        if run and _kind(run[-1]) != _kind(value):
            yield run
            run = []
        run.append(value)
    if run:
        yield run


def _kind(value: Value) -> object:
    return value.producer.definition if value.producer is not None else value


@rule(pat.concat(...))
def joined_chains_to_one(m: Match, build: Builder) -> Value:
    """Products on parts of a tensor, or on one tensor, whose results are joined are one product.

    Convolutions of parts become groups. Elementwise operations and pools may stand between.
    """
    axis = axis_of(m.root)
    m.fits(len(m.root.operands) > 1)
    whole: list[Chains | Value] = []
    reason = ""
    for run in _runs(m.root.operands):
        found = chains_to(run, [m.root] * len(run), axis) if len(run) > 1 else ""
        if isinstance(found, Chains) and any(op.name in WEIGHTED for op in _firsts(found)):
            whole.append(found)
            m.also.extend(op for step in reversed(found.steps) for op in step.ops)
            continue
        products = any(value.producer and value.producer.name in WEIGHTED for value in run)
        reason = found if isinstance(found, str) and products else reason
        whole.extend(run)
    joined = any(isinstance(part, Chains) for part in whole)
    m.require(joined or not reason, reason)
    m.fits(joined)
    values = [part.made(build) if isinstance(part, Chains) else part for part in whole]
    return values[0] if len(values) == 1 else build.concat(*values, axis=axis)


def _firsts(chains: Chains) -> list[Op]:
    return [step.ops[0] for step in chains.steps]


@dataclass(frozen=True)
class MergeParallel(RewritePass):
    """Computes chains that do the same to parts of a tensor, and are joined again, as one chain.

    Grouped convolutions written as one convolution for each group, layers on one tensor whose
    outputs are joined and attention written head by head are started once; nothing is cut or
    joined any more.
    """

    name: ClassVar[str] = "merge-parallel"
    numbers: ClassVar[Contract] = REASSOCIATES
    rules: ClassVar[tuple[Rule, ...]] = (joined_heads_to_one, joined_chains_to_one)
