"""How far apart the processors are that threads run on, which may change from minute to minute.

A virtual machine's processors may be two cores that share a third cache now, and two that do not
a minute later. Two threads then take up to twice as long, whatever the runtime.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

SOURCE = Path(__file__).with_name("cores.c")
CHANGED = 1.7
"""Times that differ by less are of the same place: 30 to 50 ns in one third cache, 150 to 200
between two."""
TRIES = 4

Measured = TypeVar("Measured")


def core_to_core() -> float | None:
    """The nanoseconds that a line takes from the first processor to the second, if there is one."""
    first, *others = sorted(os.sched_getaffinity(0))
    if not others:
        return None
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "cores.so"
        command = ["cc", "-O2", "-shared", "-fPIC", "-pthread", str(SOURCE), "-o", str(library)]
        subprocess.run(command, check=True)
        function = ctypes.CDLL(str(library)).core_to_core
    function.restype = ctypes.c_double
    found = float(function(first, others[0]))
    return round(found, 1) if found > 0 else None


def in_one_place(measure: Callable[[], Measured]) -> tuple[Measured, list[float]]:
    """What was measured while the processors stayed where they are, and how far apart they were.

    That is before and after it; where they never stay, the last of some tries.
    """
    for left in reversed(range(TRIES)):
        before = core_to_core()
        found = measure()
        times = [each for each in (before, core_to_core()) if each is not None]
        if not left or not times or max(times) < CHANGED * min(times):
            return found, times
    raise AssertionError  # the last try returns
