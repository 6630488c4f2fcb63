"""How many threads the next call takes, where other processes want the processors too.

Threads that share a kernel wait for the last of them. Where one does not get a processor at once,
each kernel takes as long as somebody else's turn: the call is then faster alone.
"""

from __future__ import annotations

_FULL = 0.75
"""The share of their processors below which threads have been kept waiting."""
_LONGEST = 64
"""How many calls at most go by before the other way is tried again."""


class Crowd:
    """Learns from each call: `threads` is how many the next one takes."""

    def __init__(self, threads: int) -> None:
        self.threads = self._all = threads
        self._patience = 1
        self._left = 0
        """The calls until the next try."""
        self._together = 0.0
        """What the last call took with all threads, which had to wait."""

    def note(self, seconds: float, worked: float) -> None:
        """A call took so long, and the process worked for so long meanwhile."""
        if self._left:
            self._left -= 1
        if self.threads == 1:
            self._note_alone(seconds)
        elif worked >= _FULL * self._all * seconds:
            self._patience = 1
        elif not self._left:
            self.threads, self._left, self._together = 1, self._patience, seconds

    def _note_alone(self, seconds: float) -> None:
        """Go on alone as long as that is faster; later each time, try again."""
        if seconds >= self._together:
            self.threads, self._left = self._all, self._patience
        elif not self._left:
            self.threads = self._all
        else:
            return
        self._patience = min(2 * self._patience, _LONGEST)
