"""When a constant's data is made, and whether it is kept."""

from __future__ import annotations

from typing import Any

import numpy as np

from leptonc.ir.blob import Blob
from leptonc.ir.types import DType, TensorType


def counted(made: list[int]) -> Blob:
    """A constant that notes each time that its data is made."""

    def load() -> np.ndarray[Any, Any]:
        made.append(1)
        return np.arange(6, dtype=np.float32)

    return Blob(TensorType(DType.F32, (2, 3)), load)


def test_what_is_read_is_not_kept() -> None:
    made: list[int] = []
    blob = counted(made)
    assert blob.read().tolist() == blob.read().tolist() == [[0, 1, 2], [3, 4, 5]]
    assert len(made) == 2


def test_what_was_kept_is_read_as_it_is() -> None:
    made: list[int] = []
    blob = counted(made)
    assert blob.read() is not blob.array
    assert blob.read() is blob.array
    assert len(made) == 2
