"""Observers of a pipeline: checks, prints and timings around each pass."""

from __future__ import annotations

import difflib
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TextIO

from leptonc.ir.diagnostics import DiagnosticError, LeptonBug, LeptonError
from leptonc.ir.graph import Graph, Value
from leptonc.ir.text import print_graph, value_names
from leptonc.ir.verify import Verifier
from leptonc.passes.base import Pass
from leptonc.passes.context import PassContext
from leptonc.passes.size import GraphSizes, Size


class Observer:
    """Looks at the graph around each pass; this one does nothing."""

    def started(self, context: PassContext) -> None:
        """Called before the first pass."""

    def before(self, step: Pass, graph: Graph) -> None:
        """Called before each pass."""

    def after(self, step: Pass, graph: Graph, *, changed: bool) -> None:
        """Called after each pass that ended well; what it raises counts as the pass's error."""

    def failed(self, step: Pass, graph: Graph, error: DiagnosticError) -> None:
        """Called when a pass, or what an observer saw of it, ended in `error`."""


class VerifyEach(Observer):
    """Checks the invariants after each pass that changed something."""

    def __init__(self) -> None:
        self._verifier = Verifier()

    def after(self, step: Pass, graph: Graph, *, changed: bool) -> None:
        """Raise a `LeptonBug` for a graph that is not valid any more."""
        if not changed:
            return
        try:
            self._verifier.verify(graph)
        except LeptonError as error:
            raise LeptonBug(
                f"{step.name} left an invalid graph: {error.message}",
                error.location, error.notes, error.code,
            ) from error  # fmt: skip


@dataclass
class PrintAfterChange(Observer):
    """Writes what each pass changed: the changed lines with a few around them, or everything.

    Values keep the names they were first printed with, so that only what changed differs.
    """

    to: TextIO = field(default_factory=lambda: sys.stderr)
    around: int | None = 3
    """How many unchanged lines to show around changed ones; None writes the whole graph."""
    _before: list[str] = field(default_factory=list[str], init=False)
    _names: Mapping[Value, str] = field(default_factory=dict[Value, str], init=False)

    def before(self, step: Pass, graph: Graph) -> None:
        """Keep the text, where it is not the last one printed."""
        if not self._before and self.around is not None:
            self._before = self._lines(graph)

    def after(self, step: Pass, graph: Graph, *, changed: bool) -> None:
        """Print."""
        if not changed:
            return
        lines = self._lines(graph)
        if self.around is None:
            self.to.write(f"// after {step}\n")
            self.to.writelines(f"{line}\n" for line in lines)
        elif self._before != lines:
            self.to.write(f"// after {step}\n")
            diff = difflib.unified_diff(self._before, lines, lineterm="", n=self.around)
            self.to.writelines(f"{line}\n" for line in list(diff)[2:])
        self._before = lines

    def _lines(self, graph: Graph) -> list[str]:
        if self.around is not None:
            self._names = value_names(graph, self._names)
        return print_graph(graph, names=self._names).splitlines()


@dataclass
class Progress(Observer):
    """Tells how many of the passes are done."""

    report: Callable[[str, int, int], object]
    total: int
    _done: int = field(default=0, init=False)

    def after(self, step: Pass, graph: Graph, *, changed: bool) -> None:
        """Count one more."""
        self._done += 1
        self.report("passes", self._done, self.total)


@dataclass(frozen=True, slots=True)
class Timing:
    """What one pass cost and did. Sizes are taken before and after it."""

    step: str
    seconds: float
    changes: int
    """How many rules were applied, or changes made of another kind."""
    before: Size
    after: Size


@dataclass
class Timer(Observer):
    """Measures each pass."""

    timings: list[Timing] = field(default_factory=list[Timing])
    _context: PassContext = field(default_factory=PassContext, init=False)
    _sizes: GraphSizes = field(default_factory=GraphSizes, init=False)
    _before: Size = field(default_factory=Size, init=False)
    _start: float = field(default=0.0, init=False)
    _changes: int = field(default=0, init=False)

    def started(self, context: PassContext) -> None:
        """Look at the changes that this run notes."""
        self._context, self._changes = context, len(context.applied)

    def before(self, step: Pass, graph: Graph) -> None:
        """Start the clock."""
        self._before = self._sizes.of(graph)
        self._start = time.perf_counter()

    def after(self, step: Pass, graph: Graph, *, changed: bool) -> None:
        """Stop the clock."""
        spent = time.perf_counter() - self._start
        known = len(self._context.applied)
        after = self._sizes.of(graph)
        self.timings.append(Timing(str(step), spent, known - self._changes, self._before, after))
        self._changes = known
