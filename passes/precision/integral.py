"""Integers that are at hand as floats."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from leptonc.ir.blob import Blob
from leptonc.ir.build import Builder
from leptonc.ir.graph import Value
from leptonc.ir.types import DType

BYTES = frozenset({DType.I8, DType.U8})
SMALL = BYTES | {DType.I16, DType.U16}
LIMIT = 1 << 24
"""Up to here f32 holds every integer."""


@dataclass(frozen=True, slots=True)
class Integral:
    """An f32 whose elements are integers, none of them beyond `largest`."""

    value: Value
    largest: int


@dataclass
class Integrals:
    """The floats that are known for integers; `build` is where others are made."""

    floats: dict[Value, Integral] = field(default_factory=dict[Value, Integral])
    build: Builder | None = None

    @staticmethod
    def holds(largest: int) -> bool:
        """True where f32 holds every integer up to `largest`."""
        return largest < LIMIT

    def constant(self, value: Value) -> Value:
        """A constant as f32."""
        assert self.build is not None
        blob = value.blob
        assert blob is not None
        floats = Blob(
            value.type.with_dtype(DType.F32), lambda: blob.array.astype(np.float32)
        )  # fmt: skip
        return self.build.const(floats)

    def of(self, value: Value) -> Value:
        """An integer of up to 16 bits as f32."""
        assert self.build is not None
        if value in self.floats:
            return self.floats[value].value
        if value.blob is not None:
            return self.constant(value)
        return self.build.op("cast", [value], {"to": DType.F32}).result


def largest_of(value: Value) -> int:
    """No element is further from zero than this."""
    blob = value.blob
    if blob is not None:
        data = blob.array
        return max(abs(int(data.min())), abs(int(data.max()))) if data.size else 0
    low, high = limits_of(value.type.dtype)
    return max(-low, high)


def limits_of(dtype: DType) -> tuple[int, int]:
    """The lowest and the highest value of an integer type."""
    info = np.iinfo(dtype.numpy)
    return int(info.min), int(info.max)


def largest_difference(value: Value, point: Value | None) -> int:
    """No element is further from its zero point than this."""
    low, high = limits_of(value.type.dtype)
    if point is None:
        return max(-low, high)
    data = None if point.blob is None else point.blob.array.astype(np.int64)
    if data is None or not data.size:
        return high - low
    return max(high - int(data.min()), int(data.max()) - low)
