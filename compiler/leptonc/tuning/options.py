"""What is asked of tuning: plain data, so that asking imports nothing of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leptonc.ir.diagnostics import LeptonError


@dataclass(frozen=True)
class TuningOptions:
    """For how long kernels are measured, and where measurements are."""

    seconds: float = 0.0
    source: Path | None = None
    """A folder of measurements; where nothing is measured, a tuned artefact may stand in."""
    inputs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What the network runs on; inputs that are not there are random."""

    @property
    def is_asked(self) -> bool:
        """Whether anything is to be measured or taken over."""
        return self.seconds > 0 or self.source is not None


NO_TUNING = TuningOptions()
"""Formulas decide everything."""


def tuning_options(
    seconds: float, source: str | Path | None, inputs: Mapping[str, Any] | None = None
) -> TuningOptions:
    """Checked options; raises E810 for times and files that make no sense."""
    path = None if source is None else Path(source)
    if not 0 <= seconds < math.inf:
        raise LeptonError(
            f"{seconds:g} seconds of tuning are not possible",
            notes=["0 is no tuning; 60 measures a few ways to compute each kernel"],
            code="E810",
        )
    if path is not None and seconds and path.is_file():
        raise LeptonError(
            f"measurements cannot be kept in {path}, which is a file",
            notes=["give a folder, or leave out --tune to take over the decisions of the file"],
            code="E810",
        )
    return TuningOptions(seconds, path, inputs or {})
