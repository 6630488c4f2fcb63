"""Work that is done in a thread is done in order, whole, and not after a failure."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator

import pytest

from leptonc.behind import Behind


def put_all(work: Callable[[int], object], numbers: Iterable[int]) -> None:
    """Put one after another."""
    with Behind(work, "test") as behind:
        for number in numbers:
            behind.put(number)


class Thing:
    """Something that tells when nobody has it any more."""


def test_all_is_done_in_order() -> None:
    done: list[int] = []
    with Behind(done.append, "test") as behind:
        for number in range(1000):
            behind.put(number)
    assert done == list(range(1000))
    assert "test" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("count", [3, 1000], ids=["at the end", "where the next is put"])
def test_a_failure_is_raised_and_nothing_is_done_after_it(count: int) -> None:
    done: list[int] = []

    def work(number: int) -> None:
        if number == 2:
            raise OSError("full")
        done.append(number)

    with pytest.raises(OSError, match="full"):
        put_all(work, range(count))
    assert done == [0, 1]
    assert "test" not in {thread.name for thread in threading.enumerate()}


def test_what_fails_in_between_is_what_is_told() -> None:
    def work(_: int) -> None:
        raise OSError("full")

    def numbers() -> Iterator[int]:
        yield 1
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        put_all(work, numbers())


def test_things_are_let_go_of() -> None:
    gone: list[weakref.ref[Thing]] = []

    def note(thing: Thing) -> None:
        gone.append(weakref.ref(thing))

    with Behind(note, "test") as behind:
        for _ in range(20):
            behind.put(Thing())
    gc.collect()
    assert len(gone) == 20
    assert all(reference() is None for reference in gone)
