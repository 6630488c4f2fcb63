"""Trials inside the network: another artefact of the same graph, run by a process of its own."""

from __future__ import annotations

import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import add
from pathlib import Path
from typing import Any

from leptonc.backends.base import Backend, LibraryReport
from leptonc.ir.diagnostics import LeptonBug, LeptonError
from leptonc.ir.graph import Graph
from leptonc.passes.clone import clone_graph
from leptonc.tuning.search import Decisions, Times, TrialError

LEAST_SECONDS, MOST_SECONDS = 1.2, 4.0
"""For how long the kernels of two artefacts are measured."""
MOST_PART = 0.03
"""As `MOST_SECONDS`, as a part of the seconds of tuning."""
RUNS = 12
"""So many runs of each are worth waiting for."""
PROCESSES = 4
"""Whole networks are measured in so many processes."""

MIDDLE_ERROR, NORMAL_SPREAD = 1.25, 1.48
"""The error of a middle against that of a mean, and the spread of numbers against the distance of
half of them from their middle: where they are spread as usual."""

_Turns = dict[str, list[float]]
Save = Callable[[Graph, Path, Path, LibraryReport, Decisions], object]


@dataclass
class NetworkTrials:
    """Measures decisions of an optimised graph; its artefacts go into `folder`."""

    graph: Graph
    backend: Backend
    save: Save
    """Writes the artefact of a prepared graph and its library."""
    folder: Path
    cache_folder: Path | None
    seconds: float
    """How long all trials together take."""
    inputs: Path | None = None
    """A file of the arrays to run on; what it lacks is random."""
    processes: int = PROCESSES
    """Those that measure whole networks."""
    count: int = field(default=0, init=False)
    worst: float = field(default=0.0, init=False)
    """The largest difference of outputs from those without decisions, relative to them."""
    _plain: tuple[Path, Mapping[str, str]] = field(init=False)
    _run_seconds: float = field(default=0.0, init=False)

    def start(self) -> None:
        """Make the artefact without decisions."""
        self._plain = self.build({}, None)

    @contextmanager
    def _artefact(
        self, decisions: Decisions, limit: float
    ) -> Generator[tuple[Path, Mapping[str, str]]]:
        """Within it, the artefact by some decisions; that without any stays."""
        path, workloads = self.build(decisions, limit) if decisions else self._plain
        try:
            yield path, workloads
        finally:
            if decisions:
                path.unlink(missing_ok=True)

    def kernels(self, decisions: Decisions, limit: float) -> Mapping[str, Times]:
        """The times of kernels by workload."""
        begin = time.monotonic()
        with self._artefact(decisions, limit) as (tuned, workloads):
            left = limit - (time.monotonic() - begin)
            answer = self._measured((self._plain[0], tuned), left, whole=False)
        return _by_workload(answer, self._plain[1], workloads)

    def whole(self, decisions: Decisions, limit: float) -> Times:
        """The times of whole runs in several processes: not won where one of them sees no gain.

        Where memory lies differs between processes, and with it times by some parts in a hundred.
        The two swap their places, since the one that is loaded later may be favoured.
        """
        end = time.monotonic() + limit
        pairs: list[tuple[list[float], list[float]]] = []
        with self._artefact(decisions, limit) as (tuned, _):
            for turn in range(self.processes):
                paths = (self._plain[0], tuned) if turn % 2 == 0 else (tuned, self._plain[0])
                answer = self._measured(paths, end - time.monotonic(), whole=True)
                both = [answer[which]["turns"][""] for which in ("plain", "tuned")]
                pairs.append((both[turn % 2], both[1 - turn % 2]))
        return agreed(pairs)

    def build(self, decisions: Decisions, limit: float | None) -> tuple[Path, Mapping[str, str]]:
        """The artefact by these decisions, and the workloads by the names of its kernels."""
        self.count += 1
        graph = clone_graph(self.graph)
        workloads = self.backend.prepare(graph, decisions)
        library = self.folder / "library.so"
        path = self.folder / f"{self.count}.lepton"
        try:
            built = self.backend.build(
                graph, library, cache_folder=self.cache_folder,
                progress=lambda what, done, total: None, limit=limit,
            )  # fmt: skip
        except (LeptonBug, LeptonError) as problem:
            raise TrialError(f"does not compile: {problem.message}"[:300]) from None
        self.save(graph, library, path, built, decisions)
        return path, workloads

    def _measured(self, paths: tuple[Path, Path], limit: float, *, whole: bool) -> dict[str, Any]:
        most = min(MOST_SECONDS, self.seconds * MOST_PART)
        seconds = min(max(LEAST_SECONDS, 2 * RUNS * self._run_seconds), most)
        job = {
            "plain": str(paths[0]), "tuned": str(paths[1]), "whole": whole, "seconds": seconds,
            "inputs": None if self.inputs is None else str(self.inputs),
        }  # fmt: skip
        answer = run_child(job, limit)
        self.worst = max(self.worst, answer["difference"])
        if "plain" not in answer:
            raise TrialError(f"other numbers, off by {answer['difference']:.0e}")
        if not whole:
            self._run_seconds = sum(map(min, answer["plain"]["turns"].values()))
        return answer


