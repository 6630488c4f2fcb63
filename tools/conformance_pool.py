"""Worker processes that run conformance tests and may crash or hang without harm to the rest."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import TypeAlias, cast

import onnx

from leptonc.tools.conformance_cases import Case, Datum, check_outputs, feeds_of

Run: TypeAlias = Callable[[dict[str, Datum]], Mapping[str, Datum]]
Prepare: TypeAlias = Callable[[onnx.ModelProto], Run]

FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Outcome:
    """What became of one test; `failure` is empty for a pass."""

    case: Case
    failure: str
    seconds: float


@dataclass
class _Worker:
    """A child process and the test it is at."""

    process: ForkProcess
    pid: int
    connection: Connection
    case: Case | None = None
    started: float = field(default=0.0)


def run_case(case: Case, prepare: Prepare) -> str:
    """Run one test in this process; the answer is why it failed, or empty."""
    model = onnx.ModelProto.FromString(case.model)
    try:
        run = prepare(model)
        for inputs, expected in case.data_sets:
            check_outputs(case, expected, run(feeds_of(model, inputs)))
    except AssertionError as error:
        return f"wrong result: {error}"
    except Exception as error:  # a test tool reports whatever its subject raises
        return f"{type(error).__name__}: {error}"
    return ""


def for_lengths(model: onnx.ModelProto, make: Callable[[dict[str, int]], Run]) -> Run:
    """What runs the model; made at each run for the lengths of the sequences that it is given."""
    grouped = {item.name for item in model.graph.input if not item.type.HasField("tensor_type")}
    if not grouped:
        return make({})

    def run(feeds: dict[str, Datum]) -> Mapping[str, Datum]:
        lengths: dict[str, int] = {}
        for name in grouped & feeds.keys():
            value = feeds[name]
            if value is None:
                lengths[name] = 0
            elif isinstance(value, list | tuple):
                lengths[name] = len(cast("Sequence[Datum]", value))
        return make(lengths)(feeds)

    return run


def run_all(
    cases: Sequence[Case], prepare: Prepare, *, jobs: int, seconds: float
) -> Iterator[Outcome]:
    """Run every test, `jobs` at a time and none longer than `seconds`; yield them as they end."""
    waiting = deque(cases)
    workers = [_start(prepare) for _ in range(min(jobs, len(cases)))]
    try:
        for worker in workers:
            _give(worker, waiting)
        while any(worker.case for worker in workers):
            wait([worker.connection for worker in workers if worker.case], timeout=0.5)
            for index, worker in enumerate(workers):
                if worker.case is None:
                    continue
                failure = _poll(worker, seconds)
                if failure is None:
                    continue
                yield Outcome(worker.case, failure, time.monotonic() - worker.started)
                if not worker.process.is_alive():
                    workers[index] = worker = _start(prepare)
                _give(worker, waiting)
    finally:
        for worker in workers:
            _stop(worker)


def _poll(worker: _Worker, seconds: float) -> str | None:
    """Return the failure of a finished test, empty for a pass, or None while it runs."""
    try:
        if worker.connection.poll():
            return worker.connection.recv()
    except EOFError:
        worker.process.join()
        code = worker.process.exitcode or 0
        _stop(worker)
        return f"crashed: {signal.Signals(-code).name if code < 0 else f'exit status {code}'}"
    if time.monotonic() - worker.started < seconds:
        return None
    _stop(worker)
    return f"stopped after {seconds:.0f} s"


def _start(prepare: Prepare) -> _Worker:
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=_serve, args=(theirs, ours, prepare))
    process.start()
    theirs.close()
    assert process.pid is not None
    return _Worker(process, process.pid, ours)


def _give(worker: _Worker, waiting: deque[Case]) -> None:
    worker.case = waiting.popleft() if waiting else None
    worker.started = time.monotonic()
    if worker.case is not None:
        worker.connection.send(worker.case)


def _stop(worker: _Worker) -> None:
    """End the worker with all processes it started."""
    worker.connection.close()
    worker.process.kill()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(worker.pid, signal.SIGKILL)
    worker.process.join()


def _serve(connection: Connection, parents_end: Connection, prepare: Prepare) -> None:
    """Run tests until the parent hangs up; what native code prints as it dies is not shown."""
    os.setsid()
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    parents_end.close()
    warnings.simplefilter("ignore")
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            connection.send(run_case(connection.recv(), prepare))
