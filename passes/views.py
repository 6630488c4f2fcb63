"""Making reshapes in one canonical form."""

from __future__ import annotations

import numpy as np

from leptonc.ir.blob import Blob
from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim, floordiv, is_positive, product, symbols
from leptonc.ir.graph import Value
from leptonc.ir.table import DIMS
from leptonc.passes.pattern import Match


def require_known_extents(m: Match, value: Value) -> None:
    """Go on only where all symbols in the root's extents are extents of `value`."""
    given = {name for dim in value.type.shape for name in symbols(dim)}
    wanted = {name for dim in m.root.results[0].type.shape for name in symbols(dim)}
    m.require(wanted <= given, "the extents are not known before run time")


def reshape_to(build: Builder, value: Value, shape: tuple[Dim, ...]) -> Value:
    """`value` in another shape of as many elements: by a constant where that can say it.

    One symbolic extent becomes -1; several are spelled by a `dims` operation.
    """
    open_axes = [axis for axis, dim in enumerate(shape) if not isinstance(dim, int)]
    spelled = list(shape)
    if len(open_axes) == 1 and 0 not in shape:
        rest = product(dim for axis, dim in enumerate(shape) if axis != open_axes[0])
        if floordiv(product(value.type.shape), rest) == shape[open_axes[0]]:
            spelled[open_axes[0]] = -1
    if all(isinstance(dim, int) for dim in spelled):
        extents = build.const(Blob.of(np.array(spelled, np.int64)))
        return build.reshape(value, extents, allowzero=int(0 in shape))
    extents = build.op(DIMS, [], {"value": tuple(spelled), "shape": (len(spelled),)}).result
    return build.reshape(value, extents, allowzero=int(_may_tell_zero(value, shape)))


def _may_tell_zero(value: Value, shape: tuple[Dim, ...]) -> bool:
    """True where an extent of 0 would be taken for the one that `value` has at that place."""
    source = value.type.shape
    return any(
        not is_positive(dim) and (axis >= len(source) or source[axis] != dim)
        for axis, dim in enumerate(shape)
    )


def expand_to(build: Builder, value: Value, shape: tuple[Dim, ...]) -> Value:
    """`value` repeated to another shape."""
    if all(isinstance(dim, int) for dim in shape):
        extents = build.const(Blob.of(np.array(shape, np.int64)))
    else:
        extents = build.op(DIMS, [], {"value": tuple(shape), "shape": (len(shape),)}).result
    return build.expand(value, extents)
