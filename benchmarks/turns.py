"""One model beside its peers in a process of its own, since a peer may end the process.

``python -m benchmarks.turns MODEL ARTEFACT FEEDS.npz THREADS SECONDS PEERS PRECISION [EXACT]``
prints rows as JSON; EXACT is an artefact of the same model in fp32.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kept import ROOT
from leptonc.runtime import load
from leptonc.tools.bench import compare
from leptonc.tools.bench_peers import peer_of

PATIENCE = 300
"""Seconds after which a measurement counts as stuck, beside those that it should take."""


def rows(
    model: Path, artefact: Path, feeds: Path, peers: Sequence[str], *, threads: int,
    seconds: float, precision: str = "fp32", exact: Path | None = None,
    expected: Path | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """The row of leptonc and one for each peer; a peer that ends the process has its reason.

    `exact` is the same model in fp32, which has a row behind them. `expected` has the outputs that
    all are compared with, instead of those of onnxruntime with its optimisations off.
    """
    more: dict[str, Any] = {
        "threads": threads, "seconds": seconds, "precision": precision, "expected": expected,
    }  # fmt: skip
    command = [sys.executable, "-m", "benchmarks.turns", str(model), str(artefact), str(feeds)]
    command += [str(threads), str(seconds), ",".join(peers), precision, str(expected or "")]
    command += [] if exact is None else [str(exact)]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False,
            timeout=PATIENCE + seconds,
        )  # fmt: skip
        problem = f"ended with {done.returncode}: {done.stderr.strip()[-300:]}"
    except subprocess.TimeoutExpired:
        done, problem = None, f"not done after {PATIENCE} s"
    if done is not None and done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    if not peers:
        return [{"name": "leptonc", "version": "", "problem": problem}]
    if len(peers) == 1:
        ours, *others = rows(model, artefact, feeds, (), **more, exact=exact)
        version = peer_of(peers[0]).version()
        return [ours, {"name": peers[0], "version": version, "problem": problem}, *others]
    # one of them ends the process: each by itself, and ours beside the first that does not
    alone = [rows(model, artefact, feeds, (peer,), **more, exact=exact) for peer in peers]
    ours, _, *others = next((each for each in alone if "calls" in each[1]), alone[0])
    return [ours, *(each[1] for each in alone), *others]


def _arrays(file: str) -> dict[str, Any]:
    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays.items())


def main() -> None:
    """Measure, and tell in JSON."""
    model, artefact, file, threads, seconds, peers, precision, expected, *more = sys.argv[1:]
    with ExitStack() as opened:
        session, *exact = (
            opened.enter_context(load(each, int(threads))) for each in (artefact, *more)
        )
        names = [name for name in peers.split(",") if name]
        found = compare(
            Path(model), _arrays(file), session, names, float(seconds), int(threads),
            precision=precision, exact=exact[0] if exact else None,
            expected=_arrays(expected) if expected else None,
        )  # fmt: skip
    sys.stdout.write(json.dumps([dataclasses.asdict(row) for row in found]) + "\n")


if __name__ == "__main__":
    main()
