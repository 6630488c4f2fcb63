"""Where ways through a graph without circles meet again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

Node = TypeVar("Node")


def meeting_points(ways: dict[Node, list[Node] | None]) -> dict[Node, Node | None]:
    """For each node the first one that all ways from it go through; None where that is the end.

    `ways` are the nodes right after each one, which stand behind it in the mapping; None and no
    nodes lead to the end.
    """
    found: dict[Node, Node | None] = {}
    depths: dict[Node | None, int] = {None: 0}
    for node in reversed(ways):
        meeting = _meeting(ways[node] or (), found, depths)
        found[node], depths[node] = meeting, depths[meeting] + 1
    return found


def _meeting(
    after: Iterable[Node], found: Mapping[Node, Node | None], depths: Mapping[Node | None, int]
) -> Node | None:
    first, *others = after or (None,)
    for other in others:
        while first is not other:
            if first is None:
                return None
            if depths[first] < depths[other]:
                first, other = other, first
            first = found[first]
    return first
