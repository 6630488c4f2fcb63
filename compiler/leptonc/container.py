"""The zip container of an artefact, down to every byte.

An artefact is a zip file of stored members, so that any tool can look inside. There is one layout
for given members and `layout` computes it: a reader compares each byte that belongs to no member
with what the layout says, so no padding, header or directory can hide a change.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

ALIGNMENT = 64
COMMENT = b"leptonc sha256:"
"""What the archive comment starts with; the digest of the manifest follows in hexadecimal."""
COMMENT_LENGTH = len(COMMENT) + 64

LOCAL_SIGNATURE = b"PK\x03\x04"
DIRECTORY_SIGNATURE = b"PK\x01\x02"
END_SIGNATURE = b"PK\x05\x06"
END64_SIGNATURE = b"PK\x06\x06"
LOCATOR_SIGNATURE = b"PK\x06\x07"
END_LENGTH = 22 + COMMENT_LENGTH

_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_DIRECTORY = struct.Struct("<4sHHHHHHIIIHHHHHII")
_END = struct.Struct("<4sHHHHIIH")
_END64 = struct.Struct("<4sQHHIIQQQQ")
_LOCATOR = struct.Struct("<4sIQI")
_LIMIT32 = 0xFFFFFFFF
_DATE = 0x21  # the first of January 1980, the earliest day zip knows: times would differ every time
_MADE_BY = 0x031E  # Unix, so that the attributes below are a file mode
_MODE = 0o100644 << 16
_PADDING_FIELD = 0xD935  # the extra field zipalign made up for alignment
_ZIP64_FIELD = 1


class Member(NamedTuple):
    """One file in the container."""

    name: str
    size: int
    crc: int


class Entry(NamedTuple):
    """One line of a container's directory, as it stands there."""

    name: str
    size: int
    packed_size: int
    crc: int
    method: int
    flags: int
    mode: int
    offset: int
    """Where the header of the member starts."""


class Layout(NamedTuple):
    """Where everything lies."""

    offsets: tuple[int, ...]
    """Where the bytes of each member start."""
    pieces: tuple[tuple[int, bytes], ...]
    """Every byte that belongs to no member, as runs with their places."""
    size: int


class ContainerError(Exception):
    """The bytes are no container; the message says what is wrong with them."""


def layout(members: Sequence[Member], comment: bytes) -> Layout:
    """The one layout of these members, in this order."""
    pieces: list[tuple[int, bytes]] = []
    offsets: list[int] = []
    directory = b""
    position = 0
    for member in members:
        header = _local_header(member, position)
        pieces.append((position, header))
        offsets.append(position + len(header))
        directory += _directory_line(member, position)
        position += len(header) + member.size
    end = _end(len(members), position, len(directory), comment)
    pieces.append((position, directory + end))
    return Layout(tuple(offsets), tuple(pieces), position + len(directory) + len(end))


def _local_header(member: Member, position: int) -> bytes:
    big = member.size >= _LIMIT32
    name = member.name.encode("ascii")
    size = _LIMIT32 if big else member.size
    extra = struct.pack("<HHQQ", _ZIP64_FIELD, 16, member.size, member.size) if big else b""
    used = position + _LOCAL.size + len(name) + len(extra) + 6
    padding = -used % ALIGNMENT
    extra += struct.pack("<HHH", _PADDING_FIELD, 2 + padding, ALIGNMENT) + bytes(padding)
    need = 45 if big else 20
    fields = (need, 0, 0, 0, _DATE, member.crc, size, size, len(name), len(extra))
    return _LOCAL.pack(LOCAL_SIGNATURE, *fields) + name + extra


def _directory_line(member: Member, position: int) -> bytes:
    name = member.name.encode("ascii")
    size, offset, extra = member.size, position, b""
    if size >= _LIMIT32:
        extra += struct.pack("<QQ", size, size)
        size = _LIMIT32
    if offset >= _LIMIT32:
        extra += struct.pack("<Q", offset)
        offset = _LIMIT32
    need = 45 if extra else 20
    if extra:
        extra = struct.pack("<HH", _ZIP64_FIELD, len(extra)) + extra
    sizes = (member.crc, size, size, len(name), len(extra), 0)
    line = (_MADE_BY, need, 0, 0, 0, _DATE, *sizes, 0, 0, _MODE, offset)
    return _DIRECTORY.pack(DIRECTORY_SIGNATURE, *line) + name + extra