PROGRAM = "from leptonc.tuning.child import main; main()"


def run_child(job: Mapping[str, Any], limit: float, program: str = PROGRAM) -> dict[str, Any]:
    """What the measuring process answers; TrialError where it dies, TimeoutError where it hangs."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", program]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment, start_new_session=True,
    ) as child:  # fmt: skip
        try:
            out, complaints = child.communicate(json.dumps(job), timeout=max(limit, 0.1))
        except BaseException as problem:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
            if isinstance(problem, subprocess.TimeoutExpired):
                raise TimeoutError(f"no times after {limit:.0f} seconds") from None
            raise
    lines = [line for line in out.splitlines() if line.startswith("{")]
    if child.returncode or not lines:
        status = child.returncode
        how = f"ended by {signal.Signals(-status).name}" if status < 0 else f"status {status}"
        said = complaints.strip().splitlines()[-1:]
        raise TrialError(": ".join([f"the run failed, {how}", *said])[:300])
    return json.loads(lines[-1])


def _by_workload(
    answer: Mapping[str, Any], plain: Mapping[str, str], tuned: Mapping[str, str]
) -> dict[str, Times]:
    """Kernels' times, those of a workload added up; what has none goes by its own name."""
    before = _added(answer["plain"]["turns"], plain)
    after = _added(answer["tuned"]["turns"], tuned)
    return {name: compared(own, after[name]) for name, own in before.items() if name in after}


def _added(turns: Mapping[str, Sequence[float]], workloads: Mapping[str, str]) -> _Turns:
    found: _Turns = {}
    for kernel, seconds in turns.items():
        name = workloads.get(kernel, kernel)
        found[name] = [*map(add, found[name], seconds)] if name in found else [*seconds]
    return found


def agreed(pairs: Sequence[tuple[Sequence[float], Sequence[float]]]) -> Times:
    """What processes agree upon, each with turns without decisions and by them.

    The noise is half of how far apart their ratios are.
    """
    times = [compared(plain, tuned) for plain, tuned in pairs]
    ratios = [each.seconds / each.against for each in times]
    against = min(each.against for each in times)
    ratio = statistics.median(ratios) if max(ratios) < 1 else max(ratios)
    return Times(ratio * against, against, (max(ratios) - min(ratios)) / 2)


def compared(plain: Sequence[float], tuned: Sequence[float]) -> Times:
    """The fastest turns; by decisions it is no less than the middle ratio of turns says.

    The noise is twice the error of that middle, from how far the ratios are apart.
    """
    ratios = [own / other for own, other in zip(tuned, plain, strict=True) if other > 0]
    if not ratios:
        return Times(0.0, 0.0)
    middle = statistics.median(ratios)
    apart = statistics.median(abs(ratio - middle) for ratio in ratios)
    error = MIDDLE_ERROR * NORMAL_SPREAD * apart / math.sqrt(len(ratios))
    against = min(plain)
    return Times(max(min(tuned), middle * against), against, 2 * error)
