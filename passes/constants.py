"""What rules ask of constants."""

from __future__ import annotations

import math

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.graph import Value

LOOKED_AT = 1 << 16
"""Constants with more elements than this are not searched for a number that all of them share."""


def uniform(value: Value) -> float | None:
    """The number that all elements of a constant are, zeros with their sign; None for others."""
    blob = value.blob
    if (
        blob is None
        or not 0 < blob.size <= LOOKED_AT
        or blob.type.dtype.value in ("str", "c64", "c128")
    ):
        return None
    flat = blob.array.reshape(-1)
    first = flat[0].tobytes()
    if flat[-1].tobytes() != first or flat.tobytes() != first * flat.size:
        return None
    return float(flat[0])


def is_exactly(value: Value, number: float) -> bool:
    """True for a constant that is `number` everywhere, of the same sign where it is zero."""
    found = uniform(value)
    return (
        found is not None
        and math.copysign(1, found) == math.copysign(1, number)
        and found == number
    )


def array_of(value: Value) -> Array | None:
    """The data of a constant; None for any other value."""
    return value.blob.array if value.blob is not None else None


def integers(value: Value | None) -> tuple[int, ...] | None:
    """The elements of an integer tensor that are all known numbers."""
    if value is None:
        return None
    if value.content is not None:
        items = value.content.reshape(-1)
        known = all(isinstance(item, int | np.integer) for item in items)
        return tuple(int(item) for item in items) if known else None
    blob = value.blob
    if blob is None or not blob.type.dtype.is_integer or blob.size > LOOKED_AT:
        return None
    return tuple(int(item) for item in blob.array.reshape(-1))
