"""What taking operators apart needs again and again: views, slices, numbers, and refusals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim
from leptonc.ir.graph import Value
from leptonc.ir.table import op_named
from leptonc.ir.types import DType
from leptonc.onnx_attributes import fit
from leptonc.onnx_scope import Call

Results: TypeAlias = "Sequence[Value | None]"
Rule: TypeAlias = Callable[[Call], Results]

MICROSOFT = "com.microsoft"


def as_row(name: str) -> Rule:
    """The operator of another domain that means what a row means."""

    def rule(call: Call) -> Results:
        row = op_named(name)
        assert row is not None
        present = [
            (value, operand.name)
            for value, operand in zip(call.operands, row.operands, strict=False)
            if value is not None
        ]
        values, names = [value for value, _ in present], [label for _, label in present]
        return call.build.op(row, values, fit(row, call.attributes), names=names).results

    return rule


def refuse(call: Call, what: str) -> LeptonError:
    """The error for a use of an operator that leptonc does not have."""
    return LeptonError(f"{call.op_type} with {what} is not supported", call.location, code="E013")


def refuse_operand(call: Call, index: int, what: str) -> None:
    """Raise E013 where the operand at `index`, called `what`, is there."""
    if call.operand(index) is not None:
        raise refuse(call, what)


def present(*values: Value | None) -> list[Value]:
    """The operands that are there."""
    return [value for value in values if value is not None]


def integers(build: Builder, numbers: Sequence[int]) -> Value:
    """A constant list of integers."""
    return build.const(np.array(numbers, np.int64))


def number(build: Builder, value: float, like: Value) -> Value:
    """A constant of the element type of `like`."""
    return build.const(np.array(value, like.type.dtype.numpy))


def reshaped(build: Builder, value: Value, *shape: Dim) -> Value:
    """`value` in another shape of as many elements."""
    extents: list[int] = [dim for dim in shape if isinstance(dim, int)]
    if len(extents) == len(shape):
        return build.reshape(value, integers(build, extents))
    return build.reshape(value, build.dims(value=tuple(shape), shape=(len(shape),)))


def extent(build: Builder, dim: Dim, dtype: DType = DType.I64) -> Value:
    """An extent as an integer without dimensions."""
    if isinstance(dim, int):
        return build.const(np.array(dim, dtype.numpy))
    value = build.dims(value=(dim,), shape=())
    return cast(build, value, dtype)


def transposed(build: Builder, value: Value, *perm: int) -> Value:
    """`value` with its axes in another order."""
    return build.transpose(value, perm=perm)


def cast(build: Builder, value: Value, dtype: DType) -> Value:
    """`value` in another element type."""
    return value if value.type.dtype is dtype else build.op("cast", [value], {"to": dtype}).result


def part(build: Builder, value: Value, start: Dim, end: Dim, axis: int) -> Value:
    """The elements from `start` to `end` along `axis`."""
    limits = [reshaped(build, extent(build, dim), 1) for dim in (start, end)]
    return build.slice(value, *limits, axes=integers(build, [axis]))


def split_at(build: Builder, value: Value, sizes: Sequence[Dim], axis: int) -> list[Value]:
    """Consecutive parts of such sizes along `axis`."""
    parts: list[Value] = []
    start: Dim = 0
    for size in sizes:
        parts.append(part(build, value, start, start + size, axis))
        start = start + size
    return parts


def counted(build: Builder, dim: Dim, dtype: DType = DType.I32) -> Value:
    """The numbers from 0 up to an extent."""
    numbers = build.range(
        extent(build, 0), extent(build, dim), extent(build, 1)
    )  # fmt: skip
    return cast(build, numbers, dtype)
