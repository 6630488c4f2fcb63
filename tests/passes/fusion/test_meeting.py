"""Where ways meet, against the definition: without that node nothing leads to the end."""

from __future__ import annotations

import random

import pytest

from leptonc.passes.fusion.meeting import meeting_points

Ways = dict[int, list[int] | None]


def random_ways(seed: int) -> Ways:
    """A graph without circles; some nodes lead to the end, some have the same node after twice."""
    draw = random.Random(seed)
    count = draw.randrange(1, 24)
    ways: Ways = {}
    for node in range(count):
        after = [
            draw.randrange(node + 1, count) for _ in range(draw.randrange(4)) if node + 1 < count
        ]
        ways[node] = None if draw.random() < 0.1 else after
    return ways


def reaches_the_end(ways: Ways, start: int, without: int) -> bool:
    waiting, seen = [start], {start}
    while waiting:
        after = ways[waiting.pop()]
        if not after:
            return True
        fresh = [node for node in after if node != without and node not in seen]
        waiting += fresh
        seen.update(fresh)
    return False


@pytest.mark.parametrize("seed", range(60))
def test_all_ways_go_through_the_meeting_point(seed: int) -> None:
    ways = random_ways(seed)
    found = meeting_points(ways)
    for node in ways:
        through = [
            other for other in ways if other > node and not reaches_the_end(ways, node, other)
        ]
        assert found[node] == min(through, default=None)


def test_long_chains_whose_nodes_all_lead_to_the_end_too() -> None:
    count = 100_000
    ways: Ways = {node: [node + 1] if node + 1 < count else None for node in range(count)}
    assert meeting_points(ways)[0] == 1
    assert set(meeting_points(dict.fromkeys(ways)).values()) == {None}
