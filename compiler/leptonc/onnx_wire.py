"""Protobuf's wire format, as far as a model must be taken apart without reading it into memory.

Large `raw_data` is cut out before the message is parsed, so that weights stay where they are: in
the mapped file. A token that no file can guess stands for each, and leads to the view of the
data. The same walk tells where a broken file stops making sense.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import TypeAlias

from leptonc.ir.diagnostics import LeptonError

CUT_FROM = 4096
"""Messages and data from this many bytes on are looked into and cut out."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_NUMBERS = MappingProxyType({
    _VARINT: rb"[\x80-\xff]{0,9}[\x00-\x7f]", _FIXED32: rb".{4}", _FIXED64: rb".{8}",
})  # fmt: skip
"""What a number of each wire type looks like."""

Message: TypeAlias = "dict[int, Message]"
_RAW: Message = {}
_TENSOR: Message = {9: _RAW}
_ATTRIBUTE: Message = {5: _TENSOR, 10: _TENSOR}
_NODE: Message = {5: _ATTRIBUTE}
_GRAPH: Message = {1: _NODE, 5: _TENSOR}
_ATTRIBUTE.update({6: _GRAPH, 11: _GRAPH})
MODEL: Message = {7: _GRAPH, 25: {7: _NODE}}
"""Which fields of a model lead to the raw data of tensors."""

MODEL_FIELDS = {
    1: "ir_version", 2: "producer_name", 3: "producer_version", 4: "domain", 5: "model_version",
    6: "doc_string", 7: "graph", 8: "opset_import", 14: "metadata_props", 20: "training_info",
    25: "functions", 26: "configuration",
}  # fmt: skip


@dataclass
class Cut:
    """A model's message without its large data, and views of what was cut out by token."""

    message: bytes = b""
    data: dict[bytes, memoryview] = field(default_factory=dict[bytes, memoryview])
    _nonce: bytes = field(default_factory=lambda: os.urandom(16))

    def keep(self, view: memoryview) -> bytes:
        """Remember `view` and give the token that stands for it."""
        token = self._nonce + len(self.data).to_bytes(8, "little")
        self.data[token] = view
        return token


def cut_model(view: memoryview) -> Cut:
    """Take the large data out of a serialised model; raises E011 where it is malformed."""
    cut = Cut()
    cut.message = b"".join(_cut(view, MODEL, cut, 0))
    return cut


def _cut(view: memoryview, message: Message, cut: Cut, depth: int) -> Iterator[bytes | memoryview]:
    if depth > 200:
        raise _malformed("its subgraphs are nested too deeply")
    copied = 0
    for number, kind, header, start, end in _fields(view):
        inner = message.get(number)
        if kind != _BYTES or inner is None or end - start < CUT_FROM:
            continue
        yield view[copied:header]
        copied = end
        body = (
            [cut.keep(view[start:end])]
            if inner is _RAW
            else list(_cut(view[start:end], inner, cut, depth + 1))
        )
        yield _varint(number << 3 | _BYTES) + _varint(sum(map(len, body)))
        yield from body
    yield view[copied:]


def check_top_level(view: memoryview) -> None:
    """Raise E011 unless the outermost fields are those of a model and nothing follows them."""
    for number, _, header, _, _ in _fields(view):
        if number not in MODEL_FIELDS:
            raise _malformed(f"byte {header} starts a field {number} that no model has", header)


def _fields(view: memoryview) -> Iterator[tuple[int, int, int, int, int]]:
    """Each field's number, wire type, and where its header, its value and the next field start."""
    at, size = 0, len(view)
    while at < size:
        header = at
        key, at = _read_varint(view, at)
        number, kind = key >> 3, key & 7
        if kind == _BYTES:
            length, start = _read_varint(view, at)
            end = start + length
        elif kind == _VARINT:
            start = at
            _, end = _read_varint(view, at)
        elif kind in (_FIXED64, _FIXED32):
            start, end = at, at + (8 if kind == _FIXED64 else 4)
        else:
            raise _malformed(f"byte {header} starts no field of a protobuf message", header)
        if number == 0:
            raise _malformed(f"byte {header} starts no field of a protobuf message", header)
        if end > size:
            raise _malformed(
                f"it ends at byte {size - start} of a field that needs {end - start}", header
            )
        yield number, kind, header, start, end
        at = end if kind == _BYTES else _past_like(view, view[header:start], kind, end)


def _past_like(view: memoryview, header: memoryview, kind: int, at: int) -> int:
    """Where the fields end that follow with the same header: the elements of one list."""
    if at >= len(view) or view[at] != header[0]:
        return at
    found = _list_of(bytes(header), kind).match(view, at)
    return at if found is None else found.end()


@lru_cache(64)
def _list_of(header: bytes, kind: int) -> re.Pattern[bytes]:
    """Any number of numbers with this header: trees have hundreds of thousands in one node."""
    return re.compile(rb"(?:" + re.escape(header) + _NUMBERS[kind] + rb")*+", re.DOTALL)


def _read_varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(view):
            raise _malformed("it ends inside a number")
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise _malformed(f"byte {at} continues a number of more than 64 bits")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class MalformedError(LeptonError):
    """The bytes are no protobuf message; `sound` of them were."""

    def __init__(self, message: str, sound: int = 0) -> None:
        super().__init__(f"the file is no ONNX model: {message}", code="E011")
        self.sound = sound


def _malformed(message: str, sound: int = 0) -> MalformedError:
    return MalformedError(message, sound)
