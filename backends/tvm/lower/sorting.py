# pyright: standard
"""Sorting inside a kernel: keys that compare as integers, and a stable merge sort of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import tirx
from tvm.tirx import Buffer
from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.tvm.lower.arithmetic import dtype_of, is_float, not_a_number, widened

PLACE_BITS = 32
"""No extent needs more, so that a place fits below a key of as many bits."""


def key_dtype(dtype: str) -> str:
    """The type of the keys of elements of `dtype`."""
    keys = {"float64": "int64", "bool": "int32", "uint64": "uint64", "int64": "int64"}
    return keys.get(dtype, "int64" if dtype == "uint32" else "int32")


def key_of(element: Any) -> Any:
    """An integer by which elements sort: 0.0 and -0.0 have one, not-a-number the largest."""
    key = key_dtype(dtype_of(element))
    value = widened(element)
    if not is_float(value):
        return value.astype(key)
    largest = tirx.const(2 ** (63 if key == "int64" else 31) - 1, key)
    bits: Any = tirx.reinterpret(key, value)
    ordered = tirx.Select(bits < 0, bits ^ largest, bits)
    zero = value == tirx.const(0, dtype_of(value))
    ordered = tirx.Select(zero, tirx.const(0, key), ordered)
    return tirx.Select(not_a_number(value), largest, ordered)


def packed(key: Any, place: Any) -> Any:
    """A key of 32 bits and the place of its element, as one integer that sorts like both."""
    wide = tirx.const(PLACE_BITS, "int64")
    return (key.astype("int64") << wide) | place.astype("int64")


def place_in(pair: Any) -> Any:
    """The place that was packed."""
    return pair & tirx.const((1 << PLACE_BITS) - 1, "int64")


def key_in(pair: Any) -> Any:
    """The key that was packed."""
    return pair >> tirx.const(PLACE_BITS, "int64")


class Lines:
    """Buffers sorted as one: each has room for all elements twice, and one more.

    `after(i, j)` is whether the element at `i` of the buffers has to stand behind that at `j`,
    which comes later; it may emit statements. Every merge reads one half and writes the other.
    """

    def __init__(
        self, room: Any, dtypes: Sequence[str], after: Callable[[Lines, Any, Any], Any]
    ) -> None:
        self.buffers: list[Buffer] = [emit.workspace((room * 2 + 1,), dtype) for dtype in dtypes]
        self.room, self.after = room, after
        self.half, self.width, self.start, self.left, self.right = (
            emit.Register(1, "int64") for _ in range(5)
        )
        self.half.set(tirx.const(0, "int64"))

    def at(self, position: Any, line: int = 0) -> Any:
        """What the buffer `line` holds at a place."""
        return emit.load(self.buffers[line], [self.half.lane(0) + position])

    def sort(self, count: Any) -> None:
        """Bring the first `count` elements in order."""
        self.width.set(tirx.const(1, "int64"))
        with T.While(self.width.lane(0) < count):
            self.start.set(tirx.const(0, "int64"))
            with T.While(self.start.lane(0) < count):
                width = self.width.lane(0)
                middle = emit.let(tirx.min(self.start.lane(0) + width, count))
                end = emit.let(tirx.min(middle + width, count))
                self._merge(middle, end)
                self.start.set(end)
            self.half.set(self.room - self.half.lane(0))
            self.width.set(self.width.lane(0) * 2)

    def _merge(self, middle: Any, end: Any) -> None:
        start = self.start.lane(0)
        self.left.set(start)
        self.right.set(middle)
        with emit.serial(end - start, start) as to:
            left, right = self.left.lane(0), self.right.lane(0)
            first = emit.let(
                tirx.all(
                    left < middle, tirx.any(right >= end, tirx.Not(self.after(self, left, right)))
                ).astype("int64")
            )
            chosen = emit.let(tirx.Select(first != 0, left, right) + self.half.lane(0))
            for buffer in self.buffers:
                value = emit.load(buffer, [chosen])
                emit.store(buffer, value, [self.room - self.half.lane(0) + to])
            self.left.set(left + first)
            self.right.set(right + 1 - first)


def by_key(lines: Lines, i: Any, j: Any) -> Any:
    """The order of keys, or of keys packed with places."""
    return lines.at(i) > lines.at(j)
