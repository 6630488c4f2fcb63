"""A folder of build products under keys, safe for many processes at once.

One entry is one file that appears complete, by renaming. It holds the whole key and a digest of
its data, both compared when it is read: an entry that does not fit is no entry. No failure of the
cache is an error; a build without one is only slower.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

_MAGIC = b"leptonc cache 1\n"


def default_cache_folder() -> Path | None:
    """Where build products are kept: the user's cache folder, else their own temporary one."""
    candidates: list[Path] = []
    if explicit := os.environ.get("LEPTONC_CACHE"):
        candidates.append(Path(explicit))
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        candidates.append(Path(xdg) / "leptonc")
    with contextlib.suppress(RuntimeError):
        candidates.append(Path.home() / ".cache" / "leptonc")
    candidates.append(Path(tempfile.gettempdir()) / f"leptonc-{os.getuid()}")
    for folder in candidates:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK | os.X_OK) and folder.stat().st_uid == os.getuid():
            return folder
    return None


def code_digest(*names: str) -> str:
    """A digest of the code that decides what is kept: other code has other entries.

    Names are folders and files of the package; without any, what decides how kernels look.
    """
    package = Path(__file__).parents[2]
    hasher = hashlib.sha256()
    for name in names or ("ir", "backends"):
        place = package / name
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            hasher.update(str(path.relative_to(package)).encode())
            hasher.update(path.read_bytes())
    return hasher.hexdigest()[:32]


@dataclass
class Cache:
    """Entries in `folder`, good for one version of leptonc; None as folder keeps nothing."""

    folder: Path | None
    version: str = ""
    limit_bytes: int = 2 << 30
    warnings: list[str] = field(default_factory=list[str])
    hits: int = 0

    def get(self, key: str) -> bytes | None:
        """The data kept under `key`, checked; None where there is none or it is damaged."""
        if self.folder is None:
            return None
        path = self._path(key)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as problem:
            self.warnings.append(f"cache entry {path} cannot be read: {problem}")
            return None
        head = self._head(key)
        data = content[len(head) + 32 :]
        if (
            not content.startswith(head)
            or hashlib.sha256(data).digest() != content[len(head) : len(head) + 32]
        ):
            self.warnings.append(f"cache entry {path} is damaged and was left out")
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        self.hits += 1
        return data

    def put(self, key: str, data: bytes) -> None:
        """Keep `data` under `key`."""
        if self.folder is None:
            return
        path = self._path(key)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(self._head(key) + hashlib.sha256(data).digest() + data)
            os.replace(temporary, path)
        except OSError as problem:
            self.warnings.append(f"nothing was cached: {problem}")
            with contextlib.suppress(OSError):
                temporary.unlink()

    def trim(self) -> None:
        """Erase what killed writers left, and the entries longest unused until the rest fits."""
        if self.folder is None:
            return
        entries: list[tuple[float, int, Path]] = []
        for path in self.folder.glob("*/*"):
            with contextlib.suppress(OSError):
                status = path.stat()
                entries.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= self.limit_bytes:
                break
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size

    def _path(self, key: str) -> Path:
        assert self.folder is not None
        name = hashlib.sha256(self._head(key)).hexdigest()
        return self.folder / name[:2] / name[2:]

    def _head(self, key: str) -> bytes:
        """What an entry begins with: all that it must have been made for."""
        text = f"{self.version}\n{key}".encode()
        return _MAGIC + len(text).to_bytes(8, "little") + text
