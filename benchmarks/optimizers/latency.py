# pyright: standard
"""How fast onnxruntime runs several forms of one model, and what they compute.

``python -m benchmarks.optimizers.latency LEVEL SECONDS FEEDS.npz FILE...`` prints JSON: for each
file the fastest call in milliseconds and how far its outputs are from those of the first file, in
root mean squares; or the reason why it does not run. A process of its own, since a wrong model may
end it.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

LEVELS = {"off": "ORT_DISABLE_ALL", "on": "ORT_ENABLE_ALL"}
LEAST = 5
"""Every form is run at least this often."""


def load(path: str, level: str) -> onnxruntime.InferenceSession:
    """A session of one thread."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, LEVELS[level])
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def deviation(got: list[Any], expected: list[Any]) -> float:
    """The largest difference of any output, in its root mean squares; infinite for other types."""
    worst = 0.0
    for ours, theirs in zip(got, expected, strict=True):
        if not isinstance(theirs, np.ndarray):
            worst = max(worst, 0.0 if ours == theirs else float("inf"))
            continue
        if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
            return float("inf")
        if ours.dtype.kind not in "fiub":
            worst = max(worst, 0.0 if (ours == theirs).all() else float("inf"))
            continue
        wanted = theirs.astype(np.float64)
        if not np.array_equal(np.isfinite(ours), np.isfinite(wanted)):
            return float("inf")
        difference = np.abs(np.nan_to_num(ours.astype(np.float64) - wanted))
        spread = float(np.sqrt(np.mean(np.square(np.nan_to_num(wanted))))) if wanted.size else 1.0
        worst = max(worst, float(difference.max(initial=0)) / max(spread, 1e-30))
    return worst


def compare(level: str, seconds: float, feeds: dict[str, Any], paths: list[str]) -> list[Any]:
    """One entry for each path; all take turns."""
    sessions: list[Any] = []
    for path in paths:
        try:
            sessions.append(load(path, level))
        except Exception as problem:
            sessions.append(f"{type(problem).__name__}: {problem}")
    names = [output.name for output in sessions[0].get_outputs()]
    expected = sessions[0].run(names, feeds)
    entries: list[dict[str, Any]] = []
    for session in sessions:
        try:
            if isinstance(session, str):
                raise RuntimeError(session)
            off = deviation(session.run(names, feeds), expected)
            entries.append({"milliseconds": float("inf"), "deviation": off})
        except Exception as problem:
            entries.append({"problem": str(problem)[:300]})
    running = [(s, e) for s, e in zip(sessions, entries, strict=True) if "problem" not in e]
    end, rounds = time.perf_counter() + seconds, 0
    while time.perf_counter() < end or rounds < LEAST:
        first = rounds % len(running)
        rounds += 1
        for session, entry in running[first:] + running[:first]:
            session.run(names, feeds)  # the caches are still those of the form before
            start = time.perf_counter()
            session.run(names, feeds)
            spent = (time.perf_counter() - start) * 1e3
            entry["milliseconds"] = min(entry["milliseconds"], spent)
    return entries


if __name__ == "__main__":
    level, seconds, file, *paths = sys.argv[1:]
    given = dict(np.load(Path(file), allow_pickle=False))
    print(json.dumps(compare(level, float(seconds), given, paths)))
