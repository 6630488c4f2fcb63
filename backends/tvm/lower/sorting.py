# pyright: standard
"""Order inside a kernel: keys that compare as integers, stable sorting, and a heap."""

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

DIGIT_BITS = 8
DIGITS = 1 << DIGIT_BITS


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

    Every pass reads one half and writes the other.
    """

    def __init__(self, room: Any, dtypes: Sequence[str]) -> None:
        self.buffers: list[Buffer] = [emit.workspace((room * 2 + 1,), dtype) for dtype in dtypes]
        self.room, self.half = room, emit.Register(1, "int64")
        self.half.set(tirx.const(0, "int64"))

    def at(self, position: Any, line: int = 0) -> Any:
        """What the buffer `line` holds at a place."""
        return emit.load(self.buffers[line], [self.half.lane(0) + position])

    def move(self, source: Any, target: Any) -> None:
        """Copy an element from the half that is read to the other."""
        for line, buffer in enumerate(self.buffers):
            emit.store(buffer, self.at(source, line), [self.room - self.half.lane(0) + target])

    def turn(self) -> None:
        """Read what was written."""
        self.half.set(self.room - self.half.lane(0))


def sort_by_digits(lines: Lines, count: Any, first_bit: int) -> None:
    """Bring the first `count` elements in the order of the first buffer, from a bit of it on.

    One pass a byte, from the lowest on; equal elements stay in their order.
    """
    first: Any = lines.buffers[0]
    dtype = str(first.dtype)
    width = int(dtype.lstrip("uint"))
    shifts = range(first_bit, width, DIGIT_BITS)
    counts = emit.workspace((len(shifts), DIGITS), "int64")
    with emit.serial(len(shifts)) as row, emit.serial(DIGITS) as digit:
        emit.store(counts, tirx.const(0, "int64"), [row, digit])

    def digit_of(at: Any, shift: int) -> Any:
        key: Any = lines.at(at)
        digit = ((key >> tirx.const(shift, dtype)) & tirx.const(DIGITS - 1, dtype)).astype("int64")
        signed = dtype[0] == "i" and shift + DIGIT_BITS == width
        return digit ^ tirx.const(DIGITS // 2, "int64") if signed else digit

    with emit.serial(count) as at:
        for row, shift in enumerate(shifts):
            digit = emit.let(digit_of(at, shift))
            emit.store(counts, emit.load(counts, [row, digit]) + 1, [row, digit])
    for row, shift in enumerate(shifts):
        common = emit.load(counts, [row, digit_of(tirx.const(0, "int64"), shift)])
        with T.If(common != count), T.Then():
            _to_places(counts, row)
            with emit.serial(count) as at:
                digit = emit.let(digit_of(at, shift))
                to = emit.let(emit.load(counts, [row, digit]))
                emit.store(counts, to + 1, [row, digit])
                lines.move(at, to)
            lines.turn()


def _to_places(counts: Buffer, row: int) -> None:
    """How many elements have a digit becomes where those with it begin."""
    total = emit.Register(1, "int64")
    total.set(tirx.const(0, "int64"))
    with emit.serial(DIGITS) as digit:
        number = emit.let(emit.load(counts, [row, digit]))
        emit.store(counts, total.lane(0), [row, digit])
        total.set(total.lane(0) + number)


class Merging:
    """A stable merge sort of lines by a comparison.

    `after(i, j)` is whether the element at `i` has to stand behind that at `j`; it may emit
    statements, and `j` may be just behind the last element.
    """

    def __init__(self, lines: Lines, after: Callable[[Any, Any], Any]) -> None:
        self.lines, self.after = lines, after
        self.width, self.start, self.left, self.right = (
            emit.Register(1, "int64") for _ in range(4)
        )

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
            self.lines.turn()
            self.width.set(self.width.lane(0) * 2)

    def _merge(self, middle: Any, end: Any) -> None:
        start = self.start.lane(0)
        self.left.set(start)
        self.right.set(middle)
        with emit.serial(end - start, start) as to:
            left, right = self.left.lane(0), self.right.lane(0)
            stays = tirx.any(right >= end, tirx.Not(self.after(left, right)))
            first = emit.let(tirx.all(left < middle, stays).astype("int64"))
            self.lines.move(emit.let(tirx.Select(first != 0, left, right)), to)
            self.left.set(left + first)
            self.right.set(right + 1 - first)


class Heap:
    """Integers of which the smallest is at hand: cheaper than sorting where few are taken."""

    def __init__(self, room: Any) -> None:
        self.items = emit.workspace((room + 1,), "int64")
        self.size, self.hole, self.child = (emit.Register(1, "int64") for _ in range(3))
        self.size.set(tirx.const(0, "int64"))

    def append(self, item: Any) -> None:
        """Add an item; `arrange` comes after the last."""
        emit.store(self.items, item, [self.size.lane(0)])
        self.size.set(self.size.lane(0) + 1)

    def arrange(self) -> None:
        """Bring what was added in order."""
        half = emit.let(tirx.floordiv(self.size.lane(0), 2))
        with emit.serial(half) as step:
            at = emit.let(half - 1 - step)
            self._sink(at, emit.let(emit.load(self.items, [at])))

    def pop(self) -> Any:
        """Take out the smallest; there has to be one."""
        zero = tirx.const(0, "int64")
        best = emit.let(emit.load(self.items, [zero]))
        self.size.set(self.size.lane(0) - 1)
        self._sink(zero, emit.let(emit.load(self.items, [self.size.lane(0)])))
        return best

    def _sink(self, start: Any, item: Any) -> None:
        """Put `item` where nothing smaller is below it, from a hole at `start` on."""
        size = self.size.lane(0)
        self.hole.set(start)
        self.child.set(start * 2 + 1)
        with T.While(self.child.lane(0) < size):
            child = self.child.lane(0)
            second = emit.load(self.items, [child + 1])  # there is room for one more
            smaller = tirx.all(child + 1 < size, second < emit.load(self.items, [child]))
            at = emit.let(child + smaller.astype("int64"))
            below = emit.let(emit.load(self.items, [at]))
            with T.If(below < item):
                with T.Then():
                    emit.store(self.items, below, [self.hole.lane(0)])
                    self.hole.set(at)
                    self.child.set(at * 2 + 1)
                with T.Else():
                    self.child.set(size)
        emit.store(self.items, item, [self.hole.lane(0)])
