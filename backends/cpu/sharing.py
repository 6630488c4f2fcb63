# pyright: standard
"""When it is worth it that threads share a kernel, and along which axis.

Waking the other threads and waiting for the last of them takes 2 to 3 us, and what another core has
written is further away. A kernel of 0.7 million operations takes 8 us alone, one that reads 400 KB
of weights from the third cache 10 us.

Cores read what another one wrote at 77 GB/s where they share a third cache, and at 27 where each
has its own; to write over it takes still longer. Weights, which nobody writes, come at 100 GB/s
from the own third cache, and at 25 from memory. So each thread has the same rows in all kernels
if it can: two cores without a common cache take 0.87 of the time for MobileNetV2 so, and 0.74 for
PP-LCNet.
"""

from __future__ import annotations

from leptonc.backends.cpu.emit import Extent
from leptonc.backends.cpu.target import CpuTarget

OPERATIONS = 700_000
WEIGHT_BYTES = 400_000
# What extents of an image that are not known are taken for.
TYPICAL_EXTENT = 64
# The time that the thread with the most rows may take, to that of equal shares.
UNEVEN = 1.15
# Kernels around one without products are taken to have a weight of C * C / CHANNELS_MIXED elements
# for its C channels, as those of inverted bottlenecks.
CHANNELS_MIXED = 4


def is_worth_sharing(operations: float, weight_bytes: int = 0) -> bool:
    """Whether threads together take less time than one alone."""
    return operations > OPERATIONS or weight_bytes > WEIGHT_BYTES


def keeps_rows(rows: int, read: int, written: int, weights: int, threads: int) -> bool:
    """Whether each thread takes all filters of some rows, not some filters of all rows.

    By filters, threads read what others wrote, and write what others read; by rows each reads all
    weights. Sizes are in bytes. Rows that do not divide well are worth less than that.
    """
    uneven = -(-rows // threads) * threads > UNEVEN * rows
    return rows >= threads and read + (0 if uneven else written) >= weights


def keeps_rows_of_channels(channels: int, outputs: tuple[Extent, Extent], threads: int) -> bool:
    """The same of a kernel that mixes no channels: as the products around it do, most likely."""
    rows, columns = outputs
    if not (isinstance(rows, int) and isinstance(columns, int)):
        return False
    image = channels * rows * columns
    return keeps_rows(rows, 0, image, channels * channels // CHANNELS_MIXED, threads)


def shares_channels(
    cpu: CpuTarget, channels: int, extents: tuple[Extent, Extent], operations: int
) -> bool:
    """Whether threads share the channels of an image; each element takes so many operations.

    To move an element takes as long as ten.
    """
    rows, columns = (each if isinstance(each, int) else TYPICAL_EXTENT for each in extents)
    return cpu.threads > 1 and is_worth_sharing(operations * channels * rows * columns)


def shares_of(
    cpu: CpuTarget, channels: int, outputs: tuple[Extent, Extent], *, shared: bool
) -> int:
    """Into how many shares of its rows an image is split where it is `shared`.

    0 stands for shares of the channels, 1 for no share.
    """
    if not shared:
        return 1
    return cpu.threads if keeps_rows_of_channels(channels, outputs, cpu.threads) else 0
