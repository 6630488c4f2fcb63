"""One model beside its peers in a process of its own, since a peer may end the process.

``python -m benchmarks.turns MODEL ARTEFACT FEEDS.npz THREADS SECONDS PEERS`` prints rows as JSON.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Sequence
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
    model: Path, artefact: Path, feeds: Path, peers: Sequence[str], *, threads: int, seconds: float
) -> list[dict[str, Any]]:
    """The row of leptonc and one for each peer; a peer that ends the process has its reason."""
    command = [sys.executable, "-m", "benchmarks.turns", str(model), str(artefact), str(feeds)]
    command += [str(threads), str(seconds), ",".join(peers)]
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
        ours = rows(model, artefact, feeds, (), threads=threads, seconds=seconds)
        version = peer_of(peers[0]).version()
        return [*ours, {"name": peers[0], "version": version, "problem": problem}]
    # one of them ends the process: each by itself, and ours beside the first that does not
    alone = [
        rows(model, artefact, feeds, (peer,), threads=threads, seconds=seconds) for peer in peers
    ]
    ours = next((pair[0] for pair in alone if "calls" in pair[1]), alone[0][0])
    return [ours, *(pair[1] for pair in alone)]


def main() -> None:
    """Measure, and tell in JSON."""
    model, artefact, file, threads, seconds, peers = sys.argv[1:]
    feeds = {name: array for name, array in np.load(file, allow_pickle=False).items()}
    with load(artefact, int(threads)) as session:
        names = [name for name in peers.split(",") if name]
        found = compare(Path(model), feeds, session, names, float(seconds), int(threads))
    sys.stdout.write(json.dumps([dataclasses.asdict(row) for row in found]) + "\n")


if __name__ == "__main__":
    main()
