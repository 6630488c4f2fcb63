"""The process that measures: two artefacts take turns, with each kernel's time or as a whole.

It reads a job from standard input and writes one line of JSON. What crashes, hangs or takes all
memory takes this process with it and no other.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonc.cli.inputs import random_input
from leptonc.runtime import Session, load
from leptonc.runtime.clock import clock
from leptonc.runtime.lanes import GO_ON

BLOCK = 0.03
"""Seconds that one artefact runs before the other one has its turn."""
LEAST_BLOCKS = 6
MOST_RUNS = 200
"""Runs in a turn."""
LARGEST_DIFFERENCE = 0.05
"""Outputs whose root mean squares differ by more than this part of them are not of rounding."""

Feeds = Mapping[str, Any]


def main() -> None:
    """Do the job on standard input."""
    job = json.loads(sys.stdin.read())
    with load(job["plain"]) as plain, load(job["tuned"]) as tuned:
        feeds = _feeds(plain, job)
        difference = _difference(plain, tuned, feeds)
        answer: dict[str, Any] = {"difference": difference}
        if difference <= LARGEST_DIFFERENCE:
            measure = _whole if job["whole"] else _kernels
            gc.disable()
            answer |= measure((plain, tuned), feeds, job["seconds"])
    sys.stdout.write(json.dumps(answer) + "\n")


def _feeds(session: Session, job: Mapping[str, Any]) -> Feeds:
    generator = np.random.default_rng(0)
    given: dict[str, Any] = {}
    if job["inputs"] is not None:
        with np.load(job["inputs"], allow_pickle=False) as arrays:
            given = {name: arrays[name] for name in arrays.files}
    return {
        spec.name: given[spec.name] if spec.name in given else random_input(spec, generator, {})
        for spec in session.signature.inputs
    }


def _difference(plain: Session, tuned: Session, feeds: Feeds) -> float:
    """How far outputs are apart, relative to them; 0 where equal runs differ, too."""
    expected, again, found = plain.run(feeds), plain.run(feeds), tuned.run(feeds)
    if _apart(expected, again) > 0:
        return 0.0
    return _apart(expected, found)


def _apart(expected: Mapping[str, Any], found: Mapping[str, Any]) -> float:
    worst = 0.0
    for name in expected:
        wide, other = _wide(expected[name]), _wide(found[name])
        if not wide.size:
            continue
        finite = np.isfinite(wide) & np.isfinite(other)
        apart = float(np.sqrt(np.mean(np.square(np.where(finite, wide - other, 0.0)))))
        size = float(np.sqrt(np.mean(np.square(np.where(finite, wide, 0.0)))))
        unlike = float(np.count_nonzero(np.isfinite(wide) != np.isfinite(other)) / wide.size)
        worst = max(worst, apart / max(size, 1e-20), unlike)
    return worst


def _wide(array: Any) -> NDArray[np.float64]:
    """Numbers that may be rounded in double precision; nothing of others."""
    kind = getattr(array, "dtype", np.dtype(bool)).kind
    return np.asarray(array if kind in "fV" else [], np.float64)


def _runs_in_block(session: Session, feeds: Feeds) -> int:
    session.run(feeds)
    start = time.perf_counter()
    session.run(feeds)
    return max(1, min(MOST_RUNS, round(BLOCK / (time.perf_counter() - start))))


def _whole(sessions: Sequence[Session], feeds: Feeds, seconds: float) -> dict[str, Any]:
    """The seconds of the fastest run of each turn, and of the middle one of all."""
    count = _runs_in_block(sessions[0], feeds)
    turns: list[list[float]] = [[], []]
    times: list[list[float]] = [[], []]
    for _ in _blocks(seconds):
        for session, own, all_times in zip(sessions, turns, times, strict=True):
            session.run(feeds)  # what the other one left in the caches is gone after
            taken: list[float] = []
            for _ in range(count):
                start = time.perf_counter()
                session.run(feeds)
                taken.append(time.perf_counter() - start)
            own.append(min(taken))
            all_times += taken
    return {
        name: {"turns": {"": own}, "runs": len(taken)}
        for name, own, taken in zip(("plain", "tuned"), turns, times, strict=True)
    }


def _blocks(seconds: float) -> Iterator[int]:
    end, block = time.perf_counter() + seconds, 0
    while block < LEAST_BLOCKS or time.perf_counter() < end:
        yield block
        block += 1


def _kernels(sessions: Sequence[Session], feeds: Feeds, seconds: float) -> dict[str, Any]:
    """The fastest times of each kernel's calls of each turn, added up."""
    names = [_calls(session, feeds) for session in sessions]
    notes: list[int] = []
    turns: list[dict[str, list[float]]] = [{}, {}]
    with clock(notes) as look, sessions[0].observed(look), sessions[1].observed(look):
        for session in sessions:
            session.run(feeds)  # warms the new machine up
        for _ in _blocks(seconds):
            for session, called, own in zip(sessions, names, turns, strict=True):
                session.run(feeds)
                fastest: list[int] = []
                runs, end = 0, time.perf_counter() + BLOCK
                while not runs or time.perf_counter() < end:
                    runs += 1
                    notes.clear()
                    session.run(feeds)
                    taken = [b - a for a, b in zip(notes[::2], notes[1::2], strict=True)]
                    fastest = [*map(min, fastest, taken)] or taken
                for name, sum_of_calls in _sums(called, fastest).items():
                    own.setdefault(name, []).append(sum_of_calls)
    return {name: {"turns": own} for name, own in zip(("plain", "tuned"), turns, strict=True)}


def _calls(session: Session, feeds: Feeds) -> list[str]:
    """The names of what a run calls, in its order."""
    found: list[str] = []

    def look(function: object, name: str, before: bool, *rest: object) -> int:
        if before:
            found.append(str(name))
        return GO_ON

    with session.observed(look):
        session.run(feeds)
    return found


def _sums(names: list[str], times: list[int]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for name, taken in zip(names, times, strict=False):
        sums[name] = sums.get(name, 0.0) + taken * 1e-9
    return sums


def write_inputs(inputs: Mapping[str, Any], path: Path) -> None:
    """Write what the measuring process feeds the network."""
    np.savez(path, allow_pickle=False, **{name: np.asarray(each) for name, each in inputs.items()})
