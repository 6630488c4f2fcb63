"""Masks that follow from the places of their elements: what lies on one side of a diagonal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim
from leptonc.ir.graph import Op, Value
from leptonc.ir.table import DIMS
from leptonc.ir.types import DType
from leptonc.passes.shapes.decisions import COMPARISONS
from leptonc.passes.shapes.interval import Facts
from leptonc.passes.shapes.interval_rules import spread_forms

RUNTIMES = (DType.F32, DType.F64, DType.I64, DType.BOOL)
"""Element types that runtimes take the triangle of."""


@dataclass(frozen=True)
class Triangle:
    """The elements of matrices from diagonal `k` on (or up to it): by column less row."""

    upper: bool
    k: Dim

    @property
    def rest(self) -> Triangle:
        """All other elements."""
        return Triangle(not self.upper, self.k + (-1 if self.upper else 1))

    def of(self, build: Builder, value: Value) -> Value:
        """These elements of `value`, and zeros."""
        if isinstance(self.k, int):
            k = build.const(np.array(self.k, np.int64))
        else:
            k = build.op(DIMS, [], {"value": (self.k,), "shape": ()}).result
        return build.trilu(value, k=k, upper=int(self.upper))


Triangles = dict[Value, Triangle]
"""Truths that hold in one triangle of the last two axes, alike along all others."""


def compared_triangle(op: Op, facts: Facts) -> Triangle | None:
    """Where a comparison of integers holds, if their difference is that of column and row."""
    if op.name not in COMPARISONS or op.name == "equal" or op.operands[0].type.dtype.is_float:
        return None
    forms = spread_forms(op, facts)
    if forms is None or op.result.type.rank < 2:
        return None
    (base, steps), (other, more) = forms
    *lead, row, column = [x - y for x, y in zip(steps, more, strict=True)]
    if any(lead) or row != -column or abs(column) != 1:
        return None
    # base + column * (place in the row - row) is compared with zero
    offset, strict = base - other, op.name in ("greater", "less")
    upper = op.name.startswith("greater") == (column == 1)
    k = offset * -column
    return Triangle(upper, k + (0 if not strict else 1 if upper else -1))


def triangle_of(op: Op, facts: Facts, known: Triangles) -> Triangle | None:
    """Where the result of an operation is true, if that is a triangle."""
    if op.name == "not":
        inner = known.get(op.operands[0])
        return inner.rest if inner is not None else None
    if op.name in ("reshape", "unsqueeze", "squeeze", "expand"):
        old, new = op.operands[0].type.shape, op.result.type.shape
        return known.get(op.operands[0]) if adds_axes(old, new) else None
    return compared_triangle(op, facts)


def adds_axes(old: Sequence[Dim], new: Sequence[Dim]) -> bool:
    """True where the last two axes stay and those before them repeat matrices."""
    ones = all(dim == 1 for dim in old[:-2])
    return len(old) >= 2 and tuple(new[-2:]) == tuple(old[-2:]) and ones


def kept_triangle(op: Op, known: Triangles) -> tuple[Value, Triangle] | None:
    """What a `where` chooses from and the triangle that it keeps, zeros being all else."""
    condition, *choices = op.operands
    found = known.get(condition)
    if found is None or op.result.type.dtype not in RUNTIMES:
        return None
    if condition.type.shape[-2:] != op.result.type.shape[-2:]:
        return None
    for value, other, kept in zip(choices, reversed(choices), (found, found.rest), strict=True):
        if value.type == op.result.type and _is_zero(other):
            return value, kept
    return None


def _is_zero(value: Value) -> bool:
    blob = value.blob
    number = blob.number if blob is not None else None
    return number == 0 and not np.signbit(number)
