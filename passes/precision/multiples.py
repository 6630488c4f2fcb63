"""Columns of real numbers that are small integers, each times the scale of its column."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from leptonc.ir.blob import Array

LARGEST = 255
"""No byte is further from its zero point."""
SAMPLE = 16
"""Rows that nearly always tell the scale: what they tell is less to go through."""
LOOK = 1024
"""Numbers of the first column: more of them than there are multiples differ from each other."""
NEAR = 2.0**-22
"""How far off numbers of f32 are that were rounded twice, as a part of them."""


@dataclass(frozen=True)
class Multiples:
    """A matrix as integers, none further from zero than LARGEST, times a scale for each column."""

    integers: Array
    scales: Array


def multiples(matrix: Array) -> Multiples | None:
    """The integers and scales that give each number of a matrix but for its rounding, if any do.

    The integers are the smallest ones. A column of zeros has the scale 1.
    """
    if np.unique(np.abs(matrix[:LOOK, :1])).size > LARGEST + 1:
        return None  # most networks' weights are real numbers: that is seen without reading all
    top = np.maximum(matrix.max(0, initial=0), -matrix.min(0, initial=0)).astype(np.float64)
    if not np.isfinite(top).all():
        return None
    top = np.where(top > 0, top, 1.0)
    most = _largest_integers(matrix[:SAMPLE] / top, np.ones(top.size, np.int64))
    if most is None:
        return None
    made, wrong = _multiples(matrix, top / most)
    if wrong.size:
        more = _largest_integers(matrix[:, wrong] / top[wrong], most[wrong])
        if more is None:
            return None
        most[wrong] = more
        made, wrong = _multiples(matrix, top / most)
    return None if wrong.size else made


def _multiples(matrix: Array, scales: Array) -> tuple[Multiples, Array]:
    """The nearest multiples of the scales, and the columns that have further numbers."""
    with np.errstate(all="ignore"):
        factors = scales.astype(np.float32)
        whole = np.rint(matrix / factors)
        near = np.abs(whole * factors - matrix) <= NEAR * np.abs(matrix)
        near &= np.abs(whole) <= LARGEST
        return Multiples(whole.astype(np.int16), factors), np.flatnonzero(~near.all(0))


def _largest_integers(parts: Array, most: Array) -> Array | None:
    """By column, the least multiple of `most` that makes each part of 1 an integer, if one does."""
    found, open_columns = most.copy(), np.arange(most.size)
    while open_columns.size:
        off = _off(parts[:, open_columns] * found[open_columns])
        fails = off > NEAR * LARGEST
        open_columns, worst = open_columns[fails.any(0)], off.argmax(0)[fails.any(0)]
        if not open_columns.size:
            break
        ways = np.arange(2, LARGEST + 1)[:, None] * found[open_columns]
        fits = _off(parts[worst, open_columns] * ways) <= NEAR * LARGEST
        fits &= ways <= LARGEST
        if not fits.any(0).all():
            return None
        found[open_columns] = ways[fits.argmax(0), np.arange(open_columns.size)]
    return found


def _off(numbers: Array) -> Array:
    """How far each is from an integer."""
    return np.abs(numbers - np.rint(numbers))
