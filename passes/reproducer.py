"""The observer that leaves a file behind from which a failing pass can be run again, alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from leptonc.ir.diagnostics import DiagnosticError, LeptonBug
from leptonc.ir.graph import Graph
from leptonc.ir.text import print_graph
from leptonc.passes.base import Pass
from leptonc.passes.clone import clone_graph
from leptonc.passes.observers import Observer


@dataclass
class Reproducer(Observer):
    """Writes the input of a pass that fails by a fault of leptonc, with the command that reruns it.

    Each pass's input is kept as a copy that shares the constants, and printed only on failure.
    """

    path: Path
    always: bool = False
    """Write for errors of the user's too."""
    _before: Graph | None = field(default=None, init=False)
    _version: int = field(default=-1, init=False)

    def before(self, step: Pass, graph: Graph) -> None:
        """Keep a copy of the graph."""
        if self._before is None or self._version != graph.version:
            self._before, self._version = clone_graph(graph), graph.version

    def failed(self, step: Pass, graph: Graph, error: DiagnosticError) -> None:
        """Write the reproducer and say where it is."""
        if self._before is None or not (self.always or isinstance(error, LeptonBug)):
            return
        message = "".join(f"// {line}\n" for line in str(error).splitlines())
        text = print_graph(self._before, locations=True)
        try:
            head = f"// RUN: leptonc-opt %s -p '{step}'\n{message}\n"
            self.path.write_text(head + text, encoding="utf-8")
        except OSError as problem:
            error.notes.append(f"cannot write {self.path}: {problem.strerror}")
        else:
            error.notes.append(f"rerun with leptonc-opt {self.path} -p '{step}'")
