"""Which carried values of a loop are equal in every turn."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from leptonc.passes.cleanup.numbering import Numbering, note_inside
from leptonc.passes.control_flow.regions import Turning

ROUNDS = 16
"""How often those taken for equal may turn out to differ before nothing is said of them."""


def equal_carried(loop: Turning, places: Sequence[int]) -> list[tuple[int, int]]:
    """Each of `places` that equals an earlier one, with the first that it equals.

    They begin alike, and a turn that takes them for equal gives equal ones: so it is by induction.
    """
    outside = Numbering()
    groups: dict[int, Hashable] = {
        place: (outside.number(loop.starts[place]), loop.taken[place].type) for place in places
    }
    for _ in range(ROUNDS):
        count = len(set(groups.values()))
        if count == len(groups):
            return []
        first: dict[Hashable, int] = {}
        for place, group in groups.items():
            first.setdefault(group, place)
        leaders = {place: first[group] for place, group in groups.items()}
        given = _given(loop, leaders)
        groups = {place: (leader, given[place]) for place, leader in leaders.items()}
        if len(set(groups.values())) == count:
            return [(place, leader) for place, leader in leaders.items() if place != leader]
    return []


def _given(loop: Turning, leaders: dict[int, int]) -> dict[int, int]:
    """Numbers of what a turn gives for each place, if each takes what its leader does."""
    numbers = Numbering()
    for place, value in enumerate(loop.taken):
        numbers.take(value, ("carried", leaders.get(place, place)))
    note_inside(loop.region, numbers, 0)
    return {place: numbers.number(loop.given[place]) for place in leaders}
