"""The geometry of a sliding window over two axes, for known and for symbolic extents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """Kernel, strides, dilations and (top, left, bottom, right) pads."""

    kernel: Pair
    strides: Pair = (1, 1)
    dilations: Pair = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)

    @property
    def is_padded(self) -> bool:
        """Whether the window reaches outside its input."""
        return any(self.pads)

    @property
    def is_point(self) -> bool:
        """Whether an output depends on one input."""
        return self.kernel == (1, 1) and not self.is_padded

    def span(self, axis: int) -> int:
        """The extent of the dilated kernel."""
        return (self.kernel[axis] - 1) * self.dilations[axis] + 1

    def reach(self, axis: int, outputs: Any) -> Any:
        """The extent of padded input that so many outputs read."""
        return (outputs - 1) * self.strides[axis] + self.span(axis)

    def outputs(self, axis: int, extent: Any, *, ceil: bool = False) -> Any:
        """The number of outputs over an extent; rounded up, no window starts beyond the input."""
        before, after = self.pads[axis], self.pads[axis + 2]
        stride = self.strides[axis]
        room = extent + (before + after - self.span(axis))
        if not ceil:
            return room // stride + 1
        count = (room + stride - 1) // stride + 1
        beyond = (count - 1) * stride >= extent + before
        return count - (int(beyond) if isinstance(beyond, bool) else beyond.astype("int64"))
