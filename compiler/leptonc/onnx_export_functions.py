"""The ONNX form of operations for which an operator exists, but only slow kernels for it.

Measured with onnxruntime 1.32 on one core, with its own optimisation on and off: `Swish` of opset
24 takes 164 us where `Sigmoid` and `Mul` take 122 to 137 us (197 x 768 numbers), and it would need
an opset that older runtimes refuse. `GroupNormalization` of opset 21 takes 310 us where an
`InstanceNormalization` of groups between two `Reshape`s, and a `BatchNormalization` that scales and
shifts the channels, take 113 us (64 x 56 x 56 numbers in 8 groups).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from onnx import GraphProto

from leptonc.ir.blob import Blob
from leptonc.ir.graph import Op
from leptonc.ir.types import DType, TensorType
from leptonc.onnx_export_nodes import node_name
from leptonc.passes.constants import uniform

if TYPE_CHECKING:
    from leptonc.onnx_export import Exporter


def export_swish(exporter: Exporter, proto: GraphProto, op: Op) -> None:
    """X times the sigmoid of a multiple of it."""
    x, name = exporter.names[op.operands[0]], exporter.names[op.result]
    node, inner, alpha = node_name(op), x, op.float("alpha")
    if alpha != 1:
        factor = np.array(alpha, op.result.type.dtype.numpy)
        inner = exporter.fresh_name(f"{name}_scaled")
        operands = [x, exporter.constant(proto, Blob.of(factor), f"{name}_factor")]
        exporter.emit(proto, "Mul", operands, [inner], f"{node}_scaled")
    gate = exporter.fresh_name(f"{name}_gate")
    exporter.emit(proto, "Sigmoid", [inner], [gate], f"{node}_gate")
    exporter.emit(proto, "Mul", [x, gate], [name], node)


def export_group_normalization(exporter: Exporter, proto: GraphProto, op: Op) -> None:
    """Groups of channels as the channels of an instance normalisation, which are then scaled."""
    x, scale, bias = op.operands
    if x.type.dtype is DType.F64 or not isinstance(x.type.shape[1], int) or x.type.rank < 3:
        exporter.row(proto, op)
        return
    groups, dtype = op.int("num_groups"), op.result.type.dtype
    name, node = exporter.names[op.result], node_name(op)

    def row(number: float, count: int) -> str:
        blob = Blob.splat(number, TensorType(dtype, (count,)))
        return exporter.constant(proto, blob, f"{name}_row")

    def emit(op_type: str, operands: list[str], **attributes: float) -> str:
        result = exporter.fresh_name(f"{name}_{op_type.lower()}")
        exporter.emit(proto, op_type, operands, [result], f"{node}_{op_type}", attributes)
        return result

    merged = exporter.constant(proto, Blob.of(np.array([0, groups, -1])), f"{name}_groups")
    inner = emit("Reshape", [exporter.names[x], merged])
    rows = [row(1.0, groups), row(0.0, groups)]
    inner = emit("InstanceNormalization", [inner, *rows], epsilon=op.float("epsilon"))
    plain = uniform(scale) == 1 and uniform(bias) == 0
    shape = _shape_after(exporter, proto, op, emit)
    if plain:
        exporter.emit(proto, "Reshape", [inner, shape], [name], node)
        return
    channels = x.type.shape[1]
    rows = [exporter.names[scale], exporter.names[bias], row(0.0, channels), row(1.0, channels)]
    inner = emit("Reshape", [inner, shape])
    exporter.emit(proto, "BatchNormalization", [inner, *rows], [name], node, {"epsilon": 0.0})


def _shape_after(exporter: Exporter, proto: GraphProto, op: Op, emit: Callable[..., str]) -> str:
    """The shape of the result: a constant where no more than one extent behind is open."""
    shape = op.result.type.shape
    spelled = [0, *(dim if isinstance(dim, int) else -1 for dim in shape[1:])]
    if spelled.count(-1) > 1 or 0 in spelled[1:]:
        return emit("Shape", [exporter.names[op.operands[0]]])
    return exporter.constant(
        proto, Blob.of(np.array(spelled)), f"{exporter.names[op.result]}_shape"
    )
