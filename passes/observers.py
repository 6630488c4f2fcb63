"""Observers of a pipeline: checks, prints and timings around each pass."""

from __future__ import annotations

import difflib
import sys
import time
from dataclasses import dataclass, field
from typing import TextIO

from leptonc.ir.diagnostics import DiagnosticError, LeptonBug, LeptonError
from leptonc.ir.graph import Graph
from leptonc.ir.text import print_graph
from leptonc.ir.verify import verify
from leptonc.passes.base import Pass


class Observer:
    """Looks at the graph around each pass; this one does nothing."""

    def before(self, step: Pass, graph: Graph) -> None:
        """Called before each pass."""

    def after(self, step: Pass, graph: Graph, *, changed: bool) -> None:
        """Called after each pass that ended well; what it raises counts as the pass's error."""

    def failed(self, step: Pass, graph: Graph, error: DiagnosticError) -> None:
        """Called when a pass, or what an observer saw of it, ended in `error`."""


class VerifyEach(Observer):
    """Checks the invariants after each pass that changed something."""

    def after(self, step: Pass, graph: Graph, *, changed: bool) -> None:
        """Raise a `LeptonBug` for a graph that is not valid any more."""
        if not changed:
            return
        try:
            verify(graph)
        except LeptonError as error:
            raise LeptonBug(
                f"{step.name} left an invalid graph: {error.message}",
                error.location, error.notes, error.code,
            ) from error  # fmt: skip


@dataclass
class PrintAfterChange(Observer):
    """Writes what each pass changed: the changed lines with a few around them, or everything."""

    to: TextIO = field(default_factory=lambda: sys.stderr)
    around: int | None = 3
    """How many unchanged lines to show around changed ones; None writes the whole graph."""
    _before: list[str] = field(default_factory=list[str], init=False)

    def before(self, step: Pass, graph: Graph) -> None:
        """Keep the text, where it is not the last one printed."""
        if not self._before and self.around is not None:
            self._before = print_graph(graph).splitlines()

    def after(self, step: Pass, graph: Graph, *, changed: bool) -> None:
        """Print."""
        if not changed:
            return
        lines = print_graph(graph).splitlines()
        self.to.write(f"// after {step}\n")
        if self.around is None:
            self.to.writelines(f"{line}\n" for line in lines)
        else:
            diff = difflib.unified_diff(self._before, lines, lineterm="", n=self.around)
            self.to.writelines(f"{line}\n" for line in list(diff)[2:])
        self._before = lines


@dataclass(frozen=True, slots=True)
class Timing:
    """What one pass cost and did."""

    step: str
    seconds: float
    changes: int
    operations: int
    """The number of operations after it, nested ones included."""


@dataclass
class Timer(Observer):
    """Measures each pass; `table` shows it."""

    timings: list[Timing] = field(default_factory=list[Timing])
    _start: float = field(default=0.0, init=False)
    _version: int = field(default=0, init=False)

    def before(self, step: Pass, graph: Graph) -> None:
        """Start the clock."""
        self._version = graph.version
        self._start = time.perf_counter()

    def after(self, step: Pass, graph: Graph, *, changed: bool) -> None:
        """Stop the clock."""
        spent = time.perf_counter() - self._start
        operations = sum(1 for _ in graph.walk())
        changes = graph.version - self._version
        self.timings.append(Timing(step.name, spent, changes, operations))

    def table(self) -> str:
        """The measurements, one pass a line."""
        width = max((len(timing.step) for timing in self.timings), default=4)
        lines = [f"{'pass':{width}}  {'ms':>9}  {'changes':>8}  {'operations':>10}"]
        lines += [
            f"{timing.step:{width}}  {timing.seconds * 1000:9.2f}  {timing.changes:8}  "
            f"{timing.operations:10}"
            for timing in self.timings
        ]
        return "\n".join(lines)
