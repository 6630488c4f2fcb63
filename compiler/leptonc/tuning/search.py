"""The search: candidates of all kernels at once in one network, what won confirmed as a whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from leptonc.backends.base import ShortList
from leptonc.tuning.database import (
    LEAST_WHOLE_GAIN,
    MEASURED,
    Database,
    Record,
    network_name,
    spelled,
)

Decisions = Mapping[str, str]

LEAST_SHARE = 0.004
"""Kernels with a smaller part of the time of all are left to the formulas."""
PATIENCE = 4.0
"""A trial may take so many times what the longest one took, and at least this many seconds."""
LEAST_LIMIT = 20.0
HOPE = 0.02
"""The part of its time that a kernel is thought to save by a decision that nobody tried."""
OVERHEAD = 2.0
"""Seconds that a trial is expected to take beside compiling its kernels and measuring."""
FINISH = 5
"""Measurements that come after the last trial: what won together, then as a whole."""
FIRST_GUESS = 0.6
"""Seconds that compiling a kernel is expected to take before any was compiled."""
TRIALS = 6
"""The time is to suffice for so many trials at least: what a trial tells guides the next."""


class TrialError(Exception):
    """A trial that gave no times, by the fault of one of its decisions."""


class OutOfTimeError(Exception):
    """A trial that the seconds did not suffice for; nothing is known of its decisions."""


@dataclass(frozen=True)
class Times:
    """Seconds of a kernel or network by decisions, and by formulas, in the same runs by turns."""

    seconds: float
    against: float
    noise: float = 0.0
    """The part of a time by which equal runs differed."""


class Trials(Protocol):
    """Measures decisions inside the network, within so many seconds.

    Raises TrialError where the decisions cannot be measured, TimeoutError where it took too long.
    """

    def start(self) -> None:
        """Make ready what decisions are measured against."""
        ...

    def kernels(self, decisions: Decisions, limit: float) -> Mapping[str, Times]:
        """The times of the kernels by workload; those of one workload are added up."""
        ...

    def whole(self, decisions: Decisions, limit: float) -> Times:
        """The times of whole runs."""
        ...


@dataclass
class Outcome:
    """What tuning tried, and what came of it."""

    decisions: dict[str, str] = field(default_factory=dict[str, str])
    """Those that were taken; none where the network was not faster by them."""
    whole: Times | None = None
    """The network by the decisions that won, and without: both measured at the end."""
    tried: int = 0
    """Candidates that were measured now, and those struck out."""
    known: int = 0
    """Candidates that the database had."""
    left: int = 0
    """Candidates that the seconds did not suffice for."""
    seconds: float = 0.0
    shares: dict[str, float] = field(default_factory=dict[str, float])
    """The part of all kernels' time that each workload takes without decisions."""
    reason: str = ""
    """Why nothing was decided."""


