"""Writes an artefact: under a temporary name first, so that only whole files are ever seen."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import stat
import time
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from leptonc import __version__, artifact_sums
from leptonc.artifact_reader import LIBRARY, MANIFEST, WEIGHTS
from leptonc.behind import Behind
from leptonc.container import ALIGNMENT, COMMENT, Member, layout
from leptonc.ir.diagnostics import LeptonBug, LeptonError, shown, shown_path
from leptonc.ir.types import DTYPE_OF_NAME
from leptonc.manifest import MANIFEST_LIMIT, Manifest, Part, WeightSpec
from leptonc.unnamed import Unnamed

Weight = np.ndarray[Any, np.dtype[Any]] | memoryview | bytes

_CHUNK = 4 << 20
# File systems keep what is written at once, from such a boundary on, in one large page of the same
# size: weights read through them take BERT 0.80 of the time with 1 token, 0.93 with 16, 0.97 with
# 128, against pages as small as the pieces that were written.
_BLOCK = 2 << 20
# As much is on its way to the disk while the rest is packed: at the end BERT waits 10 ms, not 130.
_SYNCED = 64 << 20
_PREFIX, _SUFFIX = ".leptonc-", ".tmp"
_STALE_SECONDS = 60
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_artifact(
    output: str | os.PathLike[str] | Unnamed,
    manifest: Manifest,
    library: Path | bytes,
    weights: Iterable[Weight],
    carried: Sequence[bytes] = (),
) -> int:
    """Write the artefact and return its size; on any failure what was there stays as it was.

    The weights are taken one by one, in the order of the manifest, and each is let go once it is
    written. `carried` are the libraries of other packages that the manifest names. Its version,
    libc and parts are filled in. A file without a name is written to the disk when it is saved.
    """
    code = library if isinstance(library, bytes) else library.read_bytes()
    libc = _newest_libc((code, *carried))
    manifest = replace(manifest, leptonc=__version__, libc=libc)
    need = manifest.offsets(ALIGNMENT)[-1] + len(code) + sum(map(len, carried))

    def fill(file: IO[bytes], *, to_disk: bool = True) -> int:
        return _write(file, manifest, (code, *carried), weights, to_disk=to_disk)

    if not isinstance(output, Unnamed):
        return _replace(output, need, fill)
    try:
        with os.fdopen(os.dup(output.descriptor), "w+b") as file:
            return fill(file, to_disk=False)
    except OSError as error:
        raise _unwritable(output.folder, need, error) from None


def copy_artifact(
    artifact: memoryview, path: str | os.PathLike[str], unnamed: Unnamed | None = None
) -> int:
    """Give a whole artefact another name and return its size.

    Where it is in a file that has none yet, that is done without a copy if it can be.
    """
    return _replace(path, len(artifact), lambda file: file.write(artifact), unnamed)


def _replace(
    path: str | os.PathLike[str], need: int, fill: Callable[[IO[bytes]], int],
    unnamed: Unnamed | None = None,
) -> int:  # fmt: skip
    """Fill a temporary file in the same folder, then rename it to what it should be."""
    target = Path(os.path.realpath(os.fspath(path)))
    try:
        _check_target(target)
        _sweep(target.parent)
        with _temporary(target.parent, unnamed) as (file, name, is_full):
            size = need if is_full else fill(file)
            file.flush()
            os.fsync(file.fileno())
            os.replace(name, target)
        _sync_folder(target.parent)
    except OSError as error:
        raise _unwritable(target, need, error) from None
    return size


def _write(
    file: IO[bytes], manifest: Manifest, codes: Sequence[bytes], weights: Iterable[Weight],
    *, to_disk: bool,
) -> int:  # fmt: skip
    """Write every byte; the headers come last, once the digests they hold are known."""
    code, *carried = codes
    named = list(zip(manifest.carried, carried, strict=True))
    unknown = [
        Member(LIBRARY, len(code), 0),
        Member(WEIGHTS, manifest.offsets(ALIGNMENT)[-1], 0),
        *(Member(name, len(other), 0) for name, other in named),
    ]
    places = layout(unknown, b"").offsets
    in_pieces = any(member.size > artifact_sums.PIECE for member in unknown)
    parts: list[Part] = []
    sources = (iter((code,)), _padded(manifest, weights), *(iter((other,)) for _, other in named))
    for member, start, source in zip(unknown, places, sources, strict=True):
        file.seek(start)
        part = _stream(file, start, member.name, source, in_pieces=in_pieces, to_disk=to_disk)
        parts.append(part)
    text = replace(manifest, parts=tuple(parts), in_pieces=in_pieces).to_json(ALIGNMENT)
    if len(text) > MANIFEST_LIMIT:
        raise LeptonError(
            f"the manifest takes {len(text)} bytes, at most {MANIFEST_LIMIT} can be",
            notes=["the model has too many tensors, or its names are too long"],
            code="E611",
        )
    members = [Member(part.name, part.size, part.crc) for part in parts]
    comment = COMMENT + hashlib.sha256(text).hexdigest().encode("ascii")
    place = layout([*members, Member(MANIFEST, len(text), zlib.crc32(text))], comment)
    for position, piece in (*place.pieces, (place.offsets[-1], text)):
        file.seek(position)
        file.write(piece)
    return place.size


class Blocks:
    """Hands on what belongs from a place in a file on, in blocks but for the first and the last."""

    def __init__(self, give: Callable[[memoryview], object], start: int) -> None:
        self.give, self.position = give, start
        self.held = bytearray()

    def write(self, content: memoryview) -> None:
        """Take the content in, and hand on the blocks that are full."""
        while content:
            room = _BLOCK - (self.position + len(self.held)) % _BLOCK
            part, content = content[:room], content[room:]
            if len(part) == room and not self.held:
                self._give(part)
                continue
            self.held += part
            if len(part) == room:
                self.finish()

    def finish(self) -> None:
        """Hand on what is held back."""
        held, self.held = self.held, bytearray()
        self._give(memoryview(held))

    def _give(self, part: memoryview) -> None:
        self.position += len(part)
        self.give(part)


def _stream(
    file: IO[bytes], start: int, name: str, source: Iterator[memoryview | bytes],
    *, in_pieces: bool, to_disk: bool,
) -> Part:  # fmt: skip
    """Write one member, and add it up, while the next of its content is packed."""
    size = crc = unsynced = 0

    def write(block: memoryview) -> None:
        nonlocal crc, unsynced
        file.write(block)
        unsynced += len(block)
        if to_disk and unsynced >= _SYNCED:
            file.flush()
            os.fdatasync(file.fileno())
            unsynced = 0
        crc = zlib.crc32(block, crc)  # here, for a digest takes twice as long as both

    with (
        artifact_sums.Sums(in_pieces=in_pieces) as sums,
        Behind(write, "leptonc-write") as writer,
    ):
        blocks = Blocks(writer.put, start)
        for content in source:
            view = memoryview(content)
            for at in range(0, len(view), _CHUNK):
                chunk = view[at : at + _CHUNK]
                blocks.write(chunk)
                sums.add(chunk)
            size += len(view)
        blocks.finish()
    return Part(name, size, crc, sums.digest)


def _padded(manifest: Manifest, weights: Iterable[Weight]) -> Iterator[memoryview | bytes]:
    """The bytes of the weights, each followed by zeros up to the next multiple of the alignment."""
    given = iter(weights)
    for spec in manifest.weights:
        weight = next(given, None)
        if weight is None:
            raise LeptonBug(f"weight {shown(spec.name)} was not given to the artefact")
        yield _bytes_of(weight, spec)
        yield bytes(-spec.size % ALIGNMENT)
    if next(given, None) is not None:
        raise LeptonBug(f"more weights were given than the manifest's {len(manifest.weights)}")


def _bytes_of(weight: Weight, spec: WeightSpec) -> memoryview:
    if isinstance(weight, np.ndarray):
        dtype = DTYPE_OF_NAME[spec.dtype].numpy
        if weight.shape != spec.shape or weight.dtype.newbyteorder("=") != dtype:
            raise LeptonBug(
                f"weight {shown(spec.name)} is {weight.dtype}{list(weight.shape)}, "
                f"should be {dtype}{list(spec.shape)}"
            )
        flat = np.ascontiguousarray(weight, dtype).reshape(-1)
        view = flat.view(np.uint8).data if flat.size else memoryview(b"")
    else:
        view = memoryview(weight).cast("B")
    if len(view) != spec.size:
        raise LeptonBug(f"weight {shown(spec.name)} has {len(view)} bytes, should have {spec.size}")
    return view


def _newest_libc(codes: Sequence[bytes]) -> str:
    """The newest version of the C library that any of the libraries asks for, "" for none."""
    found = [pair for code in codes for pair in re.findall(rb"GLIBC_(\d+)\.(\d+)", code)]
    newest = max(((int(major), int(minor)) for major, minor in found), default=None)
    return "" if newest is None else f"{newest[0]}.{newest[1]}"


def _check_target(target: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        mode = target.stat().st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is not a regular file")


@contextlib.contextmanager
def _temporary(folder: Path, unnamed: Unnamed | None) -> Generator[tuple[IO[bytes], Path, bool]]:
    """A locked new file in the folder, gone at the end unless it was renamed.

    It is the one that has no name where that can be, which is told.
    """
    name = folder / f"{_PREFIX}{os.urandom(8).hex()}{_SUFFIX}"
    is_full = unnamed is not None and unnamed.take_name(name)
    how = 0 if is_full else os.O_CREAT | os.O_EXCL
    descriptor = os.open(name, os.O_RDWR | how | os.O_CLOEXEC, 0o666)
    file = os.fdopen(descriptor, "r+b")
    renamed = False
    try:
        with contextlib.suppress(OSError):  # some network file systems have no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield file, name, is_full
        renamed = True
    finally:
        with contextlib.suppress(OSError):  # what could not be written is dropped with the file
            file.close()
        if not renamed:
            with contextlib.suppress(OSError):
                name.unlink()


def _sweep(folder: Path) -> None:
    """Remove what writers that were killed left behind: old files that nobody holds locked."""
    for left in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime < _STALE_SECONDS:
                continue
            descriptor = os.open(left, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink()
            finally:
                os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems cannot sync a folder
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _unwritable(target: Path, need: int, error: OSError) -> LeptonError:
    reason = (error.strerror or str(error)).lower()
    message = f"cannot write {shown_path(target)}: {reason}"
    notes = ["what was there before is unchanged"]
    if error.errno in _NO_SPACE:
        with contextlib.suppress(OSError):
            space = os.statvfs(target.parent)
            free = space.f_bavail * space.f_frsize
            message += f"; it takes {need} bytes and {free} are free"
    return LeptonError(message, notes=notes, code="E611")
