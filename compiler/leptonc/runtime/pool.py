"""The lanes of a session: one for each call in flight, made on demand and used again."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NoReturn

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
        self._held: deque[Lane] = deque()
        """Lanes kept from calls: by a fork until it is done, for ever once all is over."""
        self._lost: list[Lane] = []
        self._closed = self._draining = self._ending = self._locked = False
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
            return self._free.pop()
        except IndexError:
            return self._grow()

    def give(self, lane: Lane) -> None:
        """Take a lane back."""
        if self._draining:
            self._held.append(lane)
            self._returned.set()
        else:
            self._free.append(lane)
        if self._permits is not None:
            self._permits.release()

    def _grow(self) -> Lane:
        try:
            self.check_open()  # before the lock, which is held while the last calls end
            with self._growth:
                self.check_open()
                if not (self._ending and threading.current_thread().daemon):
                    lane = self._make()
                    self.lanes.append(lane)
                    return lane
            _wait_for_the_end()
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
            self._drain(None)
            for lane in self.lanes:
                lane.close()
            del self._make

    def _drain(self, deadline: float | None) -> None:
        """Hold every lane, or those that are back by the deadline; from now on none is free."""
        self._draining = True
        while True:
            self._returned.clear()
            while self._free:
                self._held.append(self._free.pop())
            if len(self._held) >= len(self.lanes):
                return
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            self._returned.wait(left)

    def pause(self, deadline: float) -> None:
        """No call is in flight after, unless the deadline passed; calls wait that want to start."""
        self._locked = self._growth.acquire(timeout=max(0.0, deadline - time.monotonic()))
        if not self._closed:
            self._drain(deadline)

    def resume(self) -> None:
        """Let calls start again."""
        self._draining = self._closed
        while not self._closed and self._held:
            self._free.append(self._held.pop())
        if self._locked:
            self._growth.release()

    def restart(self) -> None:
        """Go on in a forked child: the threads of the lanes are gone, and so are other callers.

        A machine that was running at the fork is half-way through for ever; it is kept as it is.
        """
        self._lost += [lane for lane in self.lanes if lane not in self._held]
        self.lanes = list(self._held)
        for lane in self.lanes:
            lane.restart()
        self._new_locks()
        self._locked = False
        self.resume()

    def end(self, deadline: float) -> None:
        """The process is about to end: no daemon thread is in native code after, nor gets there.

        The interpreter kills such a thread when it comes back, in the middle of C++ that cannot be
        unwound, and the process with it.
        """
        self._ending = True
        self.pause(deadline)
        if self._locked:
            self._growth.release()


def _wait_for_the_end() -> NoReturn:
    while True:
        threading.Event().wait()  # nobody sets it
