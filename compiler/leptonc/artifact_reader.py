"""Checks an artefact, byte for byte, before anything in it is used."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import stat
import zlib
from typing import NamedTuple

from leptonc.artifact_sums import digest_of
from leptonc.container import (
    ALIGNMENT,
    COMMENT,
    COMMENT_LENGTH,
    END_SIGNATURE,
    LOCAL_SIGNATURE,
    ContainerError,
    Entry,
    Layout,
    Member,
    data_offset,
    layout,
    read_comment,
    read_directory,
)
from leptonc.ir.diagnostics import LeptonError, shown, shown_path
from leptonc.manifest import MANIFEST_LIMIT, Manifest
from leptonc.manifest_reader import parse_manifest

LIBRARY = "library.so"
WEIGHTS = "weights.bin"
MANIFEST = "manifest.json"

_REMEDY = "copy the file again from where it was made, or compile the model again"
_LOOKS = (
    (b"\x7fELF", "an ELF library or program"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"%PDF", "a PDF document"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\x93NUMPY", "a numpy array"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x08", "an ONNX model: compile it with `leptonc compile`"),
    (LOCAL_SIGNATURE, "a zip archive that leptonc did not write"),
    (END_SIGNATURE, "an empty zip archive"),
    (b"graph ", "textual IR of leptonc"),
    (b"{", "JSON text"),
    (b"<", "XML or HTML text"),
    (b"#!", "a script"),
)


class Checked(NamedTuple):
    """What is known of a file after every byte of it was checked."""

    data: mmap.mmap
    manifest: Manifest
    digest: str
    starts: dict[str, int]
    """Where each member's bytes start."""


def is_artifact(path: str | os.PathLike[str]) -> bool:
    """Whether a file is to be read as an artefact: by its name, or else by its first bytes."""
    if os.fspath(path).endswith(".lepton"):
        return True
    try:
        with open(path, "rb") as file:
            return file.read(len(LOCAL_SIGNATURE)) == LOCAL_SIGNATURE
    except OSError:  # told where it is read
        return False


def check(path: str) -> Checked:
    """Map the file and check all of it."""
    checked = _laid_out(path, map_file(path))
    with memoryview(checked.data) as view:
        for part in checked.manifest.parts:
            start = checked.starts[part.name]
            content = view[start : start + part.size]
            if digest_of(content, in_pieces=checked.manifest.in_pieces) != part.sha256:
                raise _corrupted(path, part.name)
    return checked


