"""What a command costs: its wall-clock time and the memory of all processes it starts."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from leptonc.ir.diagnostics import LeptonBug

INTERVAL = 0.02


@dataclass(frozen=True)
class Cost:
    """The cost of one command, and what it printed."""

    seconds: float
    peak_bytes: int
    printed: str


def measure(command: Sequence[str], environment: dict[str, str]) -> Cost:
    """Run the command to its end; pages that its processes share count once."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as printed, tempfile.TemporaryFile("w+") as complaints:
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=printed, stderr=complaints
        )
        peak = 0
        while process.poll() is None:
            peak = max(peak, sum(map(resident, descendants(process.pid))))
            time.sleep(INTERVAL)
        seconds = time.perf_counter() - start
        printed.seek(0)
        complaints.seek(0)
        if process.returncode:
            reason = complaints.read()[-2000:]
            raise LeptonBug(f"a measured command ended with {process.returncode}", notes=[reason])
        return Cost(seconds, peak, printed.read())


def descendants(root: int) -> list[int]:
    """The process and all that come from it."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            stat = _text(Path("/proc", entry, "stat")).rpartition(")")[2].split()
            if len(stat) > 1:
                parents[int(entry)] = int(stat[1])
    family = [root]
    for member in family:
        family += [child for child, parent in parents.items() if parent == member]
    return family


def resident(process: int) -> int:
    """The bytes of memory a process holds, with its share of what it shares; 0 once it ended."""
    for line in _text(Path("/proc", str(process), "smaps_rollup")).splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""
