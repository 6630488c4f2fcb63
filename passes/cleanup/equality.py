"""Which operations compute the same: keys to look equal ones up by, and the proof."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import numpy as np

from leptonc.ir.blob import Array, Blob
from leptonc.ir.dims import Dim
from leptonc.ir.graph import Attribute, Op, Value
from leptonc.ir.table import CONST, Trait
from leptonc.passes.refine import refines

SAMPLES = 61
"""How many elements of a constant tell whether comparing all of it is worth while."""


def key_of(op: Op, number: Callable[[Value], int] = id) -> Hashable:
    """Equal for operations that may be equal; constants get the key of their type and a sample.

    `number` tells values apart. What stands in regions is not looked at.
    """
    if op.definition is CONST:
        blob = op.attrs["value"]
        assert isinstance(blob, Blob)
        return (CONST, blob.type, _sample(blob.array))
    pairs = zip(op.operand_names, op.operands, strict=True)
    slots = [(name, number(value)) for name, value in pairs]
    if _may_swap(op):
        first, second = sorted(value for _, value in slots[:2])
        slots[:2] = [(slots[0][0], first), (slots[1][0], second)]
    attrs = tuple((name, spelled(op.attrs[name])) for name in sorted(op.attrs))
    return (op.definition, tuple(slots), attrs, len(op.results))


def is_repeatable(op: Op) -> bool:
    """True unless `op` draws other random numbers each time, as no seed is given."""
    return not ("seed" in op.definition.attrs and op.attrs["seed"] is None)


def _may_swap(op: Op) -> bool:
    """True where swapping changes no bit; the larger of 0 and -0 is whichever comes first."""
    swappable = op.definition.has(Trait.COMMUTATIVE) and op.name not in ("max", "min")
    return swappable and len(op.operands) >= 2


def spelled(value: Attribute | Dim) -> Hashable:
    """Equal for equal attributes only: 0.0, -0.0, 0 and False differ."""
    if isinstance(value, Blob):
        return id(value)
    if isinstance(value, tuple):
        return tuple(spelled(item) for item in value)
    return (type(value), value.hex()) if isinstance(value, float) else (type(value), value)


def _sample(array: Array) -> Hashable:
    flat = array.reshape(-1)
    picked = flat[:: max(1, flat.size // SAMPLES)]
    return tuple(picked.tolist()) if array.dtype == object else picked.tobytes()


def is_twin(op: Op, other: Op) -> bool:
    """True where the results of `other` may stand for those of `op`, whose key is the same."""
    if op.definition is not CONST:
        pairs = zip(other.results, op.results, strict=True)
        return all(refines(new.type, old.type) for new, old in pairs)
    a, b = op.attrs["value"], other.attrs["value"]
    assert isinstance(a, Blob)
    assert isinstance(b, Blob)
    return a is b or _same_data(a.array, b.array)


def _same_data(a: Array, b: Array) -> bool:
    if a is b:
        return True
    if a.dtype == object:
        return bool(np.array_equal(a, b))
    left, right = (np.ascontiguousarray(each).reshape(-1).view(np.uint8) for each in (a, b))
    return bool(np.array_equal(left, right))