@dataclass
class Search:
    """One search, until nothing is left to measure or the seconds are over."""

    lists: Mapping[str, ShortList]
    trials: Trials
    database: Database
    seconds: float
    clock: Callable[[], float] = time.monotonic
    progress: Callable[[str, int, int], None] = lambda what, done, total: None
    outcome: Outcome = field(default_factory=Outcome, init=False)
    _start: float = field(default=0.0, init=False)
    _longest: float = field(default=0.0, init=False)
    _last: tuple[int, float] = field(default=(1, FIRST_GUESS), init=False)
    _reserve: float = field(default=0.0, init=False)
    _measuring: float = field(default=0.0, init=False)
    _suspects: list[dict[str, str]] = field(default_factory=list[dict[str, str]], init=False)

    def run(self) -> Outcome:
        """Measure; the seconds begin when the network by formulas is ready."""
        self.trials.start()
        self._start = self.clock()
        self._find_shares()
        self.outcome.known = sum(
            self.database.has(name, text)
            for name in self.outcome.shares
            for text in self.lists[name].candidates
        )
        try:
            while batch := self._next_batch():
                self._try(batch)
        except OutOfTimeError:
            pass
        self.outcome.left = sum(len(self._pending(name)) for name in self.outcome.shares)
        self._finish()
        self.outcome.seconds = self.clock() - self._start
        return self.outcome

    @property
    def _remaining(self) -> float:
        return self._start + self.seconds - self.clock()

    def _find_shares(self) -> None:
        """Which kernels take the time, those that take most first."""
        begin = self.clock()
        times = self.trials.kernels({}, max(self._remaining, LEAST_LIMIT))
        self._measuring = self.clock() - begin
        self._reserve = FINISH * self._measuring + 2 * OVERHEAD
        total = sum(each.against for each in times.values()) or 1.0
        shares = {name: each.against / total for name, each in times.items() if name in self.lists}
        self.outcome.shares = {
            name: share
            for name, share in sorted(shares.items(), key=lambda item: -item[1])
            if share >= LEAST_SHARE
        }

    def _pending(self, name: str) -> list[str]:
        """What is left to measure of a workload: its short list, then the best of it combined."""
        texts = [*self.lists[name].candidates]
        left = [text for text in texts if not self.database.has(name, text)]
        # what has helped others of its kind comes first, what has not comes last
        left.sort(key=lambda text: -self._promise(name, text))
        if not left:
            both = combined(self.database.winners(name))
            left = [both] if both and not self.database.has(name, both) else []
        return left

    def _next_batch(self) -> dict[str, str]:
        """One candidate for each kernel, as many as the time is expected to suffice for."""
        if self._suspects:
            return self._suspects.pop()
        room = self._remaining - self._reserve
        if room <= 0:
            return {}
        pending = {name: left[0] for name in self.outcome.shares if (left := self._pending(name))}
        first = sorted(pending, key=self._priority, reverse=True)
        count, seconds = self._last
        fixed = OVERHEAD + self._measuring
        size = int((min(room, self.seconds / TRIALS) - fixed) * count / seconds)
        if size <= 0 and room > fixed + seconds / count:
            size = 1
        return {name: pending[name] for name in first[: max(size, 0)]}

    def _priority(self, name: str) -> float:
        """What a kernel may save: less for each of its candidates that is known already."""
        known = sum(self.database.has(name, text) for text in self.lists[name].candidates)
        promise = max(self._promise(name, self._pending(name)[0]), 0.0)
        return self.outcome.shares[name] * (HOPE + promise) / (1 + known)

    def _promise(self, name: str, text: str) -> float:
        """What a decision saved on average of kernels of the same kind; 0 where none tried it."""
        kind = self.lists[name].operations.split(" ")[0]
        gains = [
            record.gain
            for other, each in self.lists.items()
            if each.operations.split(" ")[0] == kind
            and (record := self.database.records.get((other, text))) is not None
            and record.outcome == MEASURED
        ]
        return sum(gains) / len(gains) if gains else 0.0

    def _try(self, batch: dict[str, str]) -> None:
        """Measure a batch; where that fails, its halves, until what it was is found."""
        done = min(self.seconds, self.clock() - self._start)
        self.progress(f"tuning, {len(batch)} kernels at once", int(done), int(self.seconds))
        begin = self.clock()
        try:
            times = self._measured(batch)
        except TrialError as failure:
            if len(batch) > 1:
                items = list(batch.items())
                self._suspects += [dict(items[0::2]), dict(items[1::2])]
                return
            ((name, text),) = batch.items()
            self.outcome.tried += 1
            self.database.put(
                Record(name, text, str(failure), operations=self.lists[name].operations)
            )
            return
        took = self.clock() - begin
        self._longest = max(self._longest, took)
        compiling = max(took - OVERHEAD - self._measuring, 0.05 * len(batch))
        self._last = len(batch), compiling
        for name, text in batch.items():
            self.outcome.tried += 1
            each = times.get(name, Times(0.0, 0.0))
            self.database.put(self._record(name, text, each))

    def _measured(self, batch: Decisions) -> Mapping[str, Times]:
        patience = max(LEAST_LIMIT, PATIENCE * self._longest)
        limit = min(patience, self._remaining)
        if limit <= 0:
            raise OutOfTimeError
        try:
            return self.trials.kernels(batch, limit)
        except TimeoutError:
            if limit < patience:
                raise OutOfTimeError from None
            raise TrialError(f"no result after {limit:.0f} seconds") from None

    def _record(self, name: str, text: str, times: Times) -> Record:
        operations = self.lists[name].operations
        return Record(
            name, text, seconds=times.seconds, against=times.against, noise=times.noise,
            operations=operations,
        )  # fmt: skip

    def _finish(self) -> None:
        """Take what won, once it won again together, and as a whole."""
        winners = {name: found[0] for name in self.lists if (found := self.database.winners(name))}
        if not winners:
            self.outcome.reason = "no candidate was faster by more than the noise"
            return
        self.progress("tuning, what won together", int(self.seconds), int(self.seconds))
        limit = 2 * max(LEAST_LIMIT, PATIENCE * self._longest)
        try:
            winners = self._confirmed(winners, limit)
            if not winners:
                self.outcome.reason = "what won did not win again"
                return
            for some in _subsets(winners, self.outcome.shares):
                decisions = {name: record.decision for name, record in some.items()}
                whole = self.trials.whole(decisions, limit)
                self.outcome.whole = whole
                record = self._whole_record(decisions, whole)
                self.database.put(record)
                if record.wins(LEAST_WHOLE_GAIN):
                    self.outcome.decisions = decisions
                    return
                if self._remaining <= 0:
                    break
        except (TrialError, TimeoutError) as failure:
            self.outcome.reason = f"what won could not be measured together: {failure}"
            return
        self.outcome.reason = "the network as a whole was not faster by more than the noise"

    def _confirmed(self, winners: dict[str, Record], limit: float) -> dict[str, Record]:
        """Those that win again beside each other; the worse of both measurements is kept."""
        times = self.trials.kernels({name: each.decision for name, each in winners.items()}, limit)
        for name, record in winners.items():
            again = self._record(name, record.decision, times.get(name, Times(0.0, 0.0)))
            self.database.put(min(record, again, key=lambda each: each.gain))
        return {
            name: record
            for name, each in winners.items()
            if (record := self.database.records[name, each.decision]).wins()
        }

    def _whole_record(self, decisions: Decisions, times: Times) -> Record:
        return Record(
            network_name(self.lists), spelled(decisions), seconds=times.seconds,
            against=times.against, noise=times.noise, operations="whole network",
        )  # fmt: skip


def _subsets(winners: Mapping[str, Record], shares: Mapping[str, float]) -> list[dict[str, Record]]:
    """All winners; then the half of them that saves most."""
    saved = sorted(winners, key=lambda name: -shares.get(name, 0.0) * winners[name].gain)
    sizes = dict.fromkeys(size for size in (len(saved), len(saved) // 2) if size)
    return [{name: winners[name] for name in saved[:size]} for size in sizes]


def combined(winners: Sequence[Record]) -> str:
    """The best decision, and of the others what it leaves open; empty where there is nothing."""
    numbers: dict[str, str] = {}
    parts = 0
    for record in winners:
        more = dict(pair.split("=", 1) for pair in record.decision.split())
        if not numbers.keys() & more.keys():
            numbers |= more
            parts += 1
    return " ".join(f"{name}={number}" for name, number in numbers.items()) if parts > 1 else ""
