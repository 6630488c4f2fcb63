"""Known contents of small integer tensors: what shape arithmetic computes at compile time.

A content is an array of extents. The functions here make `content=` of a row: `moved` for rows
that only move elements, `elementwise` with one of the scalar functions for arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim, bounds, floordiv, maximum, minimum, product
from leptonc.ir.graph import Content, Value
from leptonc.ir.table import Contents, Evaluate, Evaluation, Inference

Scalar = Callable[..., "Dim | None"]
"""One element of a result from one element of each operand; None where that cannot be told."""


def content_of(value: Value) -> Content | None:
    """The elements of a value as extents (0 and 1 for bool), None where they are not known."""
    if value.content is not None:
        return value.content
    dtype = value.type.dtype
    if value.blob is None or not (dtype.is_integer or dtype.value == "bool"):
        return None
    return value.blob.array.astype(np.int64).astype(object)


MAX_RANK = 64
"""As many dimensions as numpy has."""


def check_rank(call: Inference, rank: int) -> None:
    """Raise E108 for a result with more dimensions than anything can hold."""
    if rank > MAX_RANK:
        raise LeptonError(
            f"{call.definition.name} to {rank} dimensions, more than {MAX_RANK}", code="E108"
        )


def known_integers(call: Inference, name: str) -> tuple[int, ...] | None:
    """The elements of an operand, None where not all of them are known integers."""
    value = call.get(name)
    content = content_of(value) if value is not None else None
    if content is None:
        return None
    items: list[Any] = list(content.reshape(-1))
    return tuple(map(int, items)) if all(isinstance(item, int) for item in items) else None


def required_integers(call: Inference, name: str) -> tuple[int, ...]:
    """The elements of an operand; raises E109 where they are not known at compile time."""
    known = known_integers(call, name)
    if known is None:
        raise LeptonError(
            f"{call.definition.name} needs to know {name} at compile time",
            notes=["make it a constant, or fix the extents that it is computed from"],
            code="E109",
        )
    return known


def moved(evaluate: Evaluate, *data: str) -> Contents:
    """The content of a row that only moves the elements of the operands called `data`.

    The other operands say where to, so they have to be known integers.
    """

    def content(call: Inference) -> Content | None:
        arrays: list[Array] = []
        for value, name in zip(call.items, call.names, strict=True):
            known = content_of(value)
            if known is None:
                return None
            if name not in data:
                if not all(isinstance(item, int) for item in known.reshape(-1)):
                    return None
                known = known.astype(np.int64)
            arrays.append(known)
        result = evaluate(Evaluation(call.definition, arrays, call.names, call.attrs, call.regions))
        return np.asarray(result if isinstance(result, np.ndarray) else result[0], dtype=object)

    return content


def elementwise(function: Scalar) -> Contents:
    """The content of an elementwise row of any number of operands that broadcast."""

    def content(call: Inference) -> Content | None:
        known = [content_of(value) for value in call.items]
        arrays = [array for array in known if array is not None]
        if len(arrays) != len(known) or not arrays:
            return None
        spread = np.broadcast_arrays(*arrays)
        result = np.empty(spread[0].shape, dtype=object)
        for index in np.ndindex(*result.shape):
            item = function(*(array[index] for array in spread))
            if item is None:
                return None
            result[index] = item
        return result

    return content


def folded(function: Callable[[Dim, Dim], Dim | None]) -> Scalar:
    """A function of two extents as one of any number, taken from the left."""

    def fold(*items: Dim) -> Dim | None:
        total: Dim | None = items[0]
        for item in items[1:]:
            if total is not None:
                total = function(total, item)
        return total

    return fold


def add(a: Dim, b: Dim) -> Dim:
    """`a + b`."""
    return a + b


def subtract(a: Dim, b: Dim) -> Dim:
    """`a - b`."""
    return a - b


def multiply(a: Dim, b: Dim) -> Dim:
    """`a * b`."""
    return a * b


def negate(a: Dim) -> Dim:
    """`-a`."""
    return a * -1


def absolute(a: Dim) -> Dim:
    """`|a|`."""
    return maximum(a, a * -1)


def divide(a: Dim, b: Dim) -> Dim | None:
    """`a / b` rounded towards zero, as ONNX does; a size that may be 0 divides as if it were 1."""
    if b == 0:
        return None
    if bounds(b)[1] <= 0:
        a, b = a * -1, b * -1
    if bounds(b)[0] < 0:
        return None
    if bounds(a)[0] >= 0:
        return _quotient(a, b)
    return _quotient(a * -1, b) * -1 if bounds(a)[1] <= 0 else None


def _quotient(a: Dim, b: Dim) -> Dim:
    exact = floordiv(a, b)
    return exact if exact * b == a else floordiv(a, maximum(b, 1))


def remainder(a: Dim, b: Dim) -> Dim | None:
    """`a` modulo `b` with the sign of `b`, as ONNX's Mod without fmod; for positive `b`."""
    return a - floordiv(a, b) * b if bounds(b)[0] >= 1 else None