def check_written(path: str, descriptor: int) -> Checked:
    """Map a file that this process has just written and no other can reach.

    Its digests are those of what was written, so they are not computed again.
    """
    data = _in_large_pages(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
    return _laid_out(path, data)


def _laid_out(path: str, data: mmap.mmap) -> Checked:
    """What is known of a file in which all but the members' bytes was checked."""
    try:
        with memoryview(data) as view:
            return _check_layout_of(path, data, view)
    except ContainerError as error:
        raise LeptonError(
            f"{shown_path(path)} is not laid out as leptonc lays it out: {error}",
            notes=[_REMEDY],
            code="E609",
        ) from None


def map_file(path: str) -> mmap.mmap:
    """The whole file, read-only; an error of the user's where it cannot be."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                raise _unreadable(path, "it is a folder")
            if not stat.S_ISREG(status.st_mode):
                raise _unreadable(path, "it is not a regular file")
            if status.st_size == 0:
                raise LeptonError(f"{shown_path(path)} is empty", notes=[_REMEDY], code="E602")
            return _in_large_pages(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from None
    except ValueError as error:
        raise _unreadable(path, str(error)) from None


def _in_large_pages(data: mmap.mmap) -> mmap.mmap:
    """Ask for large pages where the file is still to be read: weights are read through fewer."""
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # systems that know none refuse
            data.madvise(mmap.MADV_HUGEPAGE)
    return data


def _unreadable(path: str, reason: str) -> LeptonError:
    return LeptonError(f"cannot read {shown_path(path)}: {reason.lower()}", code="E601")


def _check_layout_of(path: str, data: mmap.mmap, view: memoryview) -> Checked:
    comment = _comment(path, data, view)
    entries = read_directory(view)
    text = _manifest_text(view, entries)
    digest = hashlib.sha256(text).hexdigest()
    if comment != COMMENT + digest.encode("ascii"):
        raise _corrupted(path, MANIFEST)
    manifest = parse_manifest(text)
    if manifest.to_json(ALIGNMENT) != text:
        raise ContainerError("its manifest is not in the form leptonc writes")
    _check_members(manifest, entries)
    members = [Member(part.name, part.size, part.crc) for part in manifest.parts]
    place = layout([*members, Member(MANIFEST, len(text), zlib.crc32(text))], comment)
    _check_layout(view, place)
    starts = {entry.name: start for entry, start in zip(entries, place.offsets, strict=True)}
    return Checked(data, manifest, digest, starts)


def _comment(path: str, data: mmap.mmap, view: memoryview) -> bytes:
    ours = data[:4] == LOCAL_SIGNATURE and data[30 : 30 + len(LIBRARY)] == LIBRARY.encode()
    try:
        comment = read_comment(view)
    except ContainerError:
        comment = b""
    if comment and data[:4] == LOCAL_SIGNATURE:
        return comment
    end = data.rfind(COMMENT)
    after = len(data) - end - COMMENT_LENGTH
    if comment:
        trouble = "has bytes in front of its start"
    elif not ours:
        raise LeptonError(
            f"{shown_path(path)} is no artefact of leptonc: it looks like {_looks_like(data)}",
            code="E603",
        )
    elif end >= 0 and after > 0:
        trouble = f"has {after} bytes after its end"
    else:
        trouble = f"is truncated or damaged at its end, at byte {len(data)}"
    raise LeptonError(f"{shown_path(path)} {trouble}", notes=[_REMEDY], code="E604")


def _looks_like(data: mmap.mmap) -> str:
    head = data[:4096]
    for start, what in _LOOKS:
        if head.startswith(start):
            return what
    return "text" if head.isascii() and b"\0" not in head else "unknown binary data"


def _manifest_text(view: memoryview, entries: list[Entry]) -> bytes:
    found = [entry for entry in entries if entry.name == MANIFEST]
    if len(found) != 1:
        raise ContainerError(f"it holds {len(found)} manifests")
    if found[0].method or found[0].packed_size != found[0].size:
        raise ContainerError("its manifest is compressed")
    if found[0].size > MANIFEST_LIMIT:
        raise ContainerError(
            f"its manifest has {found[0].size} bytes, at most {MANIFEST_LIMIT} can be"
        )
    start = data_offset(view, found[0])
    return bytes(view[start : start + found[0].size])


def _check_members(manifest: Manifest, entries: list[Entry]) -> None:
    """Say what is odd about the directory, where a comparison of bytes would only say that."""
    expected = [*(part.name for part in manifest.parts), MANIFEST]
    if expected != [LIBRARY, WEIGHTS, *manifest.carried, MANIFEST]:
        raise ContainerError(f"its manifest lists {len(expected)} other members")
    size = manifest.offsets(ALIGNMENT)[-1]
    if manifest.parts[1].size != size:
        raise ContainerError(
            f"its weights have {manifest.parts[1].size} bytes, the manifest's tensors {size}"
        )
    names = [entry.name for entry in entries]
    for entry in entries:
        name = shown(entry.name)
        if names.count(entry.name) > 1:
            raise ContainerError(f"member {name} is there twice")
        if entry.name not in expected:
            raise ContainerError(f"it holds a member {name} that does not belong there")
        if entry.method:
            raise ContainerError(f"member {name} is compressed")
        if stat.S_ISLNK(entry.mode):
            raise ContainerError(f"member {name} is a symbolic link")
    if names != expected:
        missing = [name for name in expected if name not in names]
        raise ContainerError(
            f"it lacks {missing[0]}" if missing else "its members are out of order"
        )


def _check_layout(view: memoryview, place: Layout) -> None:
    if place.size != len(view):
        raise ContainerError(f"it has {len(view)} bytes, should have {place.size}")
    for position, piece in place.pieces:
        found = bytes(view[position : position + len(piece)])
        if found != piece:
            pairs = enumerate(zip(found, piece, strict=True))
            at = next(index for index, (is_, should) in pairs if is_ != should)
            raise ContainerError(
                f"byte {position + at} is {found[at]:#04x}, should be {piece[at]:#04x}"
            )


def _corrupted(path: str, member: str) -> LeptonError:
    return LeptonError(
        f"{shown_path(path)} is corrupted: the digest of {member} does not match",
        notes=[_REMEDY],
        code="E605",
    )
