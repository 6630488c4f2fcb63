"""What rules of attention ask of masks, and masks brought to the extents of the scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim, product
from leptonc.ir.graph import Value
from leptonc.ir.types import DType
from leptonc.passes.constants import array_of, uniform
from leptonc.passes.views import expand_to, reshape_to

LOOKED_AT = 1 << 24
"""Masks with more elements than this are not searched."""

_WALKED = 24
"""How many operations behind a mask are looked at."""


def hides(number: float, lowest: float) -> bool:
    """True where a score plus `number` is as good as nothing, whatever the score."""
    return number <= lowest / 2


def lowest_of(dtype: DType) -> float:
    """The lowest number of a float type."""
    return -3.38e38 if dtype is DType.BF16 else float(np.finfo(dtype.numpy).min)


def shows_each_row(condition: Value, *, where: bool) -> bool:
    """True for a constant that is `where` somewhere in each row."""
    data = _constant(condition)
    return data is not None and data.ndim > 0 and bool(np.all(np.any(data == where, axis=-1)))


def may_hide_all(mask: Value | None) -> bool:
    """True where some row of a mask may be minus infinity throughout, on finite data."""
    waiting = [mask] if mask is not None else []
    for _ in range(_WALKED):
        if not waiting:
            return False
        value = waiting.pop()
        if not value.type.dtype.is_float:
            continue
        blob = value.blob
        if blob is not None:
            if blob.size > LOOKED_AT or _hides_a_row(blob.array):
                return True
        elif value.producer is not None:
            waiting += value.producer.operands
    return bool(waiting)


def _hides_a_row(data: Array) -> bool:
    rows = data.reshape(1, 1) if data.ndim == 0 else data
    return rows.size > 0 and bool(np.any(np.all(np.isneginf(rows.astype(np.float64)), axis=-1)))


def is_triangle(mask: Value, queries: Dim, keys: Dim, lowest: float) -> bool:
    """True for a constant that hides from each query what comes after it, and nothing else."""
    data = _constant(mask)
    if data is None or queries != keys or data.shape[-2:] != (queries, keys):
        return False
    flat = data.reshape(-1, *data.shape[-2:])
    seen = np.tril(np.ones(flat.shape[-2:], bool))
    return bool(np.all(flat[:, seen] == 0) and np.all(flat[:, ~seen] <= lowest / 2))


def _constant(value: Value) -> Array | None:
    blob = value.blob
    if blob is None or blob.size > LOOKED_AT or blob.is_absent:
        return None
    return array_of(value)


def regrouped(build: Builder, mask: Value, before: Sequence[Dim], after: Sequence[Dim]) -> Value:
    """A mask of scores of extents `before`, for scores that are reshaped to `after`."""
    lead = (*(1,) * (len(before) - mask.type.rank), *mask.type.shape[:-2])[: len(before) - 2]
    last = (1,) * (2 - min(mask.type.rank, 2)) + mask.type.shape[-2:]
    if tuple(before) == tuple(after) or all(dim == 1 for dim in lead):
        short = mask.type.rank <= len(after)
        return mask if short else reshape_to(build, mask, last)
    if tuple(lead) == tuple(before[:-2]):
        return reshape_to(build, mask, (*after[:-2], *last))
    full: list[Dim] = []
    shape: list[Dim] = []
    place = 0
    for old, new in groups(before[:-2], after[:-2]) or ():
        part = lead[place : place + len(old)]
        place += len(old)
        plain = all(dim == 1 for dim in part)
        full += part if plain else old
        shape += [1] * len(new) if plain else new
    if tuple(full) != tuple(lead):
        mask = expand_to(build, mask, (*full, *last))
    return reshape_to(build, mask, (*shape, *last))


def in_full_rows(build: Builder, mask: Value, queries: Dim, keys: Dim) -> Value:
    """A mask of two or four dimensions that has a number for each query and key.

    Runtimes do not broadcast the last two dimensions of masks, and mean batches by the first of
    three.
    """
    if mask.type.rank not in (2, 4):
        lead = (1,) * (4 - mask.type.rank)
        mask = reshape_to(build, mask, (*lead, *mask.type.shape))
    shape = (*mask.type.shape[:-2], queries, keys)
    return mask if shape == mask.type.shape else expand_to(build, mask, shape)


def may_regroup(mask: Value, before: Sequence[Dim], after: Sequence[Dim]) -> bool:
    """True where `regrouped` can tell which extents of the mask belong together."""
    lead = (*(1,) * (len(before) - mask.type.rank), *mask.type.shape[:-2])[: len(before) - 2]
    if tuple(before) == tuple(after) or all(dim == 1 for dim in lead):
        return True
    if tuple(lead) == tuple(before[:-2]) and product(lead) == product(after[:-2]):
        return True
    found = groups(before[:-2], after[:-2])
    known = all(isinstance(dim, int) for dim in (*before[:-2], *lead))
    return found is not None and known


def groups(before: Sequence[Dim], after: Sequence[Dim]) -> list[tuple[list[Dim], list[Dim]]] | None:
    """The runs of extents that a reshape merges or splits, of the same product each."""
    found: list[tuple[list[Dim], list[Dim]]] = []
    left, right = list(before), list(after)
    while left or right:
        old, new = [left.pop(0)] if left else [], [right.pop(0)] if right else []
        while product(old) != product(new):
            a, b = product(old), product(new)
            if not (isinstance(a, int) and isinstance(b, int)):
                return None
            if a < b and left:
                old.append(left.pop(0))
            elif b < a and right:
                new.append(right.pop(0))
            else:
                return None
        found.append((old, new))
    return found


def number_of(value: Value) -> float | None:
    """The number that a constant is, shaped so that it broadcasts to anything."""
    return uniform(value) if all(dim == 1 for dim in value.type.shape) else None
