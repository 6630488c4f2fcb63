"""External data: files beside a model, mapped without being read, and never outside its folder.

A path must be relative, and what it resolves to must lie under the folder of the model as it was
named, or under the folder of the file that name resolves to. The second covers stores that keep
content behind links (`snapshots/` leading to `blobs/`) and nothing more.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from leptonc.ir.diagnostics import LeptonError, shown

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass
class Folder:
    """Where external data may lie, and the files that are mapped already."""

    model: Path | None
    """The model file, or for a model at hand a file name in the folder its data lies in."""
    untrusted: bool = False
    """True where files may change under us: data is read, not mapped; hard links are refused."""
    _mapped: dict[str, Bytes] = field(default_factory=dict[str, Bytes])

    def bytes_of(self, location: str, offset: int, length: int | None, what: str) -> Bytes:
        """The `length` bytes from `offset` on (all to the end for None) of the file `location`."""
        data = self._mapped.get(location)
        if data is None:
            data = self._mapped[location] = self._open(location, what)
        if length is None:
            length = max(len(data) - offset, 0)
        if offset < 0 or length < 0 or length > len(data) or offset > len(data) - length:
            raise _refused(
                what, location, f"it has {len(data)} bytes; {length} from {offset} on are wanted"
            )
        return data[offset : offset + length]

    def _open(self, location: str, what: str) -> Bytes:
        path = self._resolve(location, what)
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            descriptor = os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
        except OSError as error:
            raise _refused(what, location, (error.strerror or str(error)).lower()) from error
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise _refused(what, location, "it is no ordinary file")
        with os.fdopen(descriptor, "rb") as file:
            if os.path.realpath(path) != path or not os.path.samestat(status, os.stat(path)):
                raise _refused(what, location, "it changed while it was opened")
            if self.untrusted and status.st_nlink > 1:
                raise _refused(what, location, "it is a hard link, and the model is not trusted")
            if status.st_size == 0:
                return np.empty(0, np.uint8)
            if self.untrusted:
                return np.frombuffer(file.read(), np.uint8)
            return np.memmap(file, np.uint8, mode="r")

    def _resolve(self, location: str, what: str) -> str:
        if self.model is None:
            raise LeptonError(
                f"{what} keeps its data in the file {shown(location)}, and the model has no folder",
                notes=["give the path of the model file instead of its content"],
                code="E017",
            )
        outside = (
            not location
            or "\0" in location
            or location.startswith(("/", "\\"))
            or re.match(r"[A-Za-z]:", location)
            or ".." in re.split(r"[/\\]", location)
        )
        if outside:
            raise _refused(what, location, "only files below the model's folder may be read")
        named = self.model.absolute().parent
        target = os.path.realpath(named / location)
        homes = {os.path.realpath(named), os.path.dirname(os.path.realpath(self.model))}
        if not any(target.startswith(home.rstrip("/") + "/") for home in homes):
            raise _refused(
                what, location, f"it leads out of the model's folder, to {shown(target)}"
            )
        return target


def _refused(what: str, location: str, reason: str) -> LeptonError:
    return LeptonError(
        f"{what} keeps its data in the file {shown(location)}: {reason}", code="E017"
    )
