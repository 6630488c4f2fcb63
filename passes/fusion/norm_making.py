"""Building the operation for a normalisation over given axes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from leptonc.ir.blob import LOOKED_AT, Array, Blob
from leptonc.ir.build import Builder
from leptonc.ir.graph import Value
from leptonc.ir.types import DType, TensorType
from leptonc.passes.pattern import Match


@dataclass(frozen=True)
class NormForm:
    """Which operation, and the order of the axes in which it finds those to normalise last."""

    name: str
    order: tuple[int, ...]
    start: int
    """The first axis, in that order, over which it goes."""


def axes_of(m: Match, x: Value, axes: tuple[int, ...], *, centred: bool) -> NormForm:
    """How `x` is normalised over `axes`; the rule does not apply where extents are not known."""
    rank, shape = x.type.rank, x.type.shape
    kept = [axis for axis in range(rank) if axis not in axes]
    order, start = (*kept, *axes), len(kept)
    name = "layer_normalization" if centred else "rms_normalization"
    channels = shape[order[1]] if start == 2 else None
    few = centred and start == 2 and len(axes) >= 2 and x.type.dtype is not DType.F64
    if few and isinstance(channels, int) and channels > 0:
        return NormForm("instance_normalization", order, start)
    extents = [shape[axis] for axis in axes]
    known = all(isinstance(dim, int) for dim in extents)
    m.require(known, "the extents are known at run time only")
    count = int(np.prod([dim for dim in extents if isinstance(dim, int)], dtype=np.int64))
    m.require(0 < count <= LOOKED_AT, "a scale for each element would be too large")
    return NormForm(name, order, start)


def make_norm(build: Builder, x: Value, form: NormForm, epsilon: float, number: float) -> Value:
    """`x` normalised, times a number."""
    rank = x.type.rank
    turned = form.order != tuple(range(rank))
    source = build.transpose(x, perm=form.order) if turned else x
    shape = source.type.shape
    if form.name == "instance_normalization":
        row = TensorType(x.type.dtype, (shape[1],))
        parts = [build.const(Blob.splat(value, row)) for value in (number, 0.0)]
        result = build.instance_normalization(source, *parts, epsilon=epsilon)
    else:
        row = TensorType(x.type.dtype, shape[form.start :])
        ones = build.const(Blob.splat(number, row))
        attrs = {"axis": form.start - rank, "epsilon": epsilon}
        result = build.op(form.name, [source, ones], attrs).results[0]
    return build.transpose(result, perm=inverse(form.order)) if turned else result


def inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation that undoes `order`."""
    return tuple(int(axis) for axis in np.argsort(order))


def aligned(data: Array, rank: int) -> Array:
    """A constant with as many axes as the tensors of `rank` axes that it broadcasts to."""
    return data.reshape((1,) * (rank - data.ndim) + data.shape)
