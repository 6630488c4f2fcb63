"""The digest and the check sum of bytes, added up while the next ones are made."""

from __future__ import annotations

import hashlib
import queue
import threading
import zlib
from types import TracebackType

_HELD = 4 << 20
"""Bytes that are handed over at once: small pieces one by one would cost more than their sums."""
_WAITING = 4
"""How often so many may wait, with the arrays they are of."""


class Sums:
    """Adds up in a thread, within a `with`; digest and check sum are there after it."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self.crc = 0
        self._held: list[memoryview] = []
        self._held_bytes = 0
        self._waiting: queue.Queue[list[memoryview] | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._add_up, name="leptonc-sums", daemon=True)

    def add(self, content: memoryview) -> None:
        """Add bytes, which must not change until the end."""
        self._held.append(content)
        self._held_bytes += len(content)
        if self._held_bytes >= _HELD:
            self._hand_over()

    def _hand_over(self) -> None:
        self._waiting.put(self._held)
        self._held, self._held_bytes = [], 0

    def _add_up(self) -> None:
        while (contents := self._waiting.get()) is not None:
            for content in contents:
                self.digest.update(content)
                self.crc = zlib.crc32(content, self.crc)
            del contents

    def __enter__(self) -> Sums:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hand_over()
        self._waiting.put(None)
        self._thread.join()
