"""The time of every call that a program makes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from leptonc.runtime import Session
from leptonc.runtime.clock import clock
from leptonc.runtime.lanes import GO_ON

Argument = tuple[tuple[int, ...], int] | int
"""The extents and bits of an element of a tensor, or a number."""

_LEAST = 3
_SEARCH = 40


@dataclass(frozen=True)
class Call:
    """One call of a kernel."""

    name: str
    arguments: tuple[Argument, ...]
    seconds: float


@dataclass(frozen=True)
class Profile:
    """A run without anybody looking, and its calls of kernels in their order.

    What they do not take of the run goes by between them: memory, checks, and Python.
    """

    seconds: float
    calls: tuple[Call, ...]


class _Shapes:
    """Sees what is called with what."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Argument, ...]]] = []

    def look(self, function: object, name: str, before: bool, result: object, *given: Any) -> int:
        if before:
            self.calls.append((str(name), tuple(map(_argument, given))))
        return GO_ON


def _argument(value: Any) -> Argument:
    shape = getattr(value, "shape", None)
    if shape is None or not hasattr(value, "dtype"):
        return value if isinstance(value, int) else 0
    bits = getattr(value.dtype, "bits", 0) * getattr(value.dtype, "lanes", 1)
    return tuple(map(int, shape)), bits


def profile(session: Session, feeds: Mapping[str, Any], seconds: float) -> Profile:
    """The kernels of a run on these inputs, each call as fast as it was in any of the runs.

    Looking costs each call about the same: what the shortest of the machine's own calls, which do
    next to nothing, seem to take, or more where kernels would take longer than a whole run.
    """
    shapes = _Shapes()
    session.run(feeds)
    with session.observed(shapes.look):
        session.run(feeds)
    notes: list[int] = []
    fastest: list[int] = []
    with clock(notes) as look, session.observed(look):
        session.run(feeds)  # warms the new machine up
        end, runs = time.perf_counter() + seconds / 2, 0
        while time.perf_counter() < end or runs < _LEAST:
            runs += 1
            notes.clear()
            session.run(feeds)
            taken = [after - before for before, after in zip(notes[::2], notes[1::2], strict=True)]
            if len(taken) == len(shapes.calls):
                fastest = [*map(min, fastest, taken)] or taken
    whole = _fastest_run(session, feeds, seconds / 2)
    named = list(zip(shapes.calls, fastest, strict=False))
    idle = min((count for (name, _), count in named if not is_kernel(name)), default=0)
    kernels = [(*call, count) for call, count in named if is_kernel(call[0])]
    found = _without_looking([max(count - idle, 0) * 1e-9 for _, _, count in kernels], whole)
    calls = (
        Call(name, arguments, each)
        for (name, arguments, _), each in zip(kernels, found, strict=True)
    )
    return Profile(whole, tuple(calls))


def is_kernel(name: str) -> bool:
    """True for the name of a kernel; others are functions of the virtual machine."""
    return name.startswith("k_")


def _fastest_run(session: Session, feeds: Mapping[str, Any], seconds: float) -> float:
    session.run(feeds)
    best, end, runs = float("inf"), time.perf_counter() + seconds, 0
    while time.perf_counter() < end or runs < _LEAST:
        runs += 1
        start = time.perf_counter()
        session.run(feeds)
        best = min(best, time.perf_counter() - start)
    return best


def _without_looking(taken: Sequence[float], whole: float) -> list[float]:
    """The times less what is the same for each, such that they add up to `whole` at most."""
    low, high = 0.0, max(taken, default=0.0)
    if sum(taken) <= whole:
        return list(taken)
    for _ in range(_SEARCH):
        middle = (low + high) / 2
        if sum(max(each - middle, 0.0) for each in taken) > whole:
            low = middle
        else:
            high = middle
    return [max(each - high, 0.0) for each in taken]
