# pyright: standard
"""When it is worth it that threads share a kernel.

Waking the other threads and waiting for the last of them takes 2 to 3 us, and what another core has
written is further away. A kernel of 0.7 million operations takes 8 us alone, one that reads 400 KB
of weights from the third cache 10 us.
"""

from __future__ import annotations

from leptonc.backends.cpu.emit import Extent
from leptonc.backends.cpu.target import CpuTarget

OPERATIONS = 700_000
WEIGHT_BYTES = 400_000
# What extents of an image that are not known are taken for.
TYPICAL_EXTENT = 64


def is_worth_sharing(operations: float, weight_bytes: int = 0) -> bool:
    """Whether threads together take less time than one alone."""
    return operations > OPERATIONS or weight_bytes > WEIGHT_BYTES


def shares_channels(
    cpu: CpuTarget, channels: int, extents: tuple[Extent, Extent], operations: int
) -> bool:
    """Whether threads share the channels of an image; each element takes so many operations.

    To move an element takes as long as ten.
    """
    rows, columns = (each if isinstance(each, int) else TYPICAL_EXTENT for each in extents)
    return cpu.threads > 1 and is_worth_sharing(operations * channels * rows * columns)
