# pyright: standard
"""One call in flight: a virtual machine, the aligned copies of its inputs, and its counts."""

from __future__ import annotations

import functools
import queue
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from leptonc.container import ALIGNMENT
from leptonc.runtime.crowd import Crowd
from leptonc.runtime.native import native, new_machine
from leptonc.runtime.nearby import Learned
from leptonc.runtime.values import ElementType, aligned

Array = np.ndarray[Any, np.dtype[Any]]
Questions = queue.SimpleQueue[tuple[Any, ...] | None]
Answers = queue.SimpleQueue[tuple[Any, BaseException | None]]

Look = Callable[..., int]
"""Takes what is called, its name, whether it is before the call, the result and the arguments."""
_SMALL = 16384
"""Bytes that are copied in less time than it takes to make a tensor of an array, 0.5 us."""
GO_ON = 0
"""What such a function returns to have the call made."""


class Lane:
    """Runs one call at a time, in the thread that asks for it."""

    def __init__(self, library: Any, *, serial: bool, pooled: bool) -> None:
        self.calls = self.copies = self.copied_bytes = 0
        self.call: Callable[..., Any] | None = None
        """Runs the program; None while there is no machine to run it."""
        self.look: Look | None = None
        """Called before and after each call of the machines that are started from now on."""
        self.learned = Learned()
        self._library, self._serial, self._pooled = library, serial, pooled
        self._staged: dict[int, tuple[Array, Any]] = {}

    def start(self) -> Callable[..., Any]:
        """Get a machine, so that there is something to call."""
        self._machine, main = new_machine(self._library, pooled=self._pooled)
        if self.look is not None:
            self._machine["set_instrument"](native().function(self.look))
        self.call = functools.partial(_call_serial, main) if self._serial else main
        return self.call

    def place(self, slot: int, array: Array, kind: ElementType) -> Any:
        """A tensor of `array` itself where the program can read it there, else of a copy."""
        found = self._staged.get(slot)
        if found is not None and array.nbytes <= _SMALL and found[0].shape == array.shape:
            return self._copied(found, array)  # as the last one, which had to be
        if array.flags.c_contiguous and array.dtype.isnative:
            tensor = kind.tensor_of(array)
            if not tensor.data_ptr() % ALIGNMENT:
                return tensor
        return self._stage(slot, array, kind)

    def _stage(self, slot: int, array: Array, kind: ElementType) -> Any:
        """A tensor with the elements of `array`, aligned, in a row and in native byte order.

        The next call of this lane overwrites it.
        """
        found = self._staged.get(slot)
        if found is None or found[0].shape != array.shape:
            memory = aligned(array.shape, kind.dtype)
            found = self._staged[slot] = memory, kind.tensor_of(memory)
        return self._copied(found, array)

    def _copied(self, found: tuple[Array, Any], array: Array) -> Any:
        memory, tensor = found
        memory[...] = array
        self.copies += 1
        self.copied_bytes += memory.nbytes
        return tensor

    def watch(self, seconds: float) -> tuple[Callable[..., Any], threading.Event]:
        """A machine for one call that ends between kernels when time is over, and whether it did.

        Looking at the clock costs a few microseconds a kernel, so such a machine is not kept.
        """
        self.stop()
        call, ended = self.start(), threading.Event()
        deadline = time.monotonic() + seconds

        def look(*_: Any) -> int:
            if time.monotonic() > deadline:
                ended.set()
                raise TimeoutError
            return GO_ON

        assert self._machine is not None
        self._machine["set_instrument"](native().function(look))
        return call, ended

    def stop(self) -> None:
        """Let go of the machine, whatever state it is in, and of what it may still read."""
        self._machine = self.call = None
        self._staged = {}

    def restart(self) -> None:
        """Go on in a forked child."""

    def close(self) -> None:
        """Let go of everything but the counts."""
        self.stop()
        self._library = None


class ParallelLane(Lane):
    """Runs its calls in a thread of its own, which alone owns the pool of worker threads.

    The native pool belongs to the thread that starts a parallel loop, and a forked child that ends
    the ordinary way waits for ever for the pool of the thread that forked. So no thread of the
    user's may ever own one; this costs two changes of thread, about 25 us a call. Calls that take
    less time without either are made in the thread that asks.
    """

    def __init__(self, library: Any, threads: int, *, pooled: bool) -> None:
        super().__init__(library, serial=False, pooled=pooled)
        self._threads = threads
        self._end: weakref.finalize[..., Any] | None = None

    def start(self) -> Callable[..., Any]:
        """Get a machine, and a thread for it."""
        asked: Questions = queue.SimpleQueue()
        answers: Answers = queue.SimpleQueue()
        main = super().start()
        threading.Thread(
            target=_serve,
            args=(main, self._threads, asked, answers),
            name="leptonc-run",
            daemon=True,
        ).start()
        self._end = weakref.finalize(self, asked.put, None)
        self._end.atexit = False  # a daemon of the user's may wait for an answer when all ends
        shared = functools.partial(_hand_over, asked, answers)
        alone = functools.partial(_call_serial, main)
        self.call = functools.partial(_call_nearby, self.learned, shared, alone)
        return self.call

    def stop(self) -> None:
        """Let go of the machine; its thread ends after the call it is in, if any."""
        super().stop()
        if self._end is not None:
            self._end()

    def restart(self) -> None:
        """Go on in a forked child, which did not inherit the thread."""
        self.stop()


def _call_serial(main: Callable[..., Any], *arguments: Any) -> Any:
    """Run with loops that could be parallel kept to this thread: no pool is started."""
    set_threads = native().set_threads
    set_threads(1)
    try:
        return main(*arguments)
    finally:
        set_threads(0)


def _call_nearby(
    learned: Learned, shared: Callable[..., Any], alone: Callable[..., Any], *arguments: Any
) -> Any:
    """Run in either way, and learn from it which one is faster."""
    nearby = learned.known.get(learned.shapes) or learned.nearby
    if nearby.is_settled and not nearby.is_alone:
        return shared(*arguments)
    start = time.perf_counter()
    result = (alone if nearby.is_alone else shared)(*arguments)
    nearby.note(time.perf_counter() - start)
    return result


def _hand_over(asked: Questions, answers: Answers, *arguments: Any) -> Any:
    asked.put(arguments)
    result, error = answers.get()
    if error is not None:
        raise error
    return result


def _serve(main: Callable[..., Any], threads: int, asked: Questions, answers: Answers) -> None:
    set_threads, crowd, taken = native().set_threads, Crowd(threads), 0
    while (arguments := asked.get()) is not None:
        if taken != crowd.threads:
            taken = crowd.threads
            set_threads(taken)
        start, worked = time.perf_counter(), time.process_time()
        try:
            answer = main(*arguments), None
        except BaseException as error:  # it belongs to the thread that asked
            answer = None, error
        crowd.note(time.perf_counter() - start, time.process_time() - worked)
        del arguments
        answers.put(answer)
        del answer
