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
# The scores of a tile stay in the first cache: 6 heads of 1024 x 64 in blocks take 0.79 of the time
# of 14 rows of 1024 scores, which begin a page apart, too.
PART, ALL = 6, 2

Load = Callable[[PrimExpr, PrimExpr, int], PrimExpr]


class Copies:
    """How keys and values are packed: as they are."""

    item = 4
    """The bytes of an element."""

    def keys(self, size: int, depth: int, panel: int) -> Buffer:
        """Memory for so many keys: [panel, depth, key]."""
        return emit.workspace((size // panel, depth, panel))

    def values(self, size: int, panels: ValuePanels, lanes: int) -> Buffer:
        """Memory for so many values: [panel, key, column]."""
        return emit.workspace((panels.count, size, len(panels.widths) * lanes))

    def pack_keys(self, copy: Buffer, count: Extent, cpu: CpuTarget, load: Load) -> None:
        """Copies keys; `load` clamps those that do not exist."""
        pack_keys(copy, count, cpu, load)

    def pack_values(
        self, copy: Buffer, count: Extent, panels: ValuePanels, cpu: CpuTarget, load: Load
    ) -> None:
        """Copies values; `load` clamps those that do not exist."""
        pack_values(copy, count, panels, cpu, load)


@dataclass(frozen=True)
class Blocks:
    """Keys in `count` blocks of `size`."""

    size: int
    count: Extent
    several: bool


def blocks_of(keys: Extent, width: int, panel: int, rows: int, cpu: CpuTarget) -> Blocks:
    """Whole panels of keys, whose `width` bytes of keys and values stay in the second cache.

    The scores of `rows` queries stay in the first one.
    """

    def fitting(part: int) -> int:
        near, scores = cpu.l2_bytes // part // width, cpu.l1_bytes // (4 * rows)
        return max(1, min(near, scores) // panel) * panel

    if isinstance(keys, int) and keys <= fitting(ALL):
        return Blocks(-(-keys // panel) * panel, 1, several=False)
    size = fitting(PART)
    if isinstance(keys, int):
        count = -(-keys // size)
        size = -(-keys // (count * panel)) * panel
    return Blocks(size, emit.ceildiv(keys, size), several=True)


@dataclass(frozen=True)
class ValuePanels:
    """`count` panels of values from column `first` on; a vector has as many as `widths` says."""

    count: int
    first: int
    widths: tuple[int, ...]


def value_panels(width: int, lanes: int) -> list[ValuePanels]:
    """The panels of so many columns of values: those of whole vectors, and one for the rest."""
    whole, rest = divmod(width, KEY_VECTORS * lanes)
    panels = [ValuePanels(whole, 0, (lanes,) * KEY_VECTORS)] if whole else []
    if rest:
        widths = (lanes,) * (rest // lanes) + ((rest % lanes,) if rest % lanes else ())
        panels.append(ValuePanels(1, width - rest, widths))
    return panels


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
    copy: Buffer, count: Extent, panels: ValuePanels, cpu: CpuTarget, load: Load
) -> None:
    """Copies values into panels [panel, key, column]; what fills up a vector is zero."""
    lanes = cpu.lanes
    with emit.serial(panels.count) as panel, emit.serial(count) as key:
        first = panels.first + panel * (KEY_VECTORS * lanes)
        for vector, width in enumerate(panels.widths):
            if width == lanes:
                value = load(key, first + vector * lanes, lanes)
                emit.store(copy, value, [panel, key, vector * lanes], lanes)
                continue
            for at in range(vector * lanes, (vector + 1) * lanes):
                exists = at < vector * lanes + width
                value = load(key, first + at, 1) if exists else emit.const(0.0)
                emit.store(copy, value, [panel, key, at])
