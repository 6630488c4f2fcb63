"""The lanes of a session: one for each call in flight, made on demand and used again."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from leptonc.ir.diagnostics import LeptonError
from leptonc.runtime import forks
from leptonc.runtime.lanes import Lane


class Pool:
    """Hands out lanes to calls; every lane is in one call at a time."""

    def __init__(self, make: Callable[[], Lane], limit: int = 0) -> None:
        self._make = make
        self._limit = limit
        """How many calls may be in flight; more of them wait. 0 is any number."""
        self.lanes: list[Lane] = []
        self._free: deque[Lane] = deque()
        self._paused: list[Lane] = []
        self._lost: list[Lane] = []
        self._closed = self._draining = False
        self._new_locks()
        forks.watch(self)

    def _new_locks(self) -> None:
        self._growth = threading.Lock()
        self._returned = threading.Event()
        self._permits = threading.Semaphore(self._limit) if self._limit else None

    def take(self) -> Lane:
        """A lane that nobody else has until it is given back."""
        if self._permits is not None:
            self._permits.acquire()
        try:
            lane = self._free.pop()
        except IndexError:
            lane = self._grow()
        if self._closed:
            self.give(lane)
            self.check_open()
        return lane

    def give(self, lane: Lane) -> None:
        """Take a lane back."""
        self._free.append(lane)
        if self._draining:
            self._returned.set()
        if self._permits is not None:
            self._permits.release()

    def _grow(self) -> Lane:
        try:
            self.check_open()  # before the lock, which is held while the last calls end
            with self._growth:
                self.check_open()
                lane = self._make()
                self.lanes.append(lane)
                return lane
        except BaseException:
            if self._permits is not None:
                self._permits.release()
            raise

    def check_open(self) -> None:
        """Raise where the session is closed."""
        if self._closed:
            raise LeptonError(
                "the session is closed", notes=["load the artefact again"], code="E702"
            )

    def close(self) -> None:
        """Let go of every machine, once the calls in flight have come back; later ones fail."""
        with self._growth:
            if self._closed:
                return
            self._closed = True
            for lane in self._drain(None):
                lane.close()

    def _drain(self, deadline: float | None) -> list[Lane]:
        """Collect every lane, or those that are back by the deadline."""
        held: list[Lane] = []
        self._draining = True
        while len(held) < len(self.lanes):
            self._returned.clear()
            try:
                held.append(self._free.pop())
            except IndexError:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                if not self._returned.wait(left):
                    break
        self._draining = False
        return held

    def pause(self, deadline: float) -> None:
        """No call is in flight after, unless the deadline passed; calls wait that want to start."""
        self._locked = self._growth.acquire(timeout=max(0.0, deadline - time.monotonic()))
        self._paused = [] if self._closed else self._drain(deadline)

    def resume(self) -> None:
        """Let calls start again."""
        self._free.extend(self._paused)
        self._paused = []
        if self._locked:
            self._growth.release()

    def restart(self) -> None:
        """Go on in a forked child: the threads of the lanes are gone, and so are other callers.

        A machine that was running at the fork is half-way through for ever; it is kept as it is.
        """
        self._lost += [lane for lane in self.lanes if lane not in self._paused]
        self.lanes = self._paused
        self._paused = []
        for lane in self.lanes:
            lane.restart()
        self._free = deque(self.lanes)
        self._new_locks()

