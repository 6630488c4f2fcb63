"""Weights in the order in which the kernels read them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def matmul_weight_shape(depth: int, columns: int, panel: int) -> tuple[int, int, int]:
    """The shape of a packed weight: panels of `panel` columns, the last one filled with zeros."""
    return -(-columns // panel), depth, panel


def pack_matmul_weight(weight: Floats, panel: int, *, transposed: bool = False) -> Floats:
    """A weight depth x columns, or columns x depth if transposed, in panels of columns."""
    matrix = weight.T if transposed else weight
    depth, columns = matrix.shape
    packed = np.zeros(matmul_weight_shape(depth, columns, panel), np.float32)
    full = columns // panel
    packed[:full] = matrix[:, : full * panel].reshape(depth, full, panel).transpose(1, 0, 2)
    if columns % panel:
        packed[full, :, : columns % panel] = matrix[:, full * panel :]
    return packed
