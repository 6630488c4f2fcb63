"""What the compiler asks of a target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from leptonc.ir.graph import Graph, Op

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many are done and how many there are."""


@dataclass(frozen=True)
class LibraryReport:
    """What a build made."""

    kernels: int
    compiled: int
    """Kernels that came from no cache."""
    planned_bytes: int
    """Memory of the plan that takes as much in each run."""
    open_bytes: Mapping[str, int]
    """Memory of the plan beside it: bytes for each unit of a product of extents."""


class Backend(Protocol):
    """A target: what it cannot do, its last rewrites, and how it makes a library."""

    @property
    def name(self) -> str:
        """The target's name on the command line."""
        ...

    @property
    def features(self) -> tuple[str, ...]:
        """What the machine that runs the library must have."""
        ...

    def unsupported(self, op: Op) -> str:
        """Why this operation cannot be compiled; empty if it can."""
        ...

    def passes(self, level: int) -> str:
        """The target's own passes, as pipeline text; they run before operations are grouped."""
        ...

    @property
    def optional(self) -> frozenset[str]:
        """Those of its passes without which there are kernels too; users may leave them out."""
        ...

    @property
    def fusion_limits(self) -> Mapping[str, Any]:
        """What one kernel can hold: fields of `FusionLimits` that are not at their defaults."""
        ...

    def prepare(self, graph: Graph) -> None:
        """Rewrite the optimised graph into the form for `build`: kernels chosen, weights packed."""
        ...

    def build(
        self, graph: Graph, path: Path, *, cache_folder: Path | None, progress: Progress
    ) -> LibraryReport:
        """Write the library of a prepared graph to `path`."""
        ...
