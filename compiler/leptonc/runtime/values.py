# pyright: standard
"""Numpy arrays as tensors of the native runtime and back, for every element type it takes."""

from __future__ import annotations

import math
from collections.abc import Callable
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
_NAMES_THERE = {
    "bf16": "bfloat16",
    "f8e4m3fn": "float8_e4m3fn",
    "f8e4m3fnuz": "float8_e4m3fnuz",
    "f8e5m2": "float8_e5m2",
    "f8e5m2fnuz": "float8_e5m2fnuz",
    "f8e8m0": "float8_e8m0fnu",
}
"""What DLPack calls types that numpy cannot pass by it: their bytes pass as integers."""
_BELOW_A_BYTE = frozenset(("f4e2m1", "i4", "u4", "i2", "u2"))
"""Types of which DLPack puts several into a byte, and compiled programs and numpy one."""
_OF_NAME_THERE = {there: name for name, there in _NAMES_THERE.items()}
_PASSED = frozenset((*_DIRECT, *_NAMES_THERE, *_BELOW_A_BYTE))
_CPU = 1
_VERSION = (1, 0)  # from this version of DLPack on, arrays that are read-only can be passed


def held_as(dtype: str) -> str:
    """The element type that programs hold an input or output in: text as places among words."""
    return "i64" if dtype == "str" else dtype


class ElementType:
    """How elements of one type pass between numpy and the native runtime."""

    __slots__ = ("_bits", "_there", "direct", "dtype", "element", "name")

    def __init__(self, name: str) -> None:
        if name not in _PASSED:
            raise LeptonError(
                f"tensors of element type {shown(name)} cannot be passed to a compiled program",
                notes=[f"types that can be: {', '.join(sorted(_PASSED))}"],
                code="E610",
            )
        self.name, self.element = name, DTYPE_OF_NAME[name]
        self.dtype = self.element.numpy
        self.direct = name in _DIRECT
        self._bits = np.dtype(f"u{self.dtype.itemsize}")
        there = self._bits if self.element.is_narrow else self.dtype
        self._there = native().dtype(str(there))
        """What programs hold the elements in: bytes, where no processor computes with them."""

    def tensor_of(self, array: Array) -> Any:
        """A tensor that shares the memory of an array in C order; it may be read-only."""
        runtime = native()
        if not array.size:
            return self._empty(array.shape)
        if self.direct:
            return runtime.from_dlpack(array.__dlpack__(max_version=_VERSION))
        bits = array.view(self._bits)
        tensor = runtime.from_dlpack(bits.__dlpack__(max_version=_VERSION))
        if self.element.is_narrow:
            return tensor
        return runtime.view(tensor, runtime.shape(array.shape), self._there, 0)

    def _empty(self, shape: tuple[int, ...]) -> Any:
        """A tensor without elements: numpy's strides of one are not what kernels insist on."""
        runtime = native()
        memory = runtime.from_dlpack(aligned((1,), np.dtype(np.uint64)))
        return runtime.view(memory, runtime.shape(shape), self._there, 0)

    def array_of(self, tensor: Any) -> Array:
        """An array that shares the memory of a tensor and keeps it alive."""
        if self.direct:
            return np.from_dlpack(tensor)
        return np.from_dlpack(_viewed(tensor, str(self._bits))).view(self.dtype)

    def giver(self) -> Callable[[Any], Array]:
        """What `array_of` comes to."""
        return np.from_dlpack if self.direct else self.array_of

    def named(self, tensor: Any) -> Any:
        """A tensor of a program as DLPack's tensor of the type that its elements have."""
        if not self.element.is_narrow:
            return tensor
        return _viewed(tensor, _NAMES_THERE[self.name])

    def check_dlpack(self, what: str) -> None:
        """Raise E708 where DLPack lays out elements of this type otherwise than programs do."""
        if self.name in _BELOW_A_BYTE:
            raise LeptonError(
                f"{what} is {self.name}, of which DLPack puts several into a byte and compiled "
                "programs one",
                notes=["pass numpy arrays to run, which gives arrays of ml_dtypes"],
                code="E708",
            )

    def copy_of(self, tensor: Any) -> Any:
        """A tensor with memory of its own."""
        array = self.array_of(tensor)
        memory = aligned(array.shape, self.dtype)
        memory[...] = array
        return self.tensor_of(memory)


def _viewed(tensor: Any, dtype: str) -> Any:
    """The same memory as elements of another type of that size."""
    if str(tensor.dtype) == dtype:
        return tensor
    runtime = native()
    return runtime.view(tensor, runtime.shape(tensor.shape), runtime.dtype(dtype), 0)


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
    names = {**{str(DTYPE_OF_NAME[name].numpy): name for name in _DIRECT}, **_OF_NAME_THERE}
    if there not in names:
        raise ValueError(f"its elements are {there}")
    return ElementType(names[there]).array_of(tensor)
