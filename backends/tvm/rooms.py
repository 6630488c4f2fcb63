"""Places in one piece of memory for what is in use at different times."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

ALIGNMENT = 64
"""Bytes; where extents are open, every multiple of a tensor's place has it too."""

_NEIGHBOURS = 1_000_000
"""Pairs of tensors in use at once that are looked at: a second of work. Chains of any length stay
far below it; a network of more has thousands of tensors in use at once, and keeps TVM's plan."""


@dataclass(eq=False)
class Room:
    """A tensor, or what is known of it here."""

    first: int
    last: int
    """The steps between which it is in use, both included."""
    size: int
    """In units; rounded up to the alignment by `place`."""
    offset: int = 0
    """In units; 0 until it is placed."""


def place(rooms: Sequence[Room]) -> int | None:
    """Give each room the lowest place free while it is in use, large ones first; the end of all.

    None, and no places, where more of them are in use at once than can be looked at.
    """
    neighbours = _neighbours(rooms)
    if neighbours is None:
        return None
    end, placed = 0, set[Room]()
    for room in rooms:
        room.size = -(-room.size // ALIGNMENT) * ALIGNMENT
    for room in sorted(rooms, key=lambda each: (-each.size, each.first)):
        beside = [other for other in neighbours[room] if other in placed]
        room.offset = 0
        for other in sorted(beside, key=lambda each: each.offset):
            if other.offset - room.offset >= room.size:
                break
            room.offset = max(room.offset, other.offset + other.size)
        placed.add(room)
        end = max(end, room.offset + room.size)
    return end


def _neighbours(rooms: Iterable[Room]) -> dict[Room, list[Room]] | None:
    """For each room those in use at the same time; None for more pairs than the limit."""
    found: dict[Room, list[Room]] = {}
    pairs, present = 0, list[Room]()
    for room in sorted(rooms, key=lambda each: each.first):
        while present and present[0].last < room.first:
            present.pop(0)
        pairs += len(present)
        if pairs > _NEIGHBOURS:
            return None
        found[room] = list(present)
        for other in present:
            found[other].append(room)
        insort(present, room, key=lambda each: each.last)
    return found
