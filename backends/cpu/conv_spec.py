# pyright: standard
"""What a direct convolution computes, and how threads share it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.decision import UNDECIDED, Decision
from leptonc.backends.cpu.emit import IDENTITY, Epilogue, Extent
from leptonc.backends.cpu.packing import ConvWeight, channel_blocks, conv_weight_shape
from leptonc.backends.cpu.sharing import TYPICAL_EXTENT, is_worth_sharing, keeps_rows
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.cpu.window import Window

# Vectors of so many bytes may be computed by halves.
HALVED_BYTES = 64


@dataclass(frozen=True)
class ConvSpec:
    """`out[n, o, h, w, lane] = epilogue(sum of x times weight + bias)`, all in blocks of channels.

    x is f32[batch, C / lanes, height, width, lanes], or f32[batch, C, height, width] of a plain
    convolution. The weight is packed by `packing.pack_conv_weight`, the bias by `pack_channels`.
    The epilogue is also applied to the unused lanes of the last block.
    """

    batch: Extent
    height: Extent
    width: Extent
    weight: ConvWeight
    window: Window
    panel: int
    bias: bool = True
    epilogue: Epilogue = IDENTITY
    out_dtype: str = "float32"
    decision: Decision = UNDECIDED

    element_bytes: ClassVar[int] = 4
    halves: ClassVar[bool] = True
    """Whether tiles may compute half of the last vector of filters."""

    @property
    def weight_panel(self) -> int:
        """The filters of a panel of the packed weight."""
        return self.panel

    @property
    def packed_shape(self) -> tuple[int, ...]:
        """The shape of the packed weight."""
        return conv_weight_shape(self.weight, self.weight_panel)

    @property
    def weight_bytes(self) -> int:
        """The size of the packed weight."""
        return self.element_bytes * math.prod(self.packed_shape)

    def out_extents(self) -> tuple[Extent, Extent]:
        """The rows and columns of the output."""
        return self.window.outputs(0, self.height), self.window.outputs(1, self.width)

    def group_blocks(self, cpu: CpuTarget) -> int:
        """The blocks of a group's filters."""
        return channel_blocks(self.weight.filters // self.weight.groups, cpu.lanes)

    def last_lanes(self, cpu: CpuTarget) -> int:
        """The lanes of the last vector of filters that are computed.

        Half of a vector of 64 bytes takes half of its time where that is two halves to the CPU (as
        measured on Zen 4), and no more than it elsewhere. Not where other panels have whole vectors
        in its place: TVM would let their registers share memory, and LLVM spill them all (40 to
        120 filters take 90 us instead of 72 so).
        """
        used = self.weight.filters // self.weight.groups % cpu.lanes
        is_half = self.halves and 0 < used <= cpu.lanes // 2 and cpu.lanes * 4 == HALVED_BYTES
        is_alone = self.group_blocks(cpu) * cpu.lanes <= self.panel
        return cpu.lanes // 2 if is_half and is_alone else cpu.lanes

    def group_panels(self, cpu: CpuTarget) -> tuple[int, int]:
        """The whole panels of a group's filters, and whether there is a narrower one behind."""
        whole, rest = divmod(self.group_blocks(cpu), self.panel // cpu.lanes)
        if not rest and self.last_lanes(cpu) < cpu.lanes:
            return whole - 1, 1
        return whole, int(rest > 0)

    def row_pixels(self, most: int, cpu: CpuTarget) -> int:
        """The pixels of a tile; fewer than most where those make whole rows.

        Pixels of several rows have an address each, which take more time than their products with
        a single vector: tiles of 12 of 264 columns take 0.6 of the time of tiles of 14.
        """
        columns = self.out_extents()[1]
        if self.group_blocks(cpu) > 1 and self.panel > cpu.lanes:
            return most
        if self.window.is_point or not isinstance(columns, int):
            return most
        return next((size for size in range(most, most // 2, -1) if columns % size == 0), most)

    def is_parallel(self, cpu: CpuTarget) -> bool:
        """Whether threads share the work."""
        rows, columns = (e if isinstance(e, int) else TYPICAL_EXTENT for e in self.out_extents())
        operations = 2 * self.weight.depth * self.weight.filters * rows * columns
        enough = is_worth_sharing(operations, self.weight_bytes)
        return self.decision.is_shared(cpu.threads, otherwise=enough)

    def shares_filters(self, cpu: CpuTarget) -> bool:
        """Whether each thread computes some of the filters of all rows, not all of some rows.

        Large weights are then read once by all threads together; a wide image of few rows has no
        rows to share, and one of unknown extents needs no border copied where it has no pads.
        """
        rows, columns = self.out_extents()
        panels = self.weight.groups * sum(self.group_panels(cpu))
        if not self.is_parallel(cpu) or panels < cpu.threads:
            return False
        if isinstance(rows, int) and rows < cpu.threads:
            return True
        channel_bytes = self.element_bytes * self.weight.channels
        image = emit.product((channel_bytes, self.height, self.width))
        if isinstance(rows, int) and isinstance(columns, int) and isinstance(image, int):
            written = self.element_bytes * self.weight.filters * rows * columns
            return not keeps_rows(rows, image, written, self.weight_bytes, cpu.threads)
        return not self.window.is_padded
