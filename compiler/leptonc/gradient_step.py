"""What a rule of differentiation is told of one operation, and what it builds gradients with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.graph import Op, Value
from leptonc.ir.ops.broadcasting import shown_shape
from leptonc.ir.table import Inference
from leptonc.ir.types import DType


@dataclass(frozen=True)
class Step:
    """One operation with the gradients of its results, None for a result that is not used."""

    op: Op
    gradients: tuple[Value | None, ...]
    build: Builder
    wanted: frozenset[int]
    """The slots of the operands whose gradients are asked for."""

    @property
    def x(self) -> Value:
        """The first operand."""
        return self.op.operands[0]

    @property
    def y(self) -> Value:
        """The first result."""
        return self.op.results[0]

    @property
    def gradient(self) -> Value:
        """The gradient of the only result."""
        (value,) = self.gradients
        assert value is not None
        return value

    @property
    def call(self) -> Inference:
        """The operation as type inference sees it."""
        op = self.op
        return Inference(op.definition, op.operands, op.operand_names, op.attrs, op.regions)

    def number(self, value: float, like: Value | None = None) -> Value:
        """A scalar of the element type of `like`, which is the first operand by default."""
        return number(self.build, value, like or self.x)

    def error(self, message: str, *notes: str) -> LeptonError:
        """What is said of an operation that is not differentiated."""
        return LeptonError(
            f"{self.op.name} is not differentiated {message}", self.op.location, notes, code="E109"
        )


Rule: TypeAlias = Callable[[Step], "Sequence[Value | None]"]
"""The gradients of the operands, not yet summed over broadcast axes; None where it is zero."""


def number(build: Builder, value: float, like: Value) -> Value:
    """A scalar constant of the element type of `like`."""
    return build.const(np.array(value, like.type.dtype.numpy))


def integers(build: Builder, *values: int) -> Value:
    """A list of integers, as axes and shapes are given."""
    return build.const(np.array(values, np.int64))


def filled(build: Builder, value: float, like: Value) -> Value:
    """A tensor of the type of `like` with `value` everywhere."""
    scalar = number(build, value, like)
    return scalar if not like.type.rank else build.expand(scalar, build.shape(like))


def in_type(build: Builder, value: Value, dtype: DType) -> Value:
    """`value` in another element type."""
    return value if value.type.dtype is dtype else build.cast(value, to=dtype)


def shaped(build: Builder, value: Value, like: Value) -> Value:
    """The elements of `value` in the shape of `like`."""
    if value.type.shape == like.type.shape:
        return value
    return build.reshape(value, build.shape(like), allowzero=1)


def summed_to(build: Builder, gradient: Value, operand: Value) -> Value:
    """The gradient of an operand that was broadcast: the sum over what it was repeated along."""
    wide, shape = gradient.type.shape, operand.type.shape
    if wide == shape:
        return gradient
    ahead = len(wide) - len(shape)
    axes = list(range(ahead))
    for axis, dim in enumerate(shape):
        if dim == wide[ahead + axis]:
            continue
        if dim != 1:
            raise LeptonError(
                f"the gradient of an operand of shape {shown_shape(shape)} that is broadcast to "
                f"{shown_shape(wide)} depends on whether {dim} is 1",
                build.location,
                notes=["give the extents numbers, or the same name where they are equal"],
                code="E109",
            )
        axes.append(ahead + axis)
    total = build.reduce_sum(gradient, integers(build, *axes), keepdims=1)
    return shaped(build, total, operand)
