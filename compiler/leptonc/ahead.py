"""Things made in threads, while the ones before them are used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def made_ahead(makes: Iterable[Callable[[], T]], threads: int) -> Generator[T]:
    """What each of them makes, in order; as many as there are threads are made at the same time.

    Not more wait than that, with the memory that they are in. What went wrong is raised in the
    place of the thing, and nothing more is begun then, or after the iterator is closed.
    """
    pool = ThreadPoolExecutor(threads, "leptonc-ahead")
    waiting: deque[Future[T]] = deque()
    try:
        for make in makes:
            waiting.append(pool.submit(make))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
