"""Constant tensors: lazily loaded data, named by recipe in small tests and by digest in models."""

from __future__ import annotations

import hashlib
import mmap
import tempfile
from collections.abc import Callable
from typing import IO, Any, BinaryIO

import numpy as np

from leptonc.ir.types import TensorType

Array = np.ndarray[Any, np.dtype[Any]]

CHUNK = 1 << 26
"""Bytes of large data that are read at once."""

PIECE = 1 << 22
"""Bytes that are written at once."""

LARGE = 1 << 27
"""Bytes from which on data that was computed does not stay in memory."""

LOOKED_AT = 1 << 16
"""Constants with more elements than this are not searched for a number that all of them share."""

INLINE_ELEMENTS = 16
"""Constants up to this size are spelled out in textual IR."""
INLINE_INTEGERS = 64
"""The same for integers: they may be shapes or axes, which a kernel's code depends on."""


class Blob:
    """A tensor's data, read when first asked for; its digest names it in text and caches."""

    __slots__ = ("_array", "_digest", "_load", "_number", "_recipe", "is_absent", "type")

    def __init__(
        self,
        type: TensorType,
        load: Callable[[], Array],
        *,
        recipe: str = "",
        digest: str = "",
        is_absent: bool = False,
    ) -> None:
        self.type = type
        self.is_absent = is_absent
        """True where only the type is at hand (text without the weights was read)."""
        self._load: Callable[[], Array] | None = load
        self._array: Array | None = None
        self._recipe = recipe
        self._digest = digest
        self._number: tuple[float | None] | None = None

    @property
    def array(self) -> Array:
        """The data; external data is a read-only view of the mapped file."""
        if self._array is None:
            self._array, self._load = self.read(), None
        return self._array

    def read(self) -> Array:
        """The data, which is not kept: where it is asked for again, it is made again."""
        load = self._load  # another thread may be keeping it just now
        if load is not None:
            return load().reshape(self.type.extents)
        assert self._array is not None
        return self._array

    @property
    def digest(self) -> str:
        """The first 32 hex digits of the SHA-256 of type and bytes."""
        if not self._digest:
            self._digest = _digest(self.type, self.array)
        return self._digest

    @property
    def recipe(self) -> str:
        """How textual IR spells the data: ``splat``, ``random``, ``dense`` or ``blob``."""
        if not self._recipe:
            self._recipe = _spelled(self.array) or f'blob("{self.digest}")'
        return self._recipe

    @property
    def is_spelled(self) -> bool:
        """True where textual IR holds the data itself, or how to make it."""
        if self._recipe:
            return not self._recipe.startswith("blob(")
        if self.size > INLINE_INTEGERS or (
            self.size > INLINE_ELEMENTS and not self.type.dtype.is_integer
        ):
            return False
        return self.recipe[:5] != "blob("

    @property
    def size(self) -> int:
        """The number of elements."""
        count = 1
        for extent in self.type.extents:
            count *= extent
        return count

    @property
    def number(self) -> float | None:
        """The number that all elements are, zeros with their sign.

        None where they differ, where there are none or more than are looked at, and for elements
        that are no real numbers.
        """
        if self._number is None:
            self._number = (self._uniform(),)
        return self._number[0]

    def _uniform(self) -> float | None:
        if not 0 < self.size <= LOOKED_AT or self.type.dtype.value in ("str", "c64", "c128"):
            return None
        flat = self.array.reshape(-1)
        first = flat[0].tobytes()
        if flat[-1].tobytes() != first or flat.tobytes() != first * flat.size:
            return None
        return float(flat[0])

    def __eq__(self, other: object) -> bool:
        """Equal data of equal type; large data is compared by digest."""
        if self is other:
            return True
        return isinstance(other, Blob) and self.type == other.type and self.recipe == other.recipe

    def __hash__(self) -> int:
        return hash((self.type, self.recipe))

    @staticmethod
    def of(array: Array) -> Blob:
        """A blob of data at hand; the array must not be written afterwards.

        Large data moves to a file without a name, of which memory holds as much as it has room for.
        """
        from leptonc.ir.types import DType

        array = np.asarray(array)
        if array.nbytes >= LARGE and array.dtype != object and mapping_of(array) is None:
            array = _moved_to_file(array)
        return Blob(TensorType(DType.of(array.dtype), tuple(array.shape)), lambda: array)

    @staticmethod
    def splat(value: float, type: TensorType) -> Blob:
        """One number everywhere."""
        return Blob(
            type, lambda: np.full(type.extents, value, type.dtype.numpy), recipe=f"splat({value!r})"
        )

    @staticmethod
    def random(seed: int, type: TensorType) -> Blob:
        """Standard normal numbers from a seed (integers from -8 to 8): weights without bytes."""

        def load() -> Array:
            generator = np.random.default_rng(seed)
            if type.dtype.is_float:
                return generator.standard_normal(type.extents).astype(type.dtype.numpy)
            low = -8 if type.dtype.is_signed else 0
            high = 2 if type.dtype.value == "bool" else 8
            return generator.integers(low if high > 2 else 0, high, type.extents).astype(
                type.dtype.numpy
            )

        return Blob(type, load, recipe=f"random({seed})")


