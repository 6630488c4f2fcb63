"""Element types and tensor types."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

import numpy as np

from leptonc.ir.dims import Dim

_WIDTH = {"f4e2m1": 4, "i4": 4, "u4": 4, "i2": 2, "u2": 2}
"""Bits of the types below a byte."""


class DType(enum.Enum):
    """An element type; its value is its spelling in textual IR."""

    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"
    F64 = "f64"
    I8 = "i8"
    I16 = "i16"
    I32 = "i32"
    I64 = "i64"
    U8 = "u8"
    U16 = "u16"
    U32 = "u32"
    U64 = "u64"
    BOOL = "bool"
    C64 = "c64"
    C128 = "c128"
    F8E4M3FN = "f8e4m3fn"
    F8E4M3FNUZ = "f8e4m3fnuz"
    F8E5M2 = "f8e5m2"
    F8E5M2FNUZ = "f8e5m2fnuz"
    F8E8M0 = "f8e8m0"
    F4E2M1 = "f4e2m1"
    I4 = "i4"
    U4 = "u4"
    I2 = "i2"
    U2 = "u2"
    STR = "str"

    def __init__(self, spelling: str) -> None:
        self.is_float = spelling[0] == "f" or spelling == "bf16"
        """True for every floating-point type, narrow ones included."""
        self.is_integer = spelling[0] in "iu"
        """True for signed and unsigned integers; false for bool."""
        self.is_signed = self.is_float or spelling[0] == "i"
        """True for floats and signed integers."""
        self.is_narrow = spelling in _WIDTH or spelling[:2] == "f8"
        """True for types that no processor computes with: floats of a byte, all below a byte."""

    __hash__ = object.__hash__  # members are single objects; that of an enumeration is slow

    def __str__(self) -> str:
        return self.value

    @property
    def numpy(self) -> np.dtype[Any]:
        """The numpy type that holds one element (narrow ones come from ml_dtypes)."""
        return np.dtype(_numpy_type(self))

    @property
    def bits(self) -> int:
        """The width of one element in numpy memory, in bits; strings count as a pointer."""
        return self.numpy.itemsize * 8

    @property
    def width(self) -> int:
        """The bits that tell one element from another: fewer than `bits` below a byte."""
        return _WIDTH.get(self.value, self.bits)

    @staticmethod
    def of(dtype: np.dtype[Any] | type[Any]) -> DType:
        """The element type that numpy calls `dtype`; raises KeyError for one we do not have."""
        dtype = np.dtype(dtype)
        known = _OF_NUMPY.get(dtype)
        if known is not None:
            return known
        if dtype.kind in "UOS":
            return DType.STR
        return _OF_NUMPY_NAME[dtype.name]


_NUMPY_NAME = {
    DType.F32: "float32", DType.F16: "float16", DType.F64: "float64",
    DType.I8: "int8", DType.I16: "int16", DType.I32: "int32", DType.I64: "int64",
    DType.U8: "uint8", DType.U16: "uint16", DType.U32: "uint32", DType.U64: "uint64",
    DType.BOOL: "bool", DType.C64: "complex64", DType.C128: "complex128",
    DType.BF16: "bfloat16", DType.F8E4M3FN: "float8_e4m3fn", DType.F8E4M3FNUZ: "float8_e4m3fnuz",
    DType.F8E5M2: "float8_e5m2", DType.F8E5M2FNUZ: "float8_e5m2fnuz",
    DType.F8E8M0: "float8_e8m0fnu",
    DType.F4E2M1: "float4_e2m1fn", DType.I4: "int4", DType.U4: "uint4", DType.I2: "int2",
    DType.U2: "uint2",
}  # fmt: skip
_OF_NUMPY_NAME = {name: dtype for dtype, name in _NUMPY_NAME.items()}
_OF_NUMPY = {np.dtype(name): dtype for name, dtype in _OF_NUMPY_NAME.items() if hasattr(np, name)}
"""The types whose names need not be asked for, which takes numpy long."""
_ML_DTYPES = {
    *(name for dtype, name in _NUMPY_NAME.items() if dtype.value[:2] in ("bf", "f8", "f4")),
    "int4", "uint4", "int2", "uint2",
}  # fmt: skip


def _numpy_type(dtype: DType) -> Any:
    if dtype is DType.STR:
        return object
    name = _NUMPY_NAME[dtype]
    if name in _ML_DTYPES:
        import ml_dtypes  # only models with narrow types pay for this import

        return getattr(ml_dtypes, name)
    return name


DTYPE_OF_NAME = {dtype.value: dtype for dtype in DType}


@dataclass(frozen=True, slots=True)
class TensorType:
    """A ranked tensor: element type and extents, each an integer or a symbolic expression."""

    dtype: DType
    shape: tuple[Dim, ...]

    @property
    def rank(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def is_static(self) -> bool:
        """True where every extent is a known integer."""
        return all([isinstance(dim, int) for dim in self.shape])

    @property
    def extents(self) -> tuple[int, ...]:
        """The extents of a static type; an error of ours for any other."""
        known = tuple([dim for dim in self.shape if isinstance(dim, int)])
        if len(known) != len(self.shape):
            raise ValueError(f"{self} has no static extents")
        return known

    def with_shape(self, *shape: Dim) -> TensorType:
        """The same element type with other extents."""
        return TensorType(self.dtype, shape)

    def with_dtype(self, dtype: DType) -> TensorType:
        """The same extents with another element type."""
        return TensorType(dtype, self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"
