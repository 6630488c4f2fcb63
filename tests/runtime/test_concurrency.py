"""Threads, forks and the end of a process leave sessions right and processes alive."""
# pyright: standard

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from leptonc.runtime import Session, load
from tests.runtime.conftest import Artifacts, Run

WEIGHT = np.array([1, 2, 3, 4], "f4")

PRELUDE = """
import os, sys, threading, time
import numpy as np
from leptonc.runtime import load

W = np.array([1, 2, 3, 4], "f4")

def check(session, rows=3, times=20):
    for k in range(times):
        x = np.full((rows + k, 4), k, "f4")
        assert (session.run({"x": x})["y"] == x + W).all()

def wait(child):
    for _ in range(600):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0, f"child ended with {status}"
            return
        time.sleep(0.05)
    os.kill(child, 9)
    raise AssertionError("the child hangs")
"""


def hammer(session: Session, seed: int, times: int) -> None:
    random = np.random.default_rng(seed)
    for _ in range(times):
        x = random.random((int(random.integers(0, 40)), 4), np.float32)
        np.testing.assert_array_equal(session.run({"x": x})["y"], x + WEIGHT)


@pytest.mark.parametrize(("name", "threads"), [("affine", 1), ("parallel", 1), ("parallel", 2)])
def test_many_threads_share_a_session(artifacts: Artifacts, name: str, threads: int) -> None:
    times = 600 if threads == 1 else 150
    with load(artifacts(name), threads) as session, ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(hammer, session, seed, times) for seed in range(4)]:
            done.result()
        assert session.report.calls == 4 * times


def test_sessions_of_different_threads_live_side_by_side(artifacts: Artifacts) -> None:
    path = artifacts("parallel")
    with load(path, 1) as one, load(path, 2) as two, load(path, 3) as three:
        for session in (one, two, three, one, three):
            hammer(session, 0, 20)


def test_one_thread_starts_no_other(artifacts: Artifacts, run_python: Run) -> None:
    code = (
        PRELUDE
        + """
before = len(os.listdir("/proc/self/task"))
session = load(sys.argv[1], 1)
check(session)
for _ in range(200):  # the system lists a thread that was joined until it has cleared it away
    if len(os.listdir("/proc/self/task")) == before:
        break
    time.sleep(0.01)
assert len(os.listdir("/proc/self/task")) == before
"""
    )
    run_python(code, artifacts("parallel"))


def test_runs_leave_the_affinity_of_the_caller_alone(artifacts: Artifacts, run_python: Run) -> None:
    code = (
        PRELUDE
        + """
allowed = {max(os.sched_getaffinity(0))}
os.sched_setaffinity(0, allowed)
before = set(os.listdir("/proc/self/task")) - {str(os.getpid())}  # numpy's own
session = load(sys.argv[1], 4)
check(session)
tasks = set(os.listdir("/proc/self/task")) - before
assert len(tasks) >= 5, tasks  # this one, the one that runs, and three workers
for task in tasks:
    assert os.sched_getaffinity(int(task)) == allowed
"""
    )
    run_python(code, artifacts("parallel"))


def test_a_closed_parallel_session_ends_its_threads(artifacts: Artifacts) -> None:
    before = threading.active_count()
    session = load(artifacts("parallel"), 2)
    hammer(session, 0, 3)
    assert threading.active_count() > before
    ours = [t for t in threading.enumerate() if t.name == "leptonc-run"]
    session.close()
    for thread in ours:
        thread.join(10)
    assert threading.active_count() == before


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("ending", ["os._exit(0)", "sys.exit(0)"])
def test_a_session_runs_in_a_forked_child(
    artifacts: Artifacts, run_python: Run, threads: int, ending: str
) -> None:
    # After half a second the native workers sleep, which is when a child would hang.
    code = (
        PRELUDE
        + f"""
session = load(sys.argv[1], {threads})
check(session)
for turn in range(4):
    time.sleep(0.6 if turn == 2 else 0)
    child = os.fork()
    if child == 0:
        if turn % 2 == 0:
            check(session)
            helpers = [threading.Thread(target=check, args=(session,)) for _ in range(3)]
            [helper.start() for helper in helpers]
            [helper.join() for helper in helpers]
            grandchild = os.fork()
            if grandchild == 0:
                check(session)
                sys.exit(0)
            wait(grandchild)
            session.close()
        {ending}
    wait(child)
    check(session)
"""
    )
    run_python(code, artifacts("parallel"))


