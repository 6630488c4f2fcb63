"""Names the pass, and in it the rule application, after which a graph computes something else."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from leptonc.extensions import known_operators
from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import DiagnosticError, LeptonError
from leptonc.ir.graph import Graph
from leptonc.ir.interpret import interpret
from leptonc.ir.text import parse_graph
from leptonc.ir.verify import verify
from leptonc.passes.base import Pass, parse_pipeline
from leptonc.passes.check_numbers import random_feeds
from leptonc.passes.clone import clone_graph
from leptonc.passes.context import Applied, PassContext
from leptonc.passes.contract import Contract
from leptonc.passes.registry import Registry

Feeds = Sequence[Mapping[str, Array]]


@dataclass(frozen=True)
class Culprit:
    """The first change that broke something."""

    step: str
    number: int
    """Which change of the pass it was, from 1; 0 where the pass does not count its changes."""
    applied: Applied | None
    complaint: str

    def __str__(self) -> str:
        what = f"pass {self.step}"
        if self.applied is not None:
            what += f", change {self.number}: {self.applied.rule} at {self.applied.location}"
        return f"{what}\n  {self.complaint}"


def bisect(graph: Graph, passes: Sequence[Pass], feeds: Feeds) -> Culprit | None:
    """The first change after which outputs differ by more than the pass's contract allows.

    A change that leaves an invalid graph, or that ends in an error, counts as well. None where
    all passes keep their contracts. `graph` stays as it is.
    """
    current = clone_graph(graph)
    for step in passes:
        want = [interpret(current, feed) for feed in feeds]
        before = clone_graph(current)
        context = PassContext(step=step.name)
        complaint = _complaint(step, current, context, feeds, want)
        if complaint:
            return _within(step, before, len(context.applied), feeds, want, complaint)
    return None


def _within(
    step: Pass,
    before: Graph,
    count: int,
    feeds: Feeds,
    want: list[dict[str, Array]],
    complaint: str,
) -> Culprit:
    """Halve the number of changes of `step` until the first bad one is found."""
    low, high, applied = 0, count, None
    while low < high:
        middle = (low + high) // 2
        context = PassContext(stop_after=middle + 1, step=step.name)
        found = _complaint(step, clone_graph(before), context, feeds, want)
        if found:
            high, complaint = middle, found
            applied = context.applied[-1] if context.applied else None
        else:
            low = middle + 1
    return Culprit(str(step), low + 1 if applied else 0, applied, complaint)


def _complaint(
    step: Pass,
    graph: Graph,
    context: PassContext,
    feeds: Feeds,
    want: list[dict[str, Array]],
) -> str:
    """What is wrong after `step`; empty where nothing is."""
    try:
        step.run(graph, context)
        verify(graph)
        got = [interpret(graph, feed) for feed in feeds]
    except DiagnosticError as error:
        return error.message
    except Exception as crash:
        return f"{type(crash).__name__}: {crash}"
    for one, other in zip(got, want, strict=True):
        found = _difference(step.numbers, one, other)
        if found:
            return found
    return ""


def _difference(contract: Contract, got: Mapping[str, Array], want: Mapping[str, Array]) -> str:
    for name, expected in want.items():
        worst = contract.worst(got[name], expected)
        if not worst <= 1:
            return f"output {name!r} differs by {worst:.3g} times what {contract} allows"
    return ""


def main(argv: list[str] | None = None, out: TextIO = sys.stdout) -> int:
    """Run the tool; the exit status is 1 where a change breaks something."""
    parser = argparse.ArgumentParser("leptonc-bisect", description=__doc__)
    parser.add_argument("file", type=Path, help="textual IR")
    parser.add_argument("-p", "--passes", required=True, help="pipeline text")
    parser.add_argument("--seed", type=int, default=0, help="what the inputs are drawn from")
    args = parser.parse_args(argv)
    try:
        rows = known_operators().by_name
        graph = parse_graph(args.file.read_text(encoding="utf-8"), str(args.file), rows=rows)
        verify(graph)
        passes = parse_pipeline(args.passes, Registry())
        culprit = bisect(graph, passes, [random_feeds(graph, args.seed)])
    except LeptonError as error:
        out.write(f"{error}\n")
        return 1
    out.write(f"{culprit or 'all passes keep their contracts'}\n")
    return 1 if culprit else 0


if __name__ == "__main__":
    sys.exit(main())
