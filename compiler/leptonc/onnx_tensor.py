"""Tensors and types of ONNX as those of the IR: sizes checked first, data read when asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from leptonc.ir.blob import Array, Blob
from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.types import DType, TensorType
from leptonc.onnx_file import OnnxFile

DTYPE_OF_ONNX: Mapping[int, DType] = MappingProxyType({
    TensorProto.FLOAT: DType.F32, TensorProto.FLOAT16: DType.F16, TensorProto.BFLOAT16: DType.BF16,
    TensorProto.DOUBLE: DType.F64, TensorProto.INT8: DType.I8, TensorProto.INT16: DType.I16,
    TensorProto.INT32: DType.I32, TensorProto.INT64: DType.I64, TensorProto.UINT8: DType.U8,
    TensorProto.UINT16: DType.U16, TensorProto.UINT32: DType.U32, TensorProto.UINT64: DType.U64,
    TensorProto.BOOL: DType.BOOL, TensorProto.COMPLEX64: DType.C64,
    TensorProto.COMPLEX128: DType.C128, TensorProto.STRING: DType.STR,
    TensorProto.FLOAT8E4M3FN: DType.F8E4M3FN, TensorProto.FLOAT8E4M3FNUZ: DType.F8E4M3FNUZ,
    TensorProto.FLOAT8E5M2: DType.F8E5M2, TensorProto.FLOAT8E5M2FNUZ: DType.F8E5M2FNUZ,
    TensorProto.FLOAT8E8M0: DType.F8E8M0, TensorProto.FLOAT4E2M1: DType.F4E2M1,
    TensorProto.INT4: DType.I4, TensorProto.UINT4: DType.U4,
    TensorProto.INT2: DType.I2, TensorProto.UINT2: DType.U2,
})  # fmt: skip
"""The element type of each number that ONNX uses for one."""

ONNX_OF_DTYPE = MappingProxyType({dtype: number for number, dtype in DTYPE_OF_ONNX.items()})

PACKED = MappingProxyType({
    DType.I4: 4, DType.U4: 4, DType.F4E2M1: 4, DType.I2: 2, DType.U2: 2,
})  # fmt: skip
"""Bits of the element types of which several share a byte."""

_FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")
_FIELD_OF = MappingProxyType({
    DType.F32: "float_data", DType.C64: "float_data", DType.F64: "double_data",
    DType.C128: "double_data", DType.I64: "int64_data", DType.U32: "uint64_data",
    DType.U64: "uint64_data", DType.STR: "string_data",
})  # fmt: skip
"""Where elements that are not raw stand; in `int32_data` for every other type."""

_EXTERNAL_KEYS = frozenset({"location", "offset", "length", "checksum", "basepath"})
_LARGEST = 2**63 - 1

LARGEST_DENSE = 2**31
"""Bytes that a sparse tensor may have once its zeros are filled in."""


def dtype_of(number: int, what: str) -> DType:
    """The element type with ONNX's `number`; raises E016 for one that we do not have."""
    dtype = DTYPE_OF_ONNX.get(number)
    if dtype is None:
        names = {value: name for name, value in TensorProto.DataType.items()}
        name = f" ({names[number]})" if number in names else ""
        raise LeptonError(f"{what} has the unknown element type {number}{name}", code="E016")
    return dtype


def blob_of(tensor: TensorProto, file: OnnxFile, what: str = "") -> Blob:
    """A constant; its size is checked now, its data read when asked for. Raises E016 or E017."""
    what = what or f"tensor {shown(tensor.name)}"
    dtype = dtype_of(tensor.data_type, what)
    shape = tuple(tensor.dims)
    for extent in shape:
        if extent < 0:
            raise LeptonError(f"{what} has the negative extent {extent}", code="E016")
    count = math.prod(shape)
    if count > _LARGEST:
        raise LeptonError(f"{what} has {count} elements, more than any machine", code="E016")
    type = TensorType(dtype, shape)
    filled = [name for name in _FIELDS if len(getattr(tensor, name))]
    if tensor.HasField("raw_data"):
        filled.append("raw_data")
    external = tensor.data_location == TensorProto.EXTERNAL
    if len(filled) + external > 1 and not (len(filled) == 2 and not tensor.raw_data):
        both = [*filled, "external data"] if external else filled
        raise LeptonError(f"{what} has its data twice, as {' and '.join(both)}", code="E016")
    if external:
        return _external_blob(tensor, type, file, what)
    if tensor.HasField("raw_data") and (tensor.raw_data or len(filled) == 1):
        return _raw_blob(tensor, type, file, what)
    return _field_blob(tensor, type, what)


def _bytes_needed(type: TensorType) -> int:
    count = math.prod(type.extents)
    bits = PACKED.get(type.dtype)
    return count * type.dtype.numpy.itemsize if bits is None else (count * bits + 7) // 8


def _check_size(type: TensorType, have: int, what: str) -> None:
    need = _bytes_needed(type)
    if have != need:
        raise LeptonError(f"{what} has {have} bytes of data, {type} needs {need}", code="E016")


