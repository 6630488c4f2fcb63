"""Finds the change of a pass after which a graph is no longer what it should be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from leptonc.ir.diagnostics import DiagnosticError
from leptonc.ir.graph import Graph
from leptonc.passes.base import Pass
from leptonc.passes.clone import clone_graph
from leptonc.passes.context import Applied, PassContext

Judge = Callable[[Graph], str]
"""What is wrong with a graph; empty where nothing is."""


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


def first_bad_change(
    step: Pass, graph: Graph, judge: Judge, told: PassContext | None = None
) -> Culprit | None:
    """The change of `step` after which `judge` complains; None where it never does.

    A change that ends in an error counts as well. `graph` stays as it is. The pass is told what
    the context `told` says.
    """
    told = told or PassContext()
    context = again(told, step)
    complaint = _complaint(step, clone_graph(graph), context, judge)
    if not complaint:
        return None
    low, high, applied = 0, len(context.applied), None
    while low < high:
        middle = (low + high) // 2
        context = again(told, step, stop_after=middle + 1)
        found = _complaint(step, clone_graph(graph), context, judge)
        if found:
            high, complaint = middle, found
            applied = context.applied[-1] if context.applied else None
        else:
            low = middle + 1
    return Culprit(str(step), low + 1 if applied else 0, applied, complaint)


def again(told: PassContext, step: Pass, stop_after: int | None = None) -> PassContext:
    """A new context for `step` that says what `told` says."""
    return PassContext(stop_after, dict(told.facts), disabled=told.disabled, step=step.name)


def _complaint(step: Pass, graph: Graph, context: PassContext, judge: Judge) -> str:
    try:
        step.run(graph, context)
        return judge(graph)
    except DiagnosticError as error:
        return error.message
    except Exception as crash:
        return f"{type(crash).__name__}: {crash}"
