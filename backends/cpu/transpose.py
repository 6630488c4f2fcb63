# pyright: standard
"""The transpose of a square of vector registers."""

from __future__ import annotations

from leptonc.backends.cpu.emit import Register
from leptonc.backends.tvm.binding import tirx


def transposed(rows: list[Register]) -> list[Register]:
    """The transpose of a square of registers, by exchanging ever larger blocks."""
    lanes, dtype = len(rows), str(rows[0].buffer.dtype)
    distance = 1
    while distance < lanes:
        result = [Register(lanes, dtype) for _ in rows]
        for first in (row for row in range(lanes) if not row & distance):
            second = first + distance
            pair = [rows[first].get(), rows[second].get()]
            low = [j if not j & distance else lanes + j - distance for j in range(lanes)]
            high = [j + distance if not j & distance else lanes + j for j in range(lanes)]
            result[first].set(tirx.Shuffle(pair, low))
            result[second].set(tirx.Shuffle(pair, high))
        rows, distance = result, distance * 2
    return rows
