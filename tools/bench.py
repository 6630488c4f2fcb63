"""Measures artefacts against other runtimes: the same inputs, one thread each, taking turns."""

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

from leptonc.tools.bench_peers import PEERS, reference

Array = NDArray[Any]
Feeds = Mapping[str, Array]


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
    minimum: float
    """Seconds of the fastest call."""
    median: float
    """Seconds of the middle call."""
    calls: int
    deviation: float
    """Largest difference from the reference, in root mean squares of the output."""


def compare(
    model: Path, feeds: Feeds, artefact: Runnable, peers: Sequence[str], seconds: float
) -> list[Row]:
    """Measure `artefact` and the named peers in turns for `seconds`; its row comes first."""
    import leptonc

    contenders: dict[str, tuple[str, Callable[[Feeds], Mapping[str, Array]]]] = {
        "leptonc": (leptonc.__version__, artefact.run)
    }
    for name in peers:
        peer = PEERS[name]
        contenders[name] = (peer.version(), peer.load(model))
    expected = reference(model, feeds)
    found = {name: deviation(run(feeds), expected) for name, (_, run) in contenders.items()}
    times = take_turns({name: run for name, (_, run) in contenders.items()}, feeds, seconds)
    return [
        Row(name, version, min(taken), statistics.median(taken), len(taken), found[name])
        for (name, (version, _)), taken in zip(contenders.items(), times.values(), strict=True)
    ]


def take_turns(
    runs: Mapping[str, Callable[[Feeds], object]], feeds: Feeds, seconds: float
) -> dict[str, list[float]]:
    """The seconds of each call; who disturbs the machine disturbs all contenders alike.

    A turn is one call, or as many as fill 2 ms, so that short ones find warm caches.
    """
    turns = {name: _calls_in(0.002, run, feeds) for name, run in runs.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    gc.collect()
    gc.disable()
    try:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or not all(times.values()):
            for name, run in runs.items():
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
