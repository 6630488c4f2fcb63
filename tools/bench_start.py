"""How one runtime starts: ``python -m leptonc.tools.bench_start RUNTIME MODEL FEEDS.npz THREADS``.

Prints JSON: seconds of each stage from nothing to the first result, and the most memory that the
process held, with two more runs. A process of its own, since both are of a whole process.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

STATUS = Path("/proc/self/status")
RUNS = 3


def main() -> None:
    """Start, run and tell."""
    runtime, model, file, threads = sys.argv[1:]
    stages: dict[str, float] = {}
    last = time.perf_counter()

    def done(stage: str) -> None:
        nonlocal last
        now = time.perf_counter()
        stages[stage], last = now - last, now

    import numpy as np

    done("numpy")
    feeds = {name: array for name, array in np.load(file, allow_pickle=False).items()}
    last = time.perf_counter()
    bare = resident("VmRSS")
    if runtime == "leptonc":
        from leptonc.runtime import load

        done("import")
        run = load(model, int(threads)).run
    else:
        import importlib

        from leptonc.tools.bench_peers import peer_of

        peer = peer_of(runtime)
        importlib.import_module(peer.package)
        done("import")
        run = peer.load(Path(model), int(threads))
    done("load")
    run(feeds)
    done("first")
    for _ in range(RUNS - 1):
        run(feeds)
    memory = {"peak_bytes": resident("VmHWM"), "bare_bytes": bare}
    sys.stdout.write(json.dumps({"seconds": stages, **memory}) + "\n")


def resident(field: str) -> int:
    """A size that the system keeps of this process, in bytes."""
    for line in STATUS.read_text(encoding="utf-8").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    main()