@pytest.mark.parametrize("threads", [1, 2])
def test_forks_in_the_middle_of_other_calls_are_safe(
    artifacts: Artifacts, run_python: Run, threads: int
) -> None:
    code = (
        PRELUDE
        + f"""
session = load(sys.argv[1], {threads})
stop = threading.Event()

def work():
    while not stop.is_set():
        check(session, times=5)

others = [threading.Thread(target=work) for _ in range(3)]
[other.start() for other in others]
for _ in range(15):
    child = os.fork()
    if child == 0:
        check(session)
        os._exit(0)
    wait(child)
stop.set()
[other.join() for other in others]
session.close()
"""
    )
    run_python(code, artifacts("parallel"))


def test_multiprocessing_by_fork_works(artifacts: Artifacts, run_python: Run) -> None:
    code = (
        PRELUDE
        + """
import multiprocessing
session = load(sys.argv[1], 2)
check(session)

def work(value):
    return float(session.run({"x": np.full((1, 4), value, "f4")})["y"].sum())

with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(work, range(20)) == [4.0 * v + 10 for v in range(20)]
"""
    )
    run_python(code, artifacts("parallel"))


def test_sessions_pass_to_spawned_processes(artifacts: Artifacts, run_python: Run) -> None:
    code = (
        PRELUDE
        + """
from concurrent.futures import ProcessPoolExecutor
import multiprocessing
session = load(sys.argv[1], 2)
x = np.ones((2, 4), "f4")
with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
    assert (pool.submit(session.run, {"x": x}).result()["y"] == x + W).all()
"""
    )
    run_python(code, artifacts("parallel"))


ENDINGS = {
    "live": "",
    "closed": "session.close()",
    "in a cycle": "session.me = session",
    "with outputs": "kept = session.run({'x': np.ones((2, 4), 'f4')})",
    "in a thread": "threading.Thread(target=check, args=(session, 3, 200)).start()",
    "in a daemon": "threading.Thread(target=check, args=(session, 3, 10**6), daemon=True).start()",
    "in an exit hook": "import atexit; atexit.register(check, session)",
    "deleted": "del session",
}


@pytest.mark.parametrize("ending", list(ENDINGS))
def test_a_process_ends_well(artifacts: Artifacts, run_python: Run, ending: str) -> None:
    code = f"""
for threads in (1, 2):
    session = load(sys.argv[1], threads)
    check(session)
    {ENDINGS[ending]}
"""
    run_python(PRELUDE + code, artifacts("parallel"))


def test_a_daemon_gets_its_answer_before_all_ends(artifacts: Artifacts, run_python: Run) -> None:
    code = """
import atexit, os, sys, threading

def last():  # hooks run in the order from the last to the first
    assert "leptonc-run" in [thread.name for thread in threading.enumerate()]
    print("answered" if lane in session._pool._held else "in flight")

atexit.register(last)
""" + (
        PRELUDE
        + """
session = load(sys.argv[1], 2)
check(session)
(lane,) = session._pool.lanes
threading.Thread(target=check, args=(session, 3, 10**6), daemon=True).start()
"""
    )
    assert run_python(code, artifacts("parallel")) == "answered\n"


def test_too_little_memory_is_an_error_and_the_session_goes_on(
    artifacts: Artifacts, run_python: Run
) -> None:
    code = (
        PRELUDE
        + """
import resource
from leptonc.ir.diagnostics import LeptonError
session = load(sys.argv[1], 1)
check(session)
x = np.ones((6_000_000, 4), "f4")  # more than the C library reserves for small blocks
size = int(open("/proc/self/statm").read().split()[0]) * 4096
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
ends = set()
for extra in range(0, 288 << 20, 12 << 20):
    resource.setrlimit(resource.RLIMIT_AS, (size + extra, hard))
    try:
        session.run({"x": x})
        ends.add("done")
    except LeptonError as error:
        assert error.code == "E704" and "not enough memory" in error.message, error
        ends.add("refused")
    except MemoryError:  # of numpy, for the aligned copy of the input
        ends.add("no copy")
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    check(session, times=2)
    session._native.free_memory()
assert {"refused", "done"} <= ends, ends
"""
    )
    run_python(code, artifacts("affine"))
