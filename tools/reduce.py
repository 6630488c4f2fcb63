"""Makes a graph on which passes go wrong smaller, as long as they still go wrong."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from leptonc.extensions import known_operators
from leptonc.ir.diagnostics import DiagnosticError, LeptonBug, LeptonError
from leptonc.ir.graph import Graph, Op
from leptonc.ir.table import CONST, RETURN
from leptonc.ir.text import parse_graph, print_graph
from leptonc.ir.verify import verify
from leptonc.passes.base import parse_pipeline
from leptonc.passes.check_numbers import CheckNumbers, random_feeds
from leptonc.passes.clone import clone_graph, clone_value
from leptonc.passes.manager import PassManager
from leptonc.passes.observers import VerifyEach
from leptonc.passes.refine import erase_dead_from
from leptonc.passes.registry import Registry

Fails = Callable[[Graph], bool]


def reduce_graph(graph: Graph, fails: Fails) -> Graph:
    """The smallest graph found that still `fails`: one output, inputs in place of operations."""
    current = _with_one_output(graph, fails)
    size = -1
    while size != len(current):
        size = len(current)
        for index in reversed(range(len(current))):
            smaller = _cut(current, index)
            if smaller is not None and len(smaller) < len(current) and fails(smaller):
                current = smaller
    return current


def _with_one_output(graph: Graph, fails: Fails) -> Graph:
    """The graph that returns the first value with which it still `fails`."""
    for index, op in enumerate(graph):
        for slot in range(len(op.results)):
            copy = clone_graph(graph)
            copy.terminator.set_operands([list(copy)[index].results[slot]])
            copy.output_names = ("out",)
            _drop_dead(copy)
            if fails(copy):
                return copy
    return clone_graph(graph)


def _cut(graph: Graph, index: int) -> Graph | None:
    """A copy in which operation `index` is replaced by inputs; None where that is no use."""
    copy = clone_graph(graph)
    ops = list(copy)
    if index >= len(ops) or ops[index].definition in (RETURN, CONST):
        return None
    op: Op = ops[index]
    for value in op.results:
        if value.is_used:
            name = value.name or f"cut{len(copy.inputs)}"
            taken = any(name == other.name for other in copy.inputs)
            fresh = clone_value(value)
            fresh.name = f"{name}_{len(copy.inputs)}" if taken else name
            value.replace_uses_with(copy.add_input(fresh))
    _drop_dead(copy)
    return copy


def _drop_dead(graph: Graph) -> None:
    erase_dead_from([op for op in graph if op.definition is not RETURN])
    for value in graph.inputs:
        if not value.is_used:
            graph.remove_input(value)


def fails_under(pipeline: str) -> Fails:
    """Whether `pipeline` ends in a fault of leptonc, broken numbers included."""

    def fails(graph: Graph) -> bool:
        graph = clone_graph(graph)
        try:
            verify(graph)
            checks = CheckNumbers([random_feeds(graph)])
        except (DiagnosticError, ValueError):
            return False
        try:
            PassManager(parse_pipeline(pipeline, Registry()), [VerifyEach(), checks]).run(graph)
        except LeptonBug:
            return True
        except (LeptonError, ValueError):
            return False
        return False

    return fails


def main(argv: list[str] | None = None, out: TextIO = sys.stdout) -> int:
    """Run the tool: print the reduced graph; the exit status is 1 where nothing goes wrong."""
    parser = argparse.ArgumentParser("leptonc-reduce", description=__doc__)
    parser.add_argument("file", type=Path, help="textual IR")
    parser.add_argument("-p", "--passes", required=True, help="pipeline text")
    args = parser.parse_args(argv)
    fails = fails_under(args.passes)
    try:
        rows = known_operators().by_name
        graph = parse_graph(args.file.read_text(encoding="utf-8"), str(args.file), rows=rows)
        failing = fails(graph)
    except LeptonError as error:
        out.write(f"{error}\n")
        return 1
    if not failing:
        out.write(f"{args.passes} does nothing wrong with {args.file}\n")
        return 1
    out.write(print_graph(reduce_graph(graph, fails)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
