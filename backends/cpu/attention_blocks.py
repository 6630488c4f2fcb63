# pyright: standard
"""Blocks of keys and values for attention: how large, and packed for register tiles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.emit import Extent, Register
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.cpu.transpose import transposed
from leptonc.backends.tvm.binding import Buffer, PrimExpr, tirx

# The vectors of keys, or of values, in a register tile.
KEY_VECTORS = 2
# A block's keys and values may take one such part of the second cache; all of them one of ALL.
PART, ALL = 4, 2

Load = Callable[[PrimExpr, PrimExpr, int], PrimExpr]


@dataclass(frozen=True)
class Blocks:
    """Keys in `count` blocks of `size`."""

    size: int
    count: Extent
    several: bool


def blocks_of(keys: Extent, width: int, panel: int, cpu: CpuTarget) -> Blocks:
    """Whole panels of keys, whose `width` columns of keys and values stay in the second cache."""

    def fitting(part: int) -> int:
        return max(1, cpu.l2_bytes // part // (4 * width * panel)) * panel

    if isinstance(keys, int) and keys <= fitting(ALL):
        return Blocks(-(-keys // panel) * panel, 1, several=False)
    size = fitting(PART)
    if isinstance(keys, int):
        count = -(-keys // size)
        size = -(-keys // (count * panel)) * panel
    return Blocks(size, emit.ceildiv(keys, size), several=True)


def value_panels(width: int, lanes: int) -> list[tuple[int, int]]:
    """The first column and the vectors of each panel of values."""
    vectors = -(-width // lanes)
    return [(at * lanes, min(KEY_VECTORS, vectors - at)) for at in range(0, vectors, KEY_VECTORS)]


def pack_keys(copy: Buffer, count: Extent, cpu: CpuTarget, load: Load) -> None:
    """Copies keys into panels [panel, depth, key]; `load` clamps those that do not exist."""
    _, depth, panel = (int(extent) for extent in copy.shape)
    lanes = cpu.lanes
    with emit.serial(emit.ceildiv(count, panel)) as step:
        if depth < lanes:
            with emit.serial(depth) as k, emit.serial(panel) as key:
                emit.store(copy, load(step * panel + key, k, 1), [step, k, key])
            return
        with emit.serial(-(-depth // lanes)) as part:
            k = emit.let(tirx.min(part * lanes, emit.integer(depth - lanes)))
            for vector in range(panel // lanes):
                rows = [Register(lanes) for _ in range(lanes)]
                for lane, row in enumerate(rows):
                    row.set(load(step * panel + (vector * lanes + lane), k, lanes))
                for offset, row in enumerate(transposed(rows)):
                    emit.store(copy, row.get(), [step, k + offset, vector * lanes], lanes)


def pack_values(
    copy: Buffer, count: Extent, columns: tuple[int, int], cpu: CpuTarget, load: Load
) -> None:
    """Copies so many columns of values from the first on; the rest of a vector is zero."""
    lanes, (first, width) = cpu.lanes, columns
    whole, rest = divmod(width, lanes)
    with emit.serial(count) as key:
        for vector in range(whole):
            value = load(key, emit.integer(first + vector * lanes), lanes)
            emit.store(copy, value, [key, vector * lanes], lanes)
        for at in range(whole * lanes, (whole + 1) * lanes if rest else 0):
            value = load(key, emit.integer(first + at), 1) if at < width else emit.const(0.0)
            emit.store(copy, value, [key, at])
