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
from leptonc.backends.cpu.sharing import TYPICAL_EXTENT, is_worth_sharing
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.cpu.window import Window


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

    @property
    def weight_bytes(self) -> int:
        """The size of the packed weight."""
        return self.element_bytes * math.prod(conv_weight_shape(self.weight, self.panel))

    def out_extents(self) -> tuple[Extent, Extent]:
        """The rows and columns of the output."""
        return self.window.outputs(0, self.height), self.window.outputs(1, self.width)

    def group_blocks(self, cpu: CpuTarget) -> int:
        """The blocks of a group's filters."""
        return channel_blocks(self.weight.filters // self.weight.groups, cpu.lanes)

    def group_panels(self, cpu: CpuTarget) -> tuple[int, int]:
        """The whole panels of a group's filters, and whether there is a narrower one behind."""
        whole, rest = divmod(self.group_blocks(cpu), self.panel // cpu.lanes)
        return whole, int(rest > 0)

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
        rows, _ = self.out_extents()
        panels = self.weight.groups * sum(self.group_panels(cpu))
        if not self.is_parallel(cpu) or panels < cpu.threads:
            return False
        if isinstance(rows, int) and rows < cpu.threads:
            return True
        channel_bytes = self.element_bytes * self.weight.channels
        image = emit.product((channel_bytes, self.height, self.width))
        if isinstance(image, int):
            return image < self.weight_bytes
        return not self.window.is_padded
