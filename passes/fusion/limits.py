"""What a target can have in one kernel."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FusionLimits:
    """What a target's kernels can hold. A target puts its own into `PassContext.facts`."""

    max_ops: int = 64
    """The most operations in one group."""
    max_inputs: int = 16
    """The most tensors that one group reads."""
    opaque: frozenset[str] = frozenset()
    """Operations that have kernels of their own, which take nothing in."""
    closed: frozenset[str] = frozenset()
    """Products and reductions whose kernels take no elementwise operations behind them."""
    max_repeated: int = 4
    """The most cheap operations computed again for each element that reads them."""
    max_copies: int = 4
    """The most kernels that compute one cheap operation again rather than read its result."""
    max_outputs: int = 4
    """The most tensors that a group of elementwise operations writes; others write one."""
