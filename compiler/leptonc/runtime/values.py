# pyright: standard
"""Numpy arrays as tensors of the native runtime and back, for every element type it takes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from leptonc.container import ALIGNMENT
from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.types import DTYPE_OF_NAME
from leptonc.runtime.native import native

Array = np.ndarray[Any, np.dtype[Any]]

_DIRECT = frozenset(
    "bool i8 i16 i32 i64 u8 u16 u32 u64 f16 f32 f64".split()  # noqa: SIM905
)
_NARROW = {
    "bf16": "bfloat16",
    "f8e4m3fn": "float8_e4m3fn",
    "f8e4m3fnuz": "float8_e4m3fnuz",
    "f8e5m2": "float8_e5m2",
    "f8e5m2fnuz": "float8_e5m2fnuz",
    "f8e8m0": "float8_e8m0fnu",
}
"""Types that numpy cannot pass by DLPack: their bytes pass as integers and are renamed."""
_OF_NARROW = {there: name for name, there in _NARROW.items()}
_CPU = 1
_VERSION = (1, 0)  # from this version of DLPack on, arrays that are read-only can be passed


class ElementType:
    """How elements of one type pass between numpy and the native runtime."""

    __slots__ = ("_bits", "_bits_there", "_there", "direct", "dtype", "name", "there")

    def __init__(self, name: str) -> None:
        if name not in _DIRECT and name not in _NARROW:
            raise LeptonError(
                f"tensors of element type {shown(name)} cannot be passed to a compiled program",
                notes=[f"types that can be: {', '.join(sorted({*_DIRECT, *_NARROW}))}"],
                code="E610",
            )
        self.name = name
        self.dtype = DTYPE_OF_NAME[name].numpy
        self.direct = name in _DIRECT
        self.there = str(self.dtype) if self.direct else _NARROW[name]
        """What the native runtime calls the type."""
        self._bits = np.dtype(f"u{self.dtype.itemsize}")
        if not self.direct:
            self._there = native().dtype(self.there)
            self._bits_there = native().dtype(str(self._bits))

    def tensor_of(self, array: Array) -> Any:
        """A tensor that shares the memory of an array in C order; it may be read-only."""
        runtime = native()
        if not array.size:
            return self._empty(array.shape)
        if self.direct:
            return runtime.from_dlpack(array.__dlpack__(max_version=_VERSION))
        bits = array.view(self._bits)
        tensor = runtime.from_dlpack(bits.__dlpack__(max_version=_VERSION))
        return runtime.view(tensor, runtime.shape(array.shape), self._there, 0)

    def _empty(self, shape: tuple[int, ...]) -> Any:
        """A tensor without elements: numpy's strides of one are not what kernels insist on."""
        runtime = native()
        memory = runtime.from_dlpack(aligned((1,), np.dtype(np.uint64)))
        return runtime.view(memory, runtime.shape(shape), runtime.dtype(self.there), 0)

    def array_of(self, tensor: Any) -> Array:
        """An array that shares the memory of a tensor and keeps it alive."""
        if self.direct:
            return np.from_dlpack(tensor)
        runtime = native()
        bits = runtime.view(tensor, runtime.shape(tensor.shape), self._bits_there, 0)
        return np.from_dlpack(bits).view(self.dtype)

    def copy_of(self, tensor: Any) -> Any:
        """A tensor with memory of its own."""
        array = self.array_of(tensor)
        memory = aligned(array.shape, self.dtype)
        memory[...] = array
        return self.tensor_of(memory)


def aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An uninitialised array whose data start at a multiple of the alignment."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def array_from_dlpack(value: Any) -> Array:
    """An array that shares the memory of anything with DLPack's methods, of any type we pass."""
    tensor = native().from_dlpack(value)
    if tensor.device.dlpack_device_type() != _CPU:
        raise ValueError(f"it lies on {tensor.device}, should lie in main memory")
    there = str(tensor.dtype)
    names = {**{str(DTYPE_OF_NAME[name].numpy): name for name in _DIRECT}, **_OF_NARROW}
    if there not in names:
        raise ValueError(f"its elements are {there}")
    return ElementType(names[there]).array_of(tensor)
