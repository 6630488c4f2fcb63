"""A file that is filled before anybody says where it belongs."""

from __future__ import annotations

import errno
import os
import tempfile
import weakref
from pathlib import Path

_MODE = 0o666  # less the user's mask, as of any other file


class Unnamed:
    """A file without a name, which is gone with the process unless it is given one.

    Where the file system has no such files, or for another file system, its content has to be
    copied. It has no other reader or writer than this process.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.gettempdir())
        self.descriptor = _new(self.folder)
        self._has_name = False
        self._close = weakref.finalize(self, os.close, self.descriptor)

    def take_name(self, name: Path) -> bool:
        """Whether the file is now under that name, which is new; it can have only one, once."""
        if self._has_name or not self._close.alive:
            return False
        try:
            # With a folder's descriptor, which an absolute path ignores, Python follows the link.
            os.link(f"/proc/self/fd/{self.descriptor}", name, src_dir_fd=self.descriptor)
        except (OSError, NotImplementedError):
            return False
        self._has_name = True
        return True

    def close(self) -> None:
        """Let go of it; what is mapped stays."""
        self._close()


def _new(folder: Path) -> int:
    flags = os.O_RDWR | os.O_CLOEXEC
    try:
        return os.open(folder, flags | os.O_TMPFILE, _MODE)
    except OSError as problem:
        if problem.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL):
            raise
    descriptor, name = tempfile.mkstemp(prefix="leptonc-", dir=folder)
    os.unlink(name)
    return descriptor
