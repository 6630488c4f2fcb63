"""Runs a pipeline and lets observers look on between passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from leptonc.ir.diagnostics import DiagnosticError, LeptonBug
from leptonc.ir.graph import Graph
from leptonc.passes.base import Pass
from leptonc.passes.context import PassContext
from leptonc.passes.observers import Observer, VerifyEach


@dataclass
class PassManager:
    """A pipeline with its observers."""

    passes: Sequence[Pass]
    observers: Sequence[Observer] = field(default_factory=lambda: (VerifyEach(),))

    def run(self, graph: Graph, context: PassContext | None = None) -> PassContext:
        """Run the passes in order. Errors name the pass; a crash of a pass is a `LeptonBug`."""
        context = context or PassContext()
        for observer in self.observers:
            observer.started(context)
        for step in self.passes:
            context.step = step.name
            before = graph.version
            for observer in self.observers:
                observer.before(step, graph)
            try:
                step.run(graph, context)
                for observer in reversed(self.observers):
                    observer.after(step, graph, changed=graph.version != before)
            except DiagnosticError as error:
                error.notes.append(f"while running pass {step}")
                self._failed(step, graph, error)
                raise
            except Exception as crash:
                bug = LeptonBug(
                    f"pass {step} failed with {type(crash).__name__}: {crash}",
                    notes=[f"while running pass {step}"],
                )
                self._failed(step, graph, bug)
                raise bug from crash
        return context

    def _failed(self, step: Pass, graph: Graph, error: DiagnosticError) -> None:
        for observer in self.observers:
            observer.failed(step, graph, error)

    def __str__(self) -> str:
        return ",".join(map(str, self.passes))
