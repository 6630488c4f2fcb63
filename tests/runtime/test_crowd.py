"""Calls take fewer threads where that is faster, as told by what calls took."""

from __future__ import annotations

from leptonc.runtime.crowd import Crowd


def counts(crowd: Crowd, calls: int, together: tuple[float, float], alone: float) -> list[int]:
    """How many threads each call took; with all of them it takes `together`: time and work."""
    taken: list[int] = []
    for _ in range(calls):
        taken.append(crowd.threads)
        crowd.note(*(together if crowd.threads > 1 else (alone, alone)))
    return taken


def test_threads_that_all_work_stay_together() -> None:
    assert counts(Crowd(2), 100, (1.0, 1.9), 0.5) == [2] * 100


def test_threads_that_wait_give_way_where_one_is_faster() -> None:
    taken = counts(Crowd(2), 500, (5.0, 5.0), 1.0)
    assert taken[:2] == [2, 1]
    assert taken.count(2) < 20
    assert 2 in taken[-70:], "the others are tried again"


def test_threads_that_wait_stay_where_one_is_slower() -> None:
    taken = counts(Crowd(4), 500, (1.0, 2.0), 3.0)
    assert taken[:2] == [4, 1]
    assert taken.count(1) < 20


def test_all_threads_come_back_once_nobody_else_wants_the_processors() -> None:
    crowd = Crowd(2)
    counts(crowd, 300, (5.0, 5.0), 1.0)
    assert set(counts(crowd, 200, (0.6, 1.2), 1.0)[-130:]) == {2}
    assert counts(crowd, 2, (5.0, 5.0), 1.0) == [2, 1], "and give way at once again"
