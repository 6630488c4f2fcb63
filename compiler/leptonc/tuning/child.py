"""The process that measures: two artefacts take turns, with each kernel's time or as a whole.

It reads a job from standard input and writes one line of JSON. What crashes, hangs or takes all
memory takes this process with it and no other.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
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
Half = dict[str, float]


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


def _whole(sessions: tuple[Session, Session], feeds: Feeds, seconds: float) -> dict[str, Any]:
    """The seconds of runs of each, fastest and middle, of every other turn."""
    count = _runs_in_block(sessions[0], feeds)
    times: list[list[list[float]]] = [[[], []], [[], []]]
    for block in _blocks(seconds):
        for session, own in zip(sessions, times, strict=True):
            session.run(feeds)  # what the other one left in the caches is gone after
            for _ in range(count):
                start = time.perf_counter()
                session.run(feeds)
                own[block % 2].append(time.perf_counter() - start)
    names = ("plain", "tuned")
    return {
        name: {
            "halves": [min(half) for half in own],
            "median": statistics.median([*own[0], *own[1]]),
            "runs": len(own[0]) + len(own[1]),
        }
        for name, own in zip(names, times, strict=True)
    }  # fmt: skip


def _blocks(seconds: float) -> Iterator[int]:
    end, block = time.perf_counter() + seconds, 0
    while block < LEAST_BLOCKS or time.perf_counter() < end:
        yield block
        block += 1


def _kernels(sessions: tuple[Session, Session], feeds: Feeds, seconds: float) -> dict[str, Any]:
    """The fastest times of each kernel's calls, added up, of every other turn."""
    count = _runs_in_block(sessions[0], feeds)
    names = [_calls(session, feeds) for session in sessions]
    notes: list[int] = []
    fastest: list[list[list[int]]] = [[[], []], [[], []]]
    with clock(notes) as look, sessions[0].observed(look), sessions[1].observed(look):
        for session in sessions:
            session.run(feeds)  # warms the new machine up
        for block in _blocks(seconds):
            for session, own in zip(sessions, fastest, strict=True):
                session.run(feeds)
                for _ in range(count):
                    notes.clear()
                    session.run(feeds)
                    taken = [b - a for a, b in zip(notes[::2], notes[1::2], strict=True)]
                    own[block % 2] = [*map(min, own[block % 2], taken)] or taken
    return {
        name: {"kernels": [_sums(own, half) for half in halves]}
        for name, own, halves in zip(("plain", "tuned"), names, fastest, strict=True)
    }


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


def _sums(names: list[str], times: list[int]) -> Half:
    sums: Half = {}
    for name, taken in zip(names, times, strict=False):
        sums[name] = sums.get(name, 0.0) + taken * 1e-9
    return sums


def write_inputs(inputs: Mapping[str, Any], path: Path) -> None:
    """Write what the measuring process feeds the network."""
    np.savez(path, allow_pickle=False, **{name: np.asarray(each) for name, each in inputs.items()})