def lower(a: Dim, b: Dim) -> Dim:
    """The smaller of two."""
    return minimum(a, b)


def higher(a: Dim, b: Dim) -> Dim:
    """The larger of two."""
    return maximum(a, b)


def equal(a: Dim, b: Dim) -> Dim | None:
    """1 where equal whatever the symbols are, 0 where never, else None."""
    low, high = bounds(a - b)
    if low == high == 0:
        return 1
    return 0 if low > 0 or high < 0 else None


def less(a: Dim, b: Dim) -> Dim | None:
    """1 where `a < b` whatever the symbols are, 0 where never, else None."""
    low, high = bounds(a - b)
    if high < 0:
        return 1
    return 0 if low >= 0 else None


def less_or_equal(a: Dim, b: Dim) -> Dim | None:
    """1 where `a <= b` whatever the symbols are, 0 where never, else None."""
    greater = less(b, a)
    return None if greater is None else 1 - greater


def greater(a: Dim, b: Dim) -> Dim | None:
    """1 where `a > b` whatever the symbols are, 0 where never, else None."""
    return less(b, a)


def greater_or_equal(a: Dim, b: Dim) -> Dim | None:
    """1 where `a >= b` whatever the symbols are, 0 where never, else None."""
    return less_or_equal(b, a)


def negation(a: Dim) -> Dim | None:
    """1 for 0, 0 for anything known to be something else."""
    return equal(a, 0)


def conjunction(a: Dim, b: Dim) -> Dim:
    """1 where both are 1; the operands are 0 or 1."""
    return a * b


def disjunction(a: Dim, b: Dim) -> Dim:
    """1 where one is 1; the operands are 0 or 1."""
    return maximum(a, b)


def choose(condition: Dim, a: Dim, b: Dim) -> Dim | None:
    """`a` where the condition is 1, `b` where it is 0; either where they are equal."""
    if a == b:
        return a
    if isinstance(condition, int):
        return a if condition else b
    return None


def reduced(function: Callable[[Sequence[Dim]], Dim | None]) -> Contents:
    """The content of a reduction row with an operand ``axes?`` and the attributes of ONNX."""

    def content(call: Inference) -> Content | None:
        known = content_of(call[0])
        if known is None:
            return None
        axes = known_integers(call, "axes") if call.get("axes") is not None else ()
        if axes is None:
            return None
        if not axes and call.attrs.get("noop_with_empty_axes"):
            return known
        over = tuple(axis % known.ndim for axis in axes) or tuple(range(known.ndim))
        kept = [axis for axis in range(known.ndim) if axis not in over]
        outer = [known.shape[axis] for axis in kept]
        rows = known.transpose(*kept, *over).reshape(
            *outer, math.prod(known.shape[axis] for axis in over)
        )
        result = np.empty(outer, dtype=object)
        for index in np.ndindex(*outer):
            item = function(list(rows[index]))
            if item is None:
                return None
            result[index] = item
        return np.expand_dims(result, over) if call.attrs.get("keepdims", 1) else result

    return content


def product_of(items: Sequence[Dim]) -> Dim:
    """The product of extents."""
    return product(items)


def sum_of(items: Sequence[Dim]) -> Dim:
    """The sum of extents."""
    total: Dim = 0
    for item in items:
        total = total + item
    return total


def lowest_of(items: Sequence[Dim]) -> Dim | None:
    """The lowest of integers; None of truth and of no items."""
    return _extreme_of(lower, items)


def highest_of(items: Sequence[Dim]) -> Dim | None:
    """The highest of integers; None of truth and of no items."""
    return _extreme_of(higher, items)


def _extreme_of(of_two: Callable[[Dim, Dim], Dim], items: Sequence[Dim]) -> Dim | None:
    if not items or any(isinstance(item, bool | np.bool_) for item in items):
        return None
    return reduce(of_two, items)
