"""Keeps sessions usable in both processes after a fork, and out of the way when a process ends.

A fork copies one thread and the locks of all: a lock that another thread holds at that moment
stays locked in the child for ever, the native allocator's among them. So a fork waits, for a
moment, until no call is in the native code of any session, and calls that want to start wait for
the fork.
"""

from __future__ import annotations

import atexit
import os
import time
import weakref
from typing import Protocol

PATIENCE_SECONDS = 1.0
"""How long a fork waits for calls in flight; a longer call takes its chance."""
LAST_PATIENCE_SECONDS = 60.0
"""How long the end waits for calls of daemon threads; a longer one takes the process with it."""


class Pausable(Protocol):
    """What forks and ends need of a session."""

    def pause(self, deadline: float) -> None:
        """No call is in flight after, unless the deadline passed."""

    def resume(self) -> None:
        """Go on in the process that forked."""

    def restart(self) -> None:
        """Go on in the child, where no other thread of the parent lives."""

    def end(self, deadline: float) -> None:
        """No daemon thread is in flight after, unless the deadline passed, and none ever will."""


class _Watch:
    def __init__(self) -> None:
        self.alive: weakref.WeakSet[Pausable] = weakref.WeakSet()
        self.paused: list[Pausable] = []

    def before(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        self.paused = list(self.alive)
        for session in self.paused:
            session.pause(deadline)

    def in_parent(self) -> None:
        for session in self.paused:
            session.resume()
        self.paused = []

    def in_child(self) -> None:
        for session in self.paused:
            session.restart()
        self.paused = []

    def at_end(self) -> None:
        deadline = time.monotonic() + LAST_PATIENCE_SECONDS
        for session in list(self.alive):
            session.end(deadline)


_watch = _Watch()  # the one thing in here that outlives a session: forks are of the whole process
watch = _watch.alive.add
os.register_at_fork(
    before=_watch.before, after_in_parent=_watch.in_parent, after_in_child=_watch.in_child
)
atexit.register(_watch.at_end)
