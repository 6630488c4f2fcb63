"""What is tried, struck out, resumed and taken, by measurements that are made up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from leptonc.backends.base import ShortList
from leptonc.tuning.database import Database
from leptonc.tuning.search import Decisions, Outcome, Search, Times, TrialError, combined

WHERE = {"model": "none"}
LISTS = {
    "k_a": ShortList("conv_blocked", ("a",), ("rows=1", "rows=2", "band=3")),
    "k_b": ShortList("linear", ("b",), ("rows=1", "rows=2")),
}


@dataclass
class Made:
    """Trials by a table of the part of its time that a kernel takes by a decision."""

    parts: Mapping[tuple[str, str], float] = field(default_factory=dict[tuple[str, str], float])
    whole_part: float = 0.8
    noise: float = 0.001
    cost: float = 1.0
    crashing: frozenset[tuple[str, str]] = frozenset()
    hanging: frozenset[tuple[str, str]] = frozenset()
    interrupt_at: int = 1 << 30
    now: float = 0.0
    batches: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    wholes: list[dict[str, str]] = field(default_factory=list[dict[str, str]])

    def clock(self) -> float:
        """The seconds that made-up work has taken."""
        return self.now

    def start(self) -> None:
        """Takes long, which is not counted."""
        self.now += 100.0

    def kernels(self, decisions: Decisions, limit: float) -> Mapping[str, Times]:
        """As the table says."""
        self.batches.append(dict(decisions))
        if len(self.batches) >= self.interrupt_at:
            raise KeyboardInterrupt
        if self.hanging & set(decisions.items()):
            self.now += limit
            raise TimeoutError
        self.now += self.cost
        if self.crashing & set(decisions.items()):
            raise TrialError("the run failed, ended by SIGSEGV")
        seconds = {"k_a": 3.0, "k_b": 1.0, "k_unknown": 1.0}
        return {
            name: Times(own * self.parts.get((name, decisions.get(name, "")), 1.0), own, self.noise)
            for name, own in seconds.items()
        }

    def whole(self, decisions: Decisions, limit: float) -> Times:
        """As was given."""
        self.wholes.append(dict(decisions))
        return Times(5.0 * self.whole_part, 5.0, self.noise)


def searched(made: Made, folder: Path | None = None, seconds: float = 1000.0) -> Outcome:
    database = Database.open(folder, WHERE)
    return Search(LISTS, made, database, seconds, clock=made.clock).run()


def measured(made: Made) -> list[tuple[str, str]]:
    return [item for batch in made.batches for item in batch.items()]


def test_everything_is_measured_once_and_the_best_is_taken() -> None:
    made = Made({("k_a", "rows=2"): 0.5, ("k_a", "rows=1"): 0.7, ("k_b", "rows=1"): 0.9})
    found = searched(made)
    assert found.decisions == {"k_a": "rows=2", "k_b": "rows=1"}
    assert made.wholes == [found.decisions]
    tried = measured(made)
    assert {item for item in tried if tried.count(item) == 1} >= {
        ("k_a", "rows=1"), ("k_a", "band=3"), ("k_b", "rows=2"),
    }  # fmt: skip
    assert found.tried == 5
    assert found.left == 0
    assert list(found.shares) == ["k_a", "k_b"]
    assert found.shares["k_a"] == pytest.approx(0.6)


def test_what_wins_apart_is_tried_together() -> None:
    made = Made({
        ("k_a", "rows=2"): 0.5, ("k_a", "band=3"): 0.8, ("k_a", "rows=2 band=3"): 0.4,
    })  # fmt: skip
    assert searched(made).decisions == {"k_a": "rows=2 band=3"}


def test_a_slower_candidate_is_never_taken() -> None:
    every = {(name, text): 1.3 for name, each in LISTS.items() for text in each.candidates}
    made = Made(every)
    found = searched(made)
    assert found.decisions == {}
    assert made.wholes == []
    assert "no candidate was faster" in found.reason


@pytest.mark.parametrize(
    ("part", "noise"), [(0.98, 0.0), (0.9, 0.2)], ids=["too little", "less than noise"]
)
def test_small_gains_are_no_gains(part: float, noise: float) -> None:
    found = searched(Made({("k_a", "rows=1"): part}, noise=noise))
    assert found.decisions == {}


@pytest.mark.parametrize(("part", "noise"), [(1.1, 0.0), (0.995, 0.0), (0.95, 0.1)])
def test_a_network_that_is_not_faster_as_a_whole_stays_as_it_was(part: float, noise: float) -> None:
    made = Made({("k_a", "rows=1"): 0.5}, whole_part=part)
    made.whole = lambda decisions, limit: Times(part, 1.0, noise)  # type: ignore[method-assign]
    found = searched(made)
    assert found.decisions == {}
    assert "as a whole" in found.reason


def test_what_does_not_win_again_is_not_taken(tmp_path: Path) -> None:
    made = Made({("k_a", "rows=1"): 0.5})
    once = made.kernels

    def kernels(decisions: Decisions, limit: float) -> Mapping[str, Times]:
        if ("k_a", "rows=1") in measured(made):
            made.parts = {}
        return once(decisions, limit)

    made.kernels = kernels  # type: ignore[method-assign]
    found = searched(made, tmp_path)
    assert found.decisions == {}
    assert "did not win again" in found.reason
    assert not Database.open(tmp_path, WHERE).winners("k_a")


def bad_one(kind: str, bad: frozenset[tuple[str, str]]) -> Made:
    parts = {("k_a", "rows=1"): 0.5}
    return Made(parts, crashing=bad) if kind == "crashing" else Made(parts, hanging=bad)


@pytest.mark.parametrize("kind", ["crashing", "hanging"])
def test_what_crashes_or_hangs_is_found_struck_out_and_remembered(
    tmp_path: Path, kind: str
) -> None:
    bad = frozenset({("k_b", "rows=1")})
    made = bad_one(kind, bad)
    found = searched(made, tmp_path)
    assert found.decisions == {"k_a": "rows=1"}
    assert found.left == 0
    record = Database.open(tmp_path, WHERE).records["k_b", "rows=1"]
    assert ("SIGSEGV" if kind == "crashing" else "no result after") in record.outcome
    again = bad_one(kind, bad)
    searched(again, tmp_path)
    assert ("k_b", "rows=1") not in measured(again)


def test_an_interrupted_search_is_resumed(tmp_path: Path) -> None:
    first = Made({("k_a", "rows=1"): 0.5}, interrupt_at=3)
    with pytest.raises(KeyboardInterrupt):
        searched(first, tmp_path)
    known = set(Database.open(tmp_path, WHERE).records)
    assert known == set(first.batches[1].items())
    second = Made({("k_a", "rows=1"): 0.5})
    found = searched(second, tmp_path)
    assert found.known == len(known)
    assert found.tried == 5 - len(known)
    assert not known & set(measured(second)[:-1])
    assert found.decisions == {"k_a": "rows=1"}


@pytest.mark.parametrize("seconds", [5.0, 20.0, 60.0])
@pytest.mark.parametrize("cost", [1.0, 8.0])
def test_the_seconds_are_kept(seconds: float, cost: float) -> None:
    made = Made({("k_a", "rows=1"): 0.5}, cost=cost)
    found = searched(made, None, seconds)
    assert found.seconds <= seconds + 3 * cost
    assert found.tried + found.left == 5


def test_what_the_seconds_do_not_suffice_for_is_not_struck_out(tmp_path: Path) -> None:
    made = Made(hanging=frozenset({("k_a", "rows=1"), ("k_b", "rows=1")}))
    found = searched(made, tmp_path, 15.0)
    assert found.decisions == {}
    assert not Database.open(tmp_path, WHERE).has("k_a", "rows=1")


def test_kernels_that_take_next_to_nothing_are_left_alone() -> None:
    made = Made()
    plain = made.kernels

    def kernels(decisions: Decisions, limit: float) -> Mapping[str, Times]:
        return {**plain(decisions, limit), "k_b": Times(0.001, 0.001)}

    made.kernels = kernels  # type: ignore[method-assign]
    found = searched(made)
    assert list(found.shares) == ["k_a"]


def test_nothing_is_combined_of_decisions_about_the_same() -> None:
    database = Database(None, WHERE)
    made = Made({("k_a", "rows=1"): 0.5, ("k_a", "rows=2"): 0.6})
    Search(LISTS, made, database, 1000.0, clock=made.clock).run()
    assert combined(database.winners("k_a")) == ""
