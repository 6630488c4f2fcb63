"""Work on one thing after another in a thread, while the next ones are made."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")

_WAITING = 4
"""How many things may wait, with the memory that they are in."""


class Behind(Generic[T]):
    """Does something with each thing that is put within a `with`, in order; all is done at its end.

    What went wrong is raised there, or where the next thing is put; nothing is done after it.
    """

    def __init__(self, do: Callable[[T], object], name: str) -> None:
        self._do = do
        self._waiting: queue.Queue[tuple[T] | None] = queue.Queue(_WAITING)
        self._problem: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def put(self, thing: T) -> None:
        """Hand it over; it must not change until the end."""
        self._raise()
        self._waiting.put((thing,))

    def _raise(self) -> None:
        if self._problem is not None:
            raise self._problem

    def _work(self) -> None:
        while (taken := self._waiting.get()) is not None:
            if self._problem is None:
                try:
                    self._do(*taken)
                except BaseException as problem:  # it belongs to the thread that puts
                    self._problem = problem
            del taken

    def __enter__(self) -> Behind[T]:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._waiting.put(None)
        self._thread.join()
        if error is None:
            self._raise()
