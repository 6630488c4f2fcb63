"""Puts what each rule rewrites into random graphs and holds the pass to its contract there."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import TextIO

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import DiagnosticError, LeptonError
from leptonc.ir.graph import Graph
from leptonc.ir.interpret import interpret
from leptonc.ir.text import print_graph
from leptonc.ir.types import DType
from leptonc.ir.verify import verify
from leptonc.passes.base import Pass, parse_pipeline
from leptonc.passes.check_numbers import CheckNumbers
from leptonc.passes.clone import clone_graph
from leptonc.passes.manager import PassManager
from leptonc.passes.observers import VerifyEach
from leptonc.pipelines import OPTIMIZE
from tests.passes.contexts import around, is_wide_ranging, with_all_values
from tests.passes.specimens import REGISTRY, REJECTED, Specimen, specimens

WHOLE = 8
"""Of so many contexts, one is given to the whole pipeline as well."""

TRIES = 6
"""How many times as many contexts are tried as the rule should fire in."""

ROOM = 2.0**-10
"""The part of the range of an element type that numbers may use where constants are huge."""


LARGEST = {DType.F32: 3.4e38, DType.F16: 65504.0, DType.BF16: 3.3e38, DType.F64: 1e308}


@dataclass(frozen=True)
class Outcome:
    """What became of one context."""

    seed: str
    ran: bool = True
    fired: bool = False
    complaint: str = ""
    graph: str = ""


@cache
def neighbours() -> tuple[Graph, ...]:
    """Graphs of all rules that may stand beside each other."""
    found = [group[0].graph for group in specimens().values() if len(group[0].graph) <= 8]
    return tuple(graph for graph in found if not any(op.regions for op in graph))


def outcomes(
    key: tuple[str, str], count: int, whole_each: int = WHOLE, fired: int = 0
) -> Iterator[Outcome]:
    """What becomes of `count` contexts of one rule, the same in every run.

    More are tried until the rule has fired in so many, up to `TRIES` times as many in all.
    """
    group = specimens()[key]
    found = 0
    for index in range(count * TRIES):
        if index >= count and found >= fired:
            return
        seed = f"{key[0]}/{key[1]}/{index}"
        random = Random(seed)
        whole = index % whole_each == whole_each - 1
        result = outcome(group[index % len(group)], seed, random, whole=whole)
        found += result.fired
        yield result


def outcome(specimen: Specimen, seed: str, random: Random, *, whole: bool) -> Outcome:
    """Make one context, run the pass there, and check numbers, structure and idempotence."""
    graph = around(specimen.graph, neighbours(), random)
    try:
        verify(graph)
    except LeptonError:
        return Outcome(seed, ran=False)
    before = clone_graph(graph)
    checks = CheckNumbers.on_random_inputs(graph)
    try:
        checks.before(specimen.step, graph)
        if is_wide_ranging(graph) and not _has_room(graph, checks.feeds[0]):
            return Outcome(seed, ran=False)
    except (*REJECTED, MemoryError):
        return Outcome(seed, ran=False)
    fired = False
    try:
        context = PassManager([specimen.step], [VerifyEach(), checks]).run(graph)
        fired = any(each.rule == specimen.rule for each in context.applied)
        complaint = _settled([specimen.step], graph)
        if whole and not complaint:
            passes, graph = parse_pipeline(OPTIMIZE[2], REGISTRY), clone_graph(before)
            PassManager(passes, [VerifyEach(), checks]).run(graph)
            complaint = _settled(passes, graph)
    except DiagnosticError as error:
        complaint = str(error)
    text = print_graph(before, locations=True) if complaint else ""
    return Outcome(seed, fired=fired, complaint=complaint, graph=text)


def _has_room(graph: Graph, feed: Mapping[str, Array]) -> bool:
    """True where nothing that is computed comes near what its type cannot hold.

    Where something does, another order of computing may well overflow.
    """
    whole = with_all_values(graph)
    found = interpret(whole, feed, widen=True)
    for value, array in zip(whole.outputs, found.values(), strict=True):
        if value.type.dtype.is_float and array.size:
            largest = LARGEST.get(value.type.dtype, LARGEST[DType.F32]) * ROOM
            if not np.max(np.abs(array.astype(np.float64))) <= largest:
                return False
    return True


def _settled(passes: Sequence[Pass], graph: Graph) -> str:
    """What is wrong with a second run, which should change nothing."""
    version, text = graph.version, print_graph(graph)
    applied = PassManager(passes).run(graph).applied
    if graph.version == version or (len(passes) > 1 and print_graph(graph) == text):
        return ""
    what = ", ".join(dict.fromkeys(f"{each.step}: {each.rule}" for each in applied))
    return f"a second run changes something: {what}"


def main(argv: list[str] | None = None, out: TextIO = sys.stdout) -> int:
    """Run all contexts; the exit status is 1 where a rule breaks something."""
    parser = argparse.ArgumentParser("rules-in-contexts", description=__doc__)
    parser.add_argument("--contexts", type=int, default=200, help="contexts for each rule")
    parser.add_argument("--least", type=int, default=0, help="contexts to fire in, if that can be")
    parser.add_argument("--only", default="", help="pass, or pass/rule")
    parser.add_argument("--shown", type=int, default=1, help="breaches shown for each rule")
    parser.add_argument(
        "--whole", type=int, default=WHOLE, help="whole pipeline on each of so many"
    )
    arguments = parser.parse_args(argv)
    warnings.simplefilter("error")
    broken = rules = contexts = firings = 0
    for key in specimens():
        if not "/".join(key).startswith(arguments.only):
            continue
        found = list(outcomes(key, arguments.contexts, arguments.whole, arguments.least))
        bad = [each for each in found if each.complaint]
        ran, fired = sum(each.ran for each in found), sum(each.fired for each in found)
        out.write(f"{'/'.join(key)}: {ran} ran, {fired} fired, {len(bad)} broken\n")
        for each in bad[: arguments.shown]:
            out.write(f"  {each.seed}: {each.complaint}\n{each.graph}\n")
        out.flush()
        broken, rules = broken + len(bad), rules + 1
        contexts, firings = contexts + ran, firings + fired
    out.write(f"{rules} rules in {contexts} contexts: {firings} fired, {broken} broken\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
