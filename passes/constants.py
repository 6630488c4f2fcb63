"""What rules ask of constants."""

from __future__ import annotations

import math

import numpy as np

from leptonc.ir.blob import LOOKED_AT, Array, Blob
from leptonc.ir.build import Builder
from leptonc.ir.graph import Value
from leptonc.ir.types import DType, TensorType
from leptonc.passes.pattern import Match


def uniform(value: Value) -> float | None:
    """The number that all elements of a constant are, zeros with their sign; None for others."""
    blob = value.blob
    return blob.number if blob is not None else None


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


def whole(value: Value) -> int | None:
    """The integer, or the truth as 0 or 1, that all elements of a constant are; None for others."""
    if not (value.type.dtype.is_integer or value.type.dtype is DType.BOOL):
        return None
    if uniform(value) is None or value.blob is None:
        return None
    return int(value.blob.array.reshape(-1)[0])


def require_room(m: Match) -> None:
    """Go on only where a constant can be written in place of the root's result."""
    type = m.root.result.type
    m.require(type.is_static, "its extents are known at run time only")
    m.require(math.prod(type.extents) <= LOOKED_AT, "the constant would be large")


def filled(build: Builder, type: TensorType, number: float) -> Value:
    """A constant of a static type whose elements are all `number`."""
    return build.const(Blob.of(np.full(type.extents, number, type.dtype.numpy)))
