"""Making tensors broadcast."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim
from leptonc.ir.graph import Value
from leptonc.ir.table import DIMS


def expand_to(build: Builder, value: Value, shape: Sequence[Dim]) -> Value:
    """`value` broadcast to `shape`, by a constant where that can say it."""
    if all(isinstance(dim, int) for dim in shape):
        return build.expand(value, build.const(np.array(shape, np.int64)))
    attrs = {"value": tuple(shape), "shape": (len(shape),)}
    return build.expand(value, build.op(DIMS, [], attrs).result)