def _raw_blob(tensor: TensorProto, type: TensorType, file: OnnxFile, what: str) -> Blob:
    if type.dtype is DType.STR:
        raise LeptonError(f"{what} has text as raw data, which has no meaning", code="E016")
    raw = tensor.raw_data
    view = file.data.get(raw)
    _check_size(type, len(raw) if view is None else len(view), what)
    if view is not None:
        return Blob(type, lambda: _unpack(np.frombuffer(view, np.uint8), type))
    if len(raw) <= 64:
        array = _unpack(np.frombuffer(raw, np.uint8), type)
        return Blob(type, lambda: array)
    return Blob(type, lambda: _unpack(np.frombuffer(tensor.raw_data, np.uint8), type))


def _external_blob(tensor: TensorProto, type: TensorType, file: OnnxFile, what: str) -> Blob:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if type.dtype is DType.STR:
        raise LeptonError(f"{what} has text as external data, which has no meaning", code="E017")
    offset = _number(entries.get("offset", "0"), "offset", what)
    need = _bytes_needed(type)
    length = _number(entries.get("length", str(need)), "length", what)
    if length != need:
        raise LeptonError(
            f"{what} has {length} bytes of external data, {type} needs {need}", code="E016"
        )
    data = file.folder.bytes_of(entries.get("location", ""), offset, length, what)
    return Blob(type, lambda: _unpack(data, type))


def unknown_external_keys(tensor: TensorProto) -> list[str]:
    """The entries of a tensor's external data that have no meaning here."""
    return [entry.key for entry in tensor.external_data if entry.key not in _EXTERNAL_KEYS]


def _number(text: str, key: str, what: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text[:24]) >= 2**63:
        raise LeptonError(
            f"{what} has the {key} {shown(text)} of external data, should be a number of bytes",
            code="E017",
        )
    return int(text)


def _unpack(data: np.ndarray[Any, np.dtype[np.uint8]], type: TensorType) -> Array:
    """`data` as an array of `type`; a view unless several elements share a byte."""
    bits = PACKED.get(type.dtype)
    if bits is None:
        target = type.dtype.numpy
        if target == np.bool_:
            data = data if not data.size or data.max() <= 1 else (data != 0).view(np.uint8)
        array = np.frombuffer(data, target.newbyteorder("<") if target.itemsize > 1 else target)
        return array.astype(target, copy=False).reshape(type.extents)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    codes = ((data[:, None] >> shifts) & (2**bits - 1)).reshape(-1)[: math.prod(type.extents)]
    if type.dtype is DType.F4E2M1:
        return codes.view(type.dtype.numpy).reshape(type.extents)
    if type.dtype.is_signed:
        codes = (codes.astype(np.int8) ^ 2 ** (bits - 1)) - 2 ** (bits - 1)
    return codes.astype(type.dtype.numpy).reshape(type.extents)


def _field_blob(tensor: TensorProto, type: TensorType, what: str) -> Blob:
    expected = _FIELD_OF.get(type.dtype, "int32_data")
    have, need = len(getattr(tensor, expected)), math.prod(type.extents)
    if type.dtype in (DType.C64, DType.C128):
        need *= 2
    elif type.dtype in PACKED:
        need = _bytes_needed(type)
    if have != need:
        raise LeptonError(
            f"{what} has {have} elements in {expected}, {type} needs {need}", code="E016"
        )
    return Blob(type, lambda: _read_field(tensor, type, what))


def _read_field(tensor: TensorProto, type: TensorType, what: str) -> Array:
    if type.dtype is DType.STR:
        return text_array(tensor.string_data, what).reshape(type.extents)
    return numpy_helper.to_array(tensor).astype(type.dtype.numpy, copy=False)


def text_array(items: Any, what: str) -> Array:
    """Text from UTF-8, as an array of objects; raises E016 where it is none."""
    array = np.empty(len(items), object)
    for index, item in enumerate(items):
        try:
            array[index] = item.decode("utf-8")
        except UnicodeDecodeError as error:
            raise LeptonError(f"{what}: element {index} is not UTF-8 text", code="E016") from error
    return array


def dense_blob(sparse: onnx.SparseTensorProto, file: OnnxFile) -> Blob:
    """A sparse tensor with its zeros filled in when asked for; raises E016 for a wrong index."""
    what = f"sparse tensor {shown(sparse.values.name)}"
    values, shape = blob_of(sparse.values, file, what), tuple(sparse.dims)
    indices = blob_of(sparse.indices, file, what).array
    if any(extent < 0 for extent in shape) or math.prod(shape) > _LARGEST:
        raise LeptonError(f"{what} has the shape {list(shape)}", code="E016")
    count = values.size
    if math.prod(shape) * values.type.dtype.numpy.itemsize > LARGEST_DENSE:
        raise LeptonError(
            f"{what} of shape {list(shape)} has more than {LARGEST_DENSE} bytes once its zeros are "
            "filled in",
            code="E018",
        )
    if indices.dtype != np.int64 or indices.shape not in ((count,), (count, len(shape))):
        raise LeptonError(
            f"{what} has {count} values and indices of shape {list(indices.shape)}", code="E016"
        )
    limits = np.array(shape if indices.ndim == 2 else [math.prod(shape)], np.int64)
    if ((indices < 0) | (indices >= limits)).any():
        raise LeptonError(f"{what} has an index outside of its shape {list(shape)}", code="E016")

    def load() -> Array:
        dense = np.zeros(shape, values.array.dtype)
        flat = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), shape)
        dense.reshape(-1)[flat] = values.array.reshape(-1)
        return dense

    return Blob(TensorType(values.type.dtype, shape), load)