def _end(count: int, position: int, length: int, comment: bytes) -> bytes:
    end = b""
    if position >= _LIMIT32:
        fields = (_END64.size - 12, 45, 45, 0, 0, count, count, length, position)
        end += _END64.pack(END64_SIGNATURE, *fields)
        end += _LOCATOR.pack(LOCATOR_SIGNATURE, 0, position + length, 1)
        position = _LIMIT32
    tail = (0, 0, count, count, length, position, len(comment))
    return end + _END.pack(END_SIGNATURE, *tail) + comment


def read_comment(data: memoryview) -> bytes:
    """The comment of a container that ends where it should."""
    end = data[-END_LENGTH:]
    if len(end) < END_LENGTH or bytes(end[:4]) != END_SIGNATURE:
        raise ContainerError("it does not end in a zip directory")
    comment = bytes(end[22:])
    if not comment.startswith(COMMENT):
        raise ContainerError("its comment is not leptonc's")
    return comment


def read_directory(data: memoryview) -> list[Entry]:
    """The members as the directory of the container lists them, unchecked but inside the file."""
    _, _, _, count, _, length, start, _ = _END.unpack(data[-END_LENGTH:][:22])
    if start == _LIMIT32:
        length, start = _read_end64(data)
    if start + length > len(data):
        raise ContainerError("its directory lies outside the file")
    if count > 64:
        raise ContainerError(f"it holds {count} members")
    lines = data[start : start + length]
    entries: list[Entry] = []
    for _ in range(count):
        entry, used = _read_line(lines)
        if entry.offset + _LOCAL.size + entry.packed_size > len(data):
            raise ContainerError(f"member {entry.name!r} lies outside the file")
        entries.append(entry)
        lines = lines[used:]
    return entries


def data_offset(data: memoryview, entry: Entry) -> int:
    """Where the bytes of a member start, by the header in front of them."""
    header = data[entry.offset : entry.offset + _LOCAL.size]
    signature, *_, name_length, extra_length = _LOCAL.unpack(header)
    if signature != LOCAL_SIGNATURE:
        raise ContainerError(f"member {entry.name!r} has no header")
    start = entry.offset + _LOCAL.size + name_length + extra_length
    if start + entry.packed_size > len(data):
        raise ContainerError(f"member {entry.name!r} lies outside the file")
    return start


def _read_end64(data: memoryview) -> tuple[int, int]:
    start = len(data) - END_LENGTH - _LOCATOR.size - _END64.size
    if start < 0 or bytes(data[start : start + 4]) != END64_SIGNATURE:
        raise ContainerError("its directory for large files is missing")
    *_, length, position = _END64.unpack(data[start : start + _END64.size])
    return length, position


def _read_line(lines: memoryview) -> tuple[Entry, int]:
    if len(lines) < _DIRECTORY.size or bytes(lines[:4]) != DIRECTORY_SIGNATURE:
        raise ContainerError("its directory is damaged")
    fields = _DIRECTORY.unpack(lines[: _DIRECTORY.size])
    flags, method, crc, packed, size = fields[3], fields[4], *fields[7:10]
    name_length, extra_length, comment_length = fields[10:13]
    end = _DIRECTORY.size + name_length
    name = bytes(lines[_DIRECTORY.size : end]).decode("utf-8", "backslashreplace")
    wide = bytes(lines[end + 4 : end + extra_length])
    numbers = [size, packed, fields[16]]
    for index, number in enumerate(numbers):
        if number == _LIMIT32:
            if len(wide) < 8:
                raise ContainerError(f"the size of member {name!r} is missing")
            numbers[index], wide = struct.unpack("<Q", wide[:8])[0], wide[8:]
    size, packed, offset = numbers
    entry = Entry(name, size, packed, crc, method, flags, fields[15] >> 16, offset)
    return entry, end + extra_length + comment_length
