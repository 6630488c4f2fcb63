"""What is made in threads comes in order, not too early, and stops at a failure."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from leptonc.ahead import made_ahead


def threads_of_it() -> set[str]:
    """The threads that are still there."""
    return {t.name for t in threading.enumerate() if t.name.startswith("leptonc-ahead")}


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_all_come_in_order(count: int, threads: int) -> None:
    def squares() -> Iterator[Callable[[], int]]:
        for number in range(count):
            yield partial(pow, number, 2)

    assert list(made_ahead(squares(), threads)) == [number**2 for number in range(count)]
    assert not threads_of_it()


def test_two_are_made_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=30)
    assert len(set(made_ahead([both.wait, both.wait], 2))) == 2


def test_no_more_are_begun_than_are_soon_needed() -> None:
    begun: list[int] = []
    makes = (partial(begun.append, number) for number in range(100))
    made = made_ahead(makes, 2)
    next(made)
    assert len(begun) <= 3
    made.close()
    assert len(begun) <= 3
    assert not threads_of_it()


def test_a_failure_stands_where_the_thing_would() -> None:
    def fail() -> int:
        raise OSError("torn")

    made = made_ahead([lambda: 1, fail, lambda: 3], 2)
    assert next(made) == 1
    with pytest.raises(OSError, match="torn"):
        next(made)
    assert not threads_of_it()
