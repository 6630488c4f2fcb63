"""Branches whose results have no common type: which one the rest of a model was written for.

A model is read once for each choice of such branches. Only one that is alone in being fit can be
compiled for: what follows does not accept the other, so that a run that needs it fails anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from leptonc.ir.diagnostics import LeptonError

MOST_READINGS = 32
"""A model is read so many times; with more choices than that it is refused."""

Place = tuple[int, ...]
R = TypeVar("R")


@dataclass
class Forks:
    """The choices of one reading; a branch without a choice is the first one for now."""

    choices: Mapping[Place, int] = field(default_factory=dict[Place, int])
    refused: bool = False
    """Whether such branches are errors."""
    met: list[Place] = field(default_factory=list[Place])
    left_out: set[Place] = field(default_factory=set[Place])
    """Choices of which one branch cannot run."""

    def choose(self, place: Place, error: LeptonError) -> int:
        """The branch to take at `place`, where there is `error` between the two."""
        if self.refused:
            error.notes.append(
                "where the condition depends on extents of the inputs alone, fix those (--dim), "
                "and only the branch that is taken remains"
            )
            raise error
        if place not in self.met:
            self.met.append(place)
        return self.choices.get(place, 0)


@dataclass(frozen=True)
class _Reading(Generic[R]):
    result: R
    is_fit: bool
    left_out: int


def read_with_choices(read: Callable[[Forks], R], is_fit: Callable[[R], bool]) -> R:
    """What `read` gives for the only choices that fit best, or without any."""
    waiting: list[Mapping[Place, int]] = [{}]
    readings: list[_Reading[R]] = []
    while waiting and len(readings) < MOST_READINGS:
        forks = Forks(waiting.pop())
        result = read(forks)
        if not forks.met:
            return result
        readings.append(_Reading(result, is_fit(result), len(forks.left_out)))
        new = [place for place in forks.met if place not in forks.choices]
        for index, place in enumerate(new):
            waiting.append({**forks.choices, **dict.fromkeys(new[:index], 0), place: 1})
    fit = sorted((one for one in readings if one.is_fit), key=lambda one: one.left_out)
    alone = len(fit) == 1 or (len(fit) > 1 and fit[0].left_out < fit[1].left_out)
    if alone and not waiting:
        return fit[0].result
    return read(Forks(refused=True))
