"""Short calls are run where they are asked for, as told by what calls took."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from leptonc.ir.diagnostics import LeptonError
from leptonc.runtime.lanes import GO_ON
from leptonc.runtime.nearby import SHORT, TRIES, Learned, Nearby
from leptonc.runtime.session import load
from tests.runtime.conftest import Artifacts

WEIGHT = np.array([1, 2, 3, 4], "f4")


def ways(nearby: Nearby, calls: int, shared: float, alone: float) -> list[bool]:
    """Which calls are run alone, each kind of which takes so many parts of what is short."""
    taken: list[bool] = []
    for _ in range(calls):
        taken.append(nearby.is_alone)
        nearby.note(SHORT * (alone if nearby.is_alone else shared))
    return taken


def test_long_calls_are_never_tried_alone() -> None:
    nearby = Nearby()
    assert not any(ways(nearby, 3 * TRIES, 1.1, 0.1))
    assert nearby.is_settled


def test_short_calls_that_are_faster_alone_stay_alone() -> None:
    nearby = Nearby()
    assert ways(nearby, 100, 0.2, 0.1) == [False] * TRIES + [True] * (100 - TRIES)


def test_short_calls_that_are_slower_alone_are_tried_a_few_times() -> None:
    nearby = Nearby()
    assert ways(nearby, 100, 0.2, 0.3).count(True) == TRIES
    assert nearby.is_settled


def test_calls_that_become_long_are_shared_again() -> None:
    nearby = Nearby()
    ways(nearby, 50, 0.2, 0.1)
    assert ways(nearby, 20, 1.5, 3.0) == [True] + [False] * 19
    assert nearby.is_settled


def test_sizes_are_learned_of_one_by_one_and_so_many_of_them() -> None:
    learned = Learned()
    learned.shapes = ((1, 2),)
    ways(learned.nearby, 50, 0.2, 0.1)
    learned.shapes = ((3, 2),)
    assert not learned.nearby.is_alone
    learned.shapes = ((1, 2),)
    assert learned.nearby.is_alone
    for size in range(64):
        learned.shapes = ((size, 4),)
        assert not learned.nearby.is_alone
    learned.shapes = ((1, 2),)
    assert not learned.nearby.is_settled


@pytest.mark.parametrize("is_alone", [True, False])
def test_calls_are_right_in_either_way(
    artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch, is_alone: bool
) -> None:
    monkeypatch.setattr(Nearby, "note", _forget)
    monkeypatch.setattr(Nearby, "_begin", _alone if is_alone else _shared)
    session = load(artifacts("parallel"), 2)
    x = np.arange(400 * 4, dtype="f4").reshape(400, 4)
    threads: list[str] = []

    def look(*_: Any) -> int:
        threads.append(threading.current_thread().name)
        return GO_ON

    with session.observed(look):
        np.testing.assert_array_equal(session.run({"x": x})["y"], x + WEIGHT)
    ours = threading.current_thread().name
    assert set(threads) == {ours} if is_alone else ours not in threads
    with pytest.raises(LeptonError, match="E706"):
        session.run({"x": x}, timeout=0.0)
    np.testing.assert_array_equal(session.run({"x": x})["y"], x + WEIGHT)


def _forget(nearby: Nearby, seconds: float) -> None:
    """Learn nothing."""


def _alone(nearby: Nearby) -> None:
    nearby.is_alone = nearby.is_settled = True


def _shared(nearby: Nearby) -> None:
    nearby.is_alone, nearby.is_settled = False, True
