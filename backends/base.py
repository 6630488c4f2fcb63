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


@dataclass(frozen=True)
class ShortList:
    """A kernel of which something can be decided, and the decisions that are worth measuring."""

    operations: str
    nodes: tuple[str, ...]
    candidates: tuple[str, ...]
    """Likely ones first."""


class Backend(Protocol):
    """A target: what it cannot do, its last rewrites, and how it makes a library."""

    @property
    def name(self) -> str:
        """The target's name on the command line."""
        ...

    @property
    def machine(self) -> str:
        """The architecture of the machine that runs the library, as `uname -m` spells it."""
        ...

    @property
    def features(self) -> tuple[str, ...]:
        """What the machine that runs the library must have."""
        ...

    def unsupported(self, op: Op) -> str:
        """Why this operation cannot be compiled; empty if it can."""
        ...

    @property
    def precisions(self) -> frozenset[str]:
        """What products may be computed in."""
        ...

    def passes(self, level: int, precision: str = "fp32") -> str:
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

    @property
    def circumstances(self) -> Mapping[str, Any]:
        """What measurements depend on beside the kernel: the machine, and what makes the code."""
        ...

    def short_lists(self, graph: Graph, largest_tile: int) -> Mapping[str, ShortList]:
        """What can be decided of the kernels of an optimised graph, by workload.

        A workload is the name of a kernel before anything is decided of it. Winograd's tiles are
        no larger than `largest_tile`.
        """
        ...

    def prepare(
        self, graph: Graph, decisions: Mapping[str, str] | None = None
    ) -> Mapping[str, str]:
        """Rewrite the optimised graph into the form for `build`: kernels chosen, weights packed.

        Decisions by workload go before formulas; with some, or none of them, the workloads are
        told by the names of the kernels that compute them.
        """
        ...

    def build(
        self, graph: Graph, path: Path, *, cache_folder: Path | None, progress: Progress,
        limit: float | None = None,
    ) -> LibraryReport:  # fmt: skip
        """Write the library of a prepared graph to `path`.

        Raises TimeoutError where a process of its own takes more than `limit` seconds.
        """
        ...
