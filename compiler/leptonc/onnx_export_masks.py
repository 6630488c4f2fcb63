"""What hides keys from attention, as onnxruntime reads it.

ONNX adds a mask to the scores, so a row that holds the lowest number throughout weighs all keys
alike. Onnxruntime 1.32 takes exactly that number for minus infinity, and gives zeros. One step
above it means the same to ONNX and is a number to both.
"""

from __future__ import annotations

import numpy as np

from leptonc.ir.blob import Blob
from leptonc.ir.graph import Graph, Value
from leptonc.ir.types import DType

LOWEST = np.finfo(np.float32).min
ABOVE = np.nextafter(LOWEST, np.float32(0))
FEW = 1 << 16
"""Larger constants are masks of their own, which show every query something."""


def softened_constants(graph: Graph) -> dict[Value, Blob]:
    """What to write for the constants that masks of attention are made of."""
    waiting = [
        op.operands[names.index("mask")]
        for op in graph.walk()
        if op.name == "attention" and "mask" in (names := op.operand_names)
    ]
    found: dict[Value, Blob] = {}
    seen = set(waiting)
    while waiting:
        value = waiting.pop()
        if value.type.dtype is not DType.F32:
            continue
        blob = value.blob
        if blob is not None and blob.size <= FEW and np.any(blob.array == LOWEST):
            found[value] = Blob.of(np.where(blob.array == LOWEST, ABOVE, blob.array))
        if value.producer is not None:
            fresh = [operand for operand in value.producer.operands if operand not in seen]
            waiting += fresh
            seen.update(fresh)
    return found
