"""What is known of the elements of an integer tensor: limits, or the numbers by their places."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from leptonc.ir.dims import (
    LARGEST_EXTENT,
    Atom,
    Dim,
    Symbol,
    bounds,
    substitute,
    symbol,
    symbols,
)
from leptonc.ir.graph import Value
from leptonc.ir.types import DType, TensorType

UNKNOWN_RANGE = (-(1 << 64), 1 << 64)
"""Limits of what nothing is known of: those of every integer type are inside."""


@dataclass(frozen=True, slots=True)
class Known:
    """Limits of all elements; where `base` is given, element `i` is ``base + sum(steps * i)``.

    Of a tensor without elements anything may be said.
    """

    low: int
    high: int
    base: Dim | None = None
    steps: tuple[int, ...] = ()

    @property
    def uniform(self) -> int | None:
        """The number that all elements are, None where they differ or it is not known."""
        if isinstance(self.base, int) and not any(self.steps):
            return self.base
        return self.low if self.low == self.high else None


Facts = Callable[[Value], Known]
"""Tells what is known of a value."""


def limits_of(dtype: DType) -> tuple[int, int]:
    """The smallest and the largest integer of an element type."""
    if dtype is DType.BOOL:
        return 0, 1
    if dtype.is_integer and not dtype.is_narrow:
        info = np.iinfo(dtype.numpy)
        return int(info.min), int(info.max)
    return UNKNOWN_RANGE


def anything(type: TensorType) -> Known:
    """What the element type alone says."""
    return Known(*limits_of(type.dtype))


def within(low: int, high: int, type: TensorType) -> Known:
    """Limits, unless numbers in them may have wrapped around."""
    least, most = limits_of(type.dtype)
    return Known(low, high) if least <= low <= high <= most else Known(least, most)


def affine(base: Dim, steps: Sequence[int], type: TensorType) -> Known:
    """Elements by their places, unless they may have wrapped around."""
    kept = tuple(
        0 if dim == 1 else step for dim, step in zip(type.shape, steps, strict=True)
    )  # fmt: skip
    low, high = extremes(base, kept, type.shape)
    least, most = limits_of(type.dtype)
    return Known(low, high, base, kept) if least <= low and high <= most else anything(type)


def extremes(base: Dim, steps: Sequence[int], shape: Sequence[Dim]) -> tuple[int, int]:
    """Limits of ``base + sum(steps * i)`` over all places of a tensor that has elements."""
    positive = never_zero(shape)
    low: Dim = base
    high: Dim = base
    for step, dim in zip(steps, shape, strict=True):
        low = low + (dim - 1) * step if step < 0 else low
        high = high + (dim - 1) * step if step > 0 else high
    return span(low, positive)[0], span(high, positive)[1]


def never_zero(shape: Iterable[Dim]) -> frozenset[str]:
    """The symbols that are at least 1 wherever a tensor of this shape has elements."""
    found: set[str] = set()
    for dim in shape:
        for name in symbols(dim):
            if name not in found and bounds(substitute(dim, {name: 0}))[1] <= 0:
                found.add(name)
    return frozenset(found)


def same(a: Dim, b: Dim, positive: frozenset[str]) -> bool:
    """True where two extents are equal whatever the symbols are, `positive` ones not 0."""
    return span(a - b, positive) == (0, 0)


def span(dim: Dim, positive: frozenset[str] = frozenset()) -> tuple[int, int]:
    """Limits of an extent for symbols up to the largest extent, `positive` ones from 1 on."""
    if positive:
        dim = substitute(dim, {name: symbol(name) + 1 for name in positive})
    return _span(dim)


def _span(dim: Dim) -> tuple[int, int]:
    if isinstance(dim, int):
        return int(dim), int(dim)
    low = high = 0
    for monomial, factor in dim.terms:
        ends = (1, 1)
        for atom in monomial:
            ends = _product(ends, _atom(atom))
        ends = _product(ends, (factor, factor))
        low, high = low + ends[0], high + ends[1]
    return low, high


def _product(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    found = [x * y for x in a for y in b]
    return min(found), max(found)


def _atom(atom: Atom) -> tuple[int, int]:
    if isinstance(atom, Symbol):
        return 0, LARGEST_EXTENT
    (a, b), (c, d) = (_span(arg) for arg in atom.args)
    if atom.function == "min":
        return min(a, c), min(b, d)
    if atom.function == "max":
        return max(a, c), max(b, d)
    if atom.function == "broadcast":
        return min(a, c), max(b, d)
    if c <= 0:
        return UNKNOWN_RANGE
    found = [x // y for x in (a, b) for y in (c, d)]
    return min(found), max(found)


def spread(known: Known, shape: Sequence[Dim], wanted: Sequence[Dim]) -> tuple[int, ...] | None:
    """The steps of a tensor after it is broadcast from `shape` to `wanted`; None if unclear."""
    if known.base is None:
        return None
    missing = len(wanted) - len(shape)
    steps = [0] * missing
    for dim, step, full in zip(shape, known.steps, wanted[missing:], strict=True):
        if step and dim not in (full, 1) and not same(dim, full, never_zero(wanted)):
            return None
        steps.append(step if dim != 1 else 0)
    return tuple(steps)


def carried(
    steps: Sequence[int], shape: Sequence[Dim], wanted: Sequence[Dim]
) -> tuple[int, ...] | None:
    """The steps after axes of extent 1 came or went; None where other axes did."""
    left = [(dim, step) for dim, step in zip(shape, steps, strict=True) if dim != 1]
    if [dim for dim, _ in left] != [dim for dim in wanted if dim != 1]:
        return None
    following = iter(left)
    return tuple(0 if dim == 1 else next(following)[1] for dim in wanted)


def union(*parts: Known) -> Known:
    """What holds of elements each of which is one of those of `parts`."""
    first = parts[0]
    low, high = min(part.low for part in parts), max(part.high for part in parts)
    if all(part.base is not None and part == first for part in parts):
        return first
    return Known(low, high)
