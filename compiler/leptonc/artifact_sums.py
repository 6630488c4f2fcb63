"""The digests of the members of an artefact.

Large artefacts have digests of the digests of pieces, which several threads compute at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import threading
from types import TracebackType

PIECE = 8 << 20
"""Bytes of a piece; artefacts without a larger member have digests of whole members."""
_HELPERS = 7
"""Threads that compute digests beside the one that asks, at most."""
_HELD = 4 << 20
"""Bytes that are handed over at once: small pieces one by one would cost more than their sums."""
_WAITING = 4
"""How often so many may wait, with the arrays they are of."""


def digest_of(data: memoryview, *, in_pieces: bool) -> str:
    """The digest of a member in hexadecimal."""
    if not in_pieces:
        return hashlib.sha256(data).hexdigest()
    starts = range(0, len(data), PIECE)
    digests = [b""] * len(starts)
    left = iter(list(enumerate(starts)))

    def compute() -> None:
        for at, start in left:  # each is handed out once, whoever asks
            digests[at] = hashlib.sha256(data[start : start + PIECE]).digest()

    helpers: list[threading.Thread] = []
    with contextlib.suppress(RuntimeError):  # no more threads to be had
        for _ in range(min(len(os.sched_getaffinity(0)) - 1, len(starts) - 1, _HELPERS)):
            helper = threading.Thread(target=compute, name="leptonc-digest")
            helper.start()
            helpers.append(helper)
    compute()
    for helper in helpers:
        helper.join()
    return hashlib.sha256(b"".join(digests)).hexdigest()


class Sums:
    """Adds up in a thread, within a `with`, while the next bytes are made; then has the digest."""

    def __init__(self, *, in_pieces: bool = False) -> None:
        self._in_pieces = in_pieces
        self._whole = hashlib.sha256()
        self._piece, self._piece_left = hashlib.sha256(), PIECE
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

    @property
    def digest(self) -> str:
        """The digest in hexadecimal, after the end."""
        return self._whole.hexdigest()

    def _hand_over(self) -> None:
        self._waiting.put(self._held)
        self._held, self._held_bytes = [], 0

    def _add_up(self) -> None:
        while (contents := self._waiting.get()) is not None:
            for content in contents:
                self._update(content)
            del contents
        if self._in_pieces and self._piece_left < PIECE:
            self._whole.update(self._piece.digest())

    def _update(self, content: memoryview) -> None:
        if not self._in_pieces:
            self._whole.update(content)
            return
        while len(content):
            part, content = content[: self._piece_left], content[self._piece_left :]
            self._piece.update(part)
            self._piece_left -= len(part)
            if not self._piece_left:
                self._whole.update(self._piece.digest())
                self._piece, self._piece_left = hashlib.sha256(), PIECE

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
