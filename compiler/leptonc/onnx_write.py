"""Constants as ONNX tensors, inside a model or in a file beside it, and models saved atomically."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
from onnx import TensorProto

from leptonc.ir.blob import Array, Blob, forget_pages, write_pieces
from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.types import DType
from leptonc.onnx_tensor import ONNX_OF_DTYPE, PACKED

INLINE_LIMIT = 2**31 - 2**24
"""Bytes of constants that a model file itself can hold: protobuf ends at 2 GiB."""

ALIGNMENT = 4096
"""Where tensors start in an external file, so that they can be mapped."""

EXTERNAL_FROM = 1024
"""Tensors from this many bytes on go to the external file, where there is one."""


def tensor_of(blob: Blob, name: str) -> TensorProto:
    """A constant as a message without its data."""
    return TensorProto(name=name, data_type=ONNX_OF_DTYPE[blob.type.dtype], dims=blob.type.extents)


def fill(tensor: TensorProto, blob: Blob) -> None:
    """Put the data of a constant into its message."""
    if blob.type.dtype is DType.STR:
        tensor.string_data.extend(str(item).encode() for item in blob.array.reshape(-1))
    else:
        tensor.raw_data = raw_bytes(blob.array, blob.type.dtype).tobytes()


def raw_bytes(array: Array, dtype: DType) -> Array:
    """The bytes ONNX keeps for the elements, little-endian; narrow ones share a byte."""
    bits = PACKED.get(dtype)
    flat = np.ascontiguousarray(array).reshape(-1)
    if bits is None:
        little = (
            flat.astype(flat.dtype.newbyteorder("<"), copy=False) if flat.itemsize > 1 else flat
        )
        return little.view(np.uint8)
    codes = flat.view(np.uint8) if dtype is DType.F4E2M1 else flat.astype(np.int8).view(np.uint8)
    codes = codes & (2**bits - 1)
    each = 8 // bits
    codes = np.pad(codes, (0, -len(codes) % each)).reshape(-1, each)
    return np.bitwise_or.reduce(codes << (np.arange(each, dtype=np.uint8) * bits), axis=1)


def byte_size(blob: Blob) -> int:
    """How many bytes the data of a constant takes in a model."""
    bits = PACKED.get(blob.type.dtype, blob.type.dtype.bits)
    return (blob.size * bits + 7) // 8


@dataclass(frozen=True)
class Layout:
    """Where the data of constants goes."""

    inline_limit: int = INLINE_LIMIT
    """The most bytes of all constants together that a model file itself holds."""
    external_from: int = EXTERNAL_FROM
    """Where there is a file beside it, constants from this many bytes on go there."""


ALWAYS, NEVER = 0, 1 << 62
"""Limits that put everything beside the model, or nothing."""


def write_model(
    model: onnx.ModelProto, weights: Sequence[tuple[TensorProto, Blob]], path: Path, layout: Layout
) -> None:
    """Write a model whose `weights` have no data yet; data beyond the limit goes beside it.

    The model appears under its name whole or not at all. The file with external data has a name
    made of its content, so that a model that is already there keeps the data it refers to.
    """
    size = sum(byte_size(blob) for _, blob in weights)
    if size <= layout.inline_limit:
        _check_size(size)
        fill_all(weights)
    else:
        _write_external(weights, path, layout.external_from)
    write_atomically(path, lambda file: file.write(model.SerializeToString()))


def fill_all(weights: Sequence[tuple[TensorProto, Blob]]) -> None:
    """Put all data into the messages; raises E022 where one message cannot hold it."""
    _check_size(sum(byte_size(blob) for _, blob in weights))
    for tensor, blob in weights:
        fill(tensor, blob)


def _check_size(size: int) -> None:
    if size > INLINE_LIMIT:
        raise LeptonError(
            f"the model has {size} bytes of constants, one message holds {INLINE_LIMIT}",
            notes=["save it to a file, which puts them beside it"],
            code="E022",
        )


def _write_external(weights: Sequence[tuple[TensorProto, Blob]], path: Path, smallest: int) -> None:
    large = [
        (tensor, blob)
        for tensor, blob in weights
        if byte_size(blob) >= smallest and blob.type.dtype is not DType.STR
    ]
    digest = hashlib.sha256()
    for _, blob in large:
        digest.update(blob.digest.encode())
    name = f"{path.name[:200]}.{digest.hexdigest()[:16]}.data"
    places: dict[Blob, int] = {}

    def write(file: BinaryIO) -> None:
        for tensor, blob in large:
            offset = places.get(blob)
            if offset is None:
                file.write(b"\0" * (-file.tell() % ALIGNMENT))
                offset = places[blob] = file.tell()
                write_bytes(file, blob)
            entries = {"location": name, "offset": offset, "length": byte_size(blob)}
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in entries.items():
                tensor.external_data.add(key=key, value=str(value))

    if large:
        write_atomically(path.with_name(name), write)
    written = {id(tensor) for tensor, _ in large}
    for tensor, blob in weights:
        if id(tensor) not in written:
            fill(tensor, blob)


def write_bytes(file: BinaryIO, blob: Blob) -> None:
    """Write the bytes ONNX keeps for a constant, in pieces: what is mapped leaves memory again."""
    write_pieces(file, raw_bytes(blob.array, blob.type.dtype))
    forget_pages(blob.array)


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write to a temporary file in the same folder and move it to its name; raises E022."""
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=".leptonc-", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise LeptonError(f"cannot write {shown(path)}: {reason}", code="E022") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