def _digest(type: TensorType, array: Array) -> str:
    hasher = hashlib.sha256(str(type).encode())
    if array.dtype == object:
        for item in array.reshape(-1):
            text = str(item).encode()
            hasher.update(len(text).to_bytes(8, "little") + text)
    else:
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        for start in range(0, data.size, CHUNK):
            hasher.update(data[start : start + CHUNK].data)
            forget_pages(data)
    return hasher.hexdigest()[:32]


def mapping_of(array: Array) -> mmap.mmap | None:
    """The mapped file that `array` is a view of, where it cannot be written."""
    part: Any = array
    while isinstance(part, np.ndarray) and not part.flags.writeable:
        part = part.base  # pyright: ignore[reportUnknownMemberType]
    if isinstance(part, memoryview):
        part = part.obj
    return part if isinstance(part, mmap.mmap) else None


def forget_pages(array: Array) -> None:
    """Let the pages of a mapped file, where `array` is a view of one, leave memory.

    They come back when they are read again. Only mappings that cannot be written are let go.
    """
    if array.nbytes < CHUNK:
        return
    mapping = mapping_of(array)
    if mapping is not None and hasattr(mapping, "madvise"):
        mapping.madvise(mmap.MADV_DONTNEED)


def write_pieces(file: BinaryIO | IO[bytes], data: Array) -> None:
    """Write bytes from where the file stands on; long stretches of zeros become holes of it."""
    start = file.tell()
    for at in range(0, data.size, PIECE):
        piece = data[at : at + PIECE]
        if piece.any():
            file.seek(start + at)
            file.write(piece.data)
        forget_pages(data)
    file.truncate(start + data.size)
    file.seek(start + data.size)


def _moved_to_file(array: Array) -> Array:
    """The same data, mapped from a file that goes away with it; as it is where there is no room."""
    try:
        with tempfile.TemporaryFile(prefix="leptonc-") as file:
            write_pieces(file, np.ascontiguousarray(array).reshape(-1).view(np.uint8))
            file.flush()
            data = np.memmap(file, np.uint8, "r", shape=(array.nbytes,))
    except OSError:
        return array
    return data.view(array.dtype).reshape(array.shape)


def _spelled(array: Array) -> str:
    limit = INLINE_INTEGERS if array.dtype.kind in "iu" else INLINE_ELEMENTS
    if array.size > limit or array.dtype == object or array.dtype.kind == "c":
        return ""
    return f"dense([{', '.join(spell_number(item) for item in array.reshape(-1))}])"


def spell_number(item: Any) -> str:
    """One element so that reading it back gives the same bits (NaN payloads aside)."""
    if isinstance(item, np.bool_ | bool):
        return "1" if item else "0"
    if isinstance(item, int) or np.asarray(item).dtype.kind in "iu":
        return str(int(item))
    return repr(float(item))
