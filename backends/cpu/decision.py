"""What is decided of a kernel in place of the formulas: a few numbers, plain data.

Prepared graphs carry decisions as text in an attribute of the packed operation, so that kernels
made by other decisions have other texts; without one, the formulas of `tiles.py` decide.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

from leptonc.ir.diagnostics import LeptonError, shown

_PART = re.compile(r"([a-z]+)=(\d{1,5})", re.ASCII)


@dataclass(frozen=True)
class Decision:
    """Numbers that stand in for those of formulas; None leaves one to them.

    They change the order in which sums are added up and nothing else of what a kernel computes.
    """

    tile: int | None = None
    """Outputs of Winograd's tiles in one direction; 0 for a direct convolution."""
    vectors: int | None = None
    """Vectors of a panel of the packed weight."""
    rows: int | None = None
    """The most rows, or pixels, of a register tile."""
    band: int | None = None
    """Output rows that share a copy of their inputs, or the tiles of one of Winograd's bands."""
    parts: int | None = None
    """The parts that the depth of a convolution is split into."""
    ahead: int | None = None
    """Whether weights are asked for before they are read: 0 or 1."""
    keep: int | None = None
    """Whether registers hold the weights of a depthwise convolution: 0 or 1."""
    shared: int | None = None
    """Whether threads share the work: 0 or 1."""

    @property
    def text(self) -> str:
        """The numbers by name, as `parse` reads them; empty where formulas decide all."""
        pairs = ((field.name, getattr(self, field.name)) for field in fields(self))
        return " ".join(f"{name}={number}" for name, number in pairs if number is not None)

    @staticmethod
    def parse(text: str) -> Decision:
        """Read ``vectors=3 rows=8``; raises E810 for anything else."""
        found: dict[str, int] = {}
        for part in text.split():
            match = _PART.fullmatch(part)
            if match is None or match[1] not in NAMES or match[1] in found:
                raise LeptonError(
                    f"{shown(part)} of the decision {shown(text)} is none that kernels know",
                    notes=[f"decisions are NAME=NUMBER; known: {', '.join(NAMES)}"],
                    code="E810",
                )
            found[match[1]] = int(match[2])
        return Decision(**found)

    def tile_rows(self, most: int) -> int:
        """The rows of a register tile that can have `most`."""
        return most if self.rows is None else max(1, min(self.rows, most))

    def is_shared(self, threads: int, *, otherwise: bool) -> bool:
        """Whether so many threads share the work, which a formula says of several."""
        if self.shared is None:
            return threads > 1 and otherwise
        return threads > 1 and self.shared > 0


NAMES = tuple(field.name for field in fields(Decision))
UNDECIDED = Decision()
"""Formulas decide everything."""

Decisions = Mapping[str, Decision]
"""Decisions by workload: the name of the kernel before its weights are packed."""
