"""Measures artefacts against other runtimes: the same inputs and threads, taking turns."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from leptonc.ir.diagnostics import LeptonError
from leptonc.tools.bench_peers import Run, peer_of, reference

Array = NDArray[Any]
Feeds = Mapping[str, Array]

LEAST = 3
"""Turns that every contender gets, however long they take."""
EXACT = "leptonc fp32"
"""The name of the artefact that another one is held against."""
REST = 0.004
"""Seconds until the threads of a contender that had several sleep instead of waiting for work."""
_WORDS = 300
"""Letters that are kept of what a peer says about a model that it cannot run."""


class Runnable(Protocol):
    """What is measured: a loaded artefact or anything else that runs on named arrays."""

    def run(self, feeds: Feeds, /) -> Mapping[str, Array]:
        """The outputs by name."""
        ...


@dataclass(frozen=True)
class Row:
    """How fast one contender is, and how near to the reference."""

    name: str
    version: str
    minimum: float | None = None
    """Seconds of the fastest call."""
    median: float | None = None
    """Seconds of the middle call."""
    calls: int = 0
    deviation: float | None = None
    """Largest difference from the reference, in root mean squares of the output."""
    problem: str = ""
    """Why it does not run the model; then there are no numbers."""


def compare(
    model: Path | None, feeds: Feeds, artefact: Runnable, peers: Sequence[str], seconds: float,
    threads: int = 1, *, precision: str = "fp32", exact: Runnable | None = None,
    expected: Mapping[str, Array] | None = None,
) -> list[Row]:  # fmt: skip
    """Measure `artefact` and the named peers in turns for `seconds`; its row comes first.

    A peer that cannot run the model has a row that says why. Without a model there is neither a
    reference nor a peer. Peers are asked for the `precision` of the artefact; `exact` is the same
    model in fp32, whose row comes last. `expected` are outputs to compare with, by default those
    of the reference.
    """
    import leptonc

    versions = {"leptonc": leptonc.__version__, **{name: peer_of(name).version() for name in peers}}
    off: dict[str, float | None] = {"leptonc": None}
    runs: dict[str, Run] = {"leptonc": artefact.run}
    if exact is not None:
        runs[EXACT], versions[EXACT], off[EXACT] = exact.run, leptonc.__version__, None
    problems: dict[str, str] = {}
    if model is not None:
        expected = expected or _expected(model, feeds)
        off.update({name: _off(run(feeds), expected) for name, run in runs.items()})
        for name in peers:
            try:
                run = peer_of(name).load(model, threads, precision)
                off[name] = _off(run(feeds), expected)
                runs[name] = run
            except Exception as problem:
                words = " ".join(str(problem).split()) or type(problem).__name__
                problems[name] = words[-_WORDS:]
    times = take_turns(runs, feeds, seconds, rest=REST if threads > 1 else 0)
    return [
        Row(name, version, problem=problems[name])
        if name in problems
        else Row(
            name, version, min(times[name]), statistics.median(times[name]), len(times[name]),
            off[name],
        )
        for name, version in versions.items()
    ]  # fmt: skip


def _expected(model: Path, feeds: Feeds) -> Mapping[str, Array] | None:
    """What the reference gives; None where it does not run the model on these inputs."""
    try:
        return reference(model, feeds)
    except LeptonError:
        raise
    except Exception:
        return None


def _off(outputs: Mapping[str, Array], expected: Mapping[str, Array] | None) -> float | None:
    return None if expected is None else deviation(outputs, expected)


def take_turns(
    runs: Mapping[str, Callable[[Feeds], object]], feeds: Feeds, seconds: float, rest: float = 0
) -> dict[str, list[float]]:
    """The seconds of each call; who disturbs the machine disturbs all contenders alike.

    A turn is one call, or as many as fill 2 ms, so that short ones find warm caches. With `rest`
    each turn begins with so many seconds of sleep and a call that does not count.
    """
    turns = {name: _calls_in(0.002, run, feeds) for name, run in runs.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    gc.collect()
    gc.disable()
    try:
        end, rounds = time.perf_counter() + seconds, 0
        while time.perf_counter() < end or rounds < LEAST:
            rounds += 1
            for name, run in runs.items():
                if rest:
                    time.sleep(rest)
                    run(feeds)
                for _ in range(turns[name]):
                    start = time.perf_counter()
                    run(feeds)
                    times[name].append(time.perf_counter() - start)
    finally:
        gc.enable()
    return times


def _calls_in(seconds: float, run: Callable[[Feeds], object], feeds: Feeds) -> int:
    """How many calls fill the time; measured on the second and third, the first warms up."""
    run(feeds)
    start = time.perf_counter()
    run(feeds)
    run(feeds)
    each = (time.perf_counter() - start) / 2
    return max(1, min(200, int(seconds / each)))


def deviation(outputs: Mapping[str, Array], expected: Mapping[str, Array]) -> float:
    """The largest difference of any output, in root mean squares of the expected one."""
    worst = 0.0
    for name, theirs in expected.items():
        wide = np.asarray(theirs, np.float64)
        difference = np.abs(np.asarray(outputs[name], np.float64) - wide)
        scale = float(np.sqrt(np.mean(np.square(wide)))) if wide.size else 1.0
        worst = max(worst, float(difference.max(initial=0)) / max(scale, 1e-30))
    return worst
