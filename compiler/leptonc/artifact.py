"""The `.lepton` file: written whole or not at all, and opened only where every byte is right.

It is a zip of stored members: `library.so` (kernels and the program that calls them),
`weights.bin` (every tensor at a multiple of 64 bytes, mapped straight from the file), the shared
libraries of other packages that the library calls, and `manifest.json`. The archive comment holds
the digest of the manifest, the manifest the digests of the members, and everything between the
members follows from their sizes, so a change anywhere in the file is seen. A digest proves
integrity, not origin: an artefact holds native code, and only one from a trusted place should be
loaded.
"""

from __future__ import annotations

import contextlib
import os
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from leptonc.artifact_reader import LIBRARY, MANIFEST, WEIGHTS, Checked, check, check_written
from leptonc.container import ALIGNMENT
from leptonc.ir.types import DTYPE_OF_NAME
from leptonc.manifest import (
    FORMAT,
    FunctionSpec,
    Manifest,
    Part,
    TargetSpec,
    TensorSpec,
    WeightSpec,
)

if TYPE_CHECKING:
    from leptonc.unnamed import Unnamed

__all__ = [
    "FORMAT", "LIBRARY", "MANIFEST", "WEIGHTS", "Artifact", "FunctionSpec", "Manifest", "Part",
    "TargetSpec", "TensorSpec", "WeightSpec",
]  # fmt: skip


class Artifact:
    """An open artefact whose every byte has been checked."""

    def __init__(self, path: str, checked: Checked, unnamed: Unnamed | None = None) -> None:
        self.path = path
        """Where it is or, without a name yet, where it may be said to be."""
        self.manifest = checked.manifest
        self.digest = checked.digest
        """The digest of the manifest, which stands for the whole file."""
        self.size = len(checked.data)
        self._data = checked.data
        self._unnamed = unnamed
        self._starts = checked.starts
        self._offsets = checked.manifest.offsets(ALIGNMENT)

    @staticmethod
    def open(path: str | os.PathLike[str]) -> Artifact:
        """Map the file and check all of it; the machine it is for is not looked at."""
        path = os.fspath(path)
        return Artifact(path, check(path))

    @staticmethod
    def just_written(unnamed: Unnamed) -> Artifact:
        """The artefact in a file that this process has written and nobody else can reach."""
        path = os.fspath(unnamed.folder / "not-saved.lepton")
        return Artifact(path, check_written(path, unnamed.descriptor), unnamed)

    @property
    def library(self) -> memoryview:
        """The bytes of the library."""
        start, size = self._starts[LIBRARY], self.manifest.parts[0].size
        return memoryview(self._data)[start : start + size]

    def carried(self, member: str) -> memoryview:
        """The bytes of a library of another package."""
        start = self._starts[member]
        (size,) = (part.size for part in self.manifest.parts if part.name == member)
        return memoryview(self._data)[start : start + size]

    def weight(self, index: int) -> np.ndarray[Any, np.dtype[Any]]:
        """The tensor at this place of the parameter tuple: a read-only view of the file."""
        spec = self.manifest.weights[index]
        dtype = DTYPE_OF_NAME[spec.dtype].numpy
        start = self._starts[WEIGHTS] + self._offsets[index]
        flat = np.frombuffer(self._data, np.uint8, spec.size, start)
        return flat.view(dtype).reshape(spec.shape)

    def save(self, path: str | os.PathLike[str]) -> int:
        """Have the same file under another name, whole or not at all; returns its size.

        What has no name yet gets this one.
        """
        from leptonc.artifact_writer import copy_artifact  # what only runs need not import it

        with memoryview(self._data) as content:
            return copy_artifact(content, path, self._unnamed)

    def close(self) -> None:
        """Let go of the file; it stays mapped for as long as a weight is still in use."""
        with contextlib.suppress(BufferError):
            self._data.close()
        if self._unnamed is not None:
            self._unnamed.close()

    def __enter__(self) -> Artifact:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
