"""Names the pass, and in it the rule application, after which a graph computes something else."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from leptonc.extensions import known_operators
from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.graph import Graph
from leptonc.ir.interpret import interpret
from leptonc.ir.text import parse_graph
from leptonc.ir.verify import verify
from leptonc.passes.base import Pass, parse_pipeline
from leptonc.passes.check_numbers import random_feeds
from leptonc.passes.clone import clone_graph
from leptonc.passes.context import PassContext
from leptonc.passes.contract import Contract
from leptonc.passes.culprit import Culprit, first_bad_change
from leptonc.passes.registry import Registry

Feeds = Sequence[Mapping[str, Array]]


def bisect(graph: Graph, passes: Sequence[Pass], feeds: Feeds) -> Culprit | None:
    """The first change after which outputs differ by more than the pass's contract allows.

    A change that leaves an invalid graph, or that ends in an error, counts as well. None where
    all passes keep their contracts. `graph` stays as it is.
    """
    current = clone_graph(graph)
    for step in passes:
        culprit = first_bad_change(step, current, _judge(step.numbers, current, feeds))
        if culprit is not None:
            return culprit
        step.run(current, PassContext(step=step.name))
    return None


def _judge(contract: Contract, before: Graph, feeds: Feeds) -> Callable[[Graph], str]:
    want = [interpret(before, feed) for feed in feeds]

    def complaint(graph: Graph) -> str:
        verify(graph)
        pairs = zip((interpret(graph, feed) for feed in feeds), want, strict=True)
        return next(filter(None, (_difference(contract, *pair) for pair in pairs)), "")

    return complaint


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
