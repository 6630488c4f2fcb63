"""Questions about extents and element types that several families ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from leptonc.ir.dims import Dim


def differ(a: Dim, b: Dim) -> bool:
    """True where both extents are known and not equal."""
    return isinstance(a, int) and isinstance(b, int) and a != b


def broadcasts_to(shape: Sequence[Dim], target: Sequence[Dim]) -> bool:
    """False where `shape` is known not to broadcast to `target` without enlarging it."""
    pairs = zip(reversed(shape), reversed(target), strict=False)
    return len(shape) <= len(target) and not any(
        dim != 1 and differ(dim, other) for dim, other in pairs
    )


def natural(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The element type that sums of products of `dtype` are computed in."""
    if dtype.kind in "iuc" or (dtype.kind == "f" and dtype.itemsize >= 4):
        return dtype
    return np.dtype(np.float32)
