"""The ONNX form of operations that are not one ONNX operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from onnx import GraphProto, TensorProto

from leptonc.ir.graph import Op, Use
from leptonc.ir.types import DType
from leptonc.onnx_export_attention import export_attention, export_rotary
from leptonc.onnx_export_checks import export_check, squeezes
from leptonc.onnx_export_functions import export_group_normalization, export_swish
from leptonc.onnx_export_nodes import node_name
from leptonc.onnx_export_shapes import export_shaped, needs_no_row
from leptonc.onnx_export_sizes import SizeWriter, export_dims

if TYPE_CHECKING:
    from leptonc.onnx_export import Exporter

REGION_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "if": ("then_branch", "else_branch"), "loop": ("body",), "scan": ("body",),
})  # fmt: skip
"""The attributes that regions become."""

EXPLICIT = frozenset({"mean_variance_normalization"})
"""Operations written with all their attributes: ONNX's checker forgets the default of one."""

VARIADIC = frozenset({"split", "if", "loop", "scan", "top_k", "dynamic_quantize_linear",
                      "string_split"})  # fmt: skip
"""Operations whose results all have to be named, read or not."""


ZEROS_SINCE = 14
"""The opset of a Reshape to extents that may be zero."""


def _dims(exporter: Exporter, proto: GraphProto, op: Op) -> None:
    """Extents are written where something reads them, not only the operations that they shape."""
    uses = [use for result in op.results for use in result.uses]
    if not uses or not all(_reads_no_sizes(use) for use in uses):
        export_dims(exporter, proto, op)


def _reads_no_sizes(use: Use) -> bool:
    return squeezes(use.op) or (use.slot == 1 and needs_no_row(use.op))


def _linear(exporter: Exporter, proto: GraphProto, op: Op) -> None:
    """One Gemm where there is something to save by it, else a product and a sum."""
    x, w, bias = op.operand("x"), op.operand("w"), op.operand("bias")
    assert x is not None
    assert w is not None
    name, node = exporter.names[op.result], node_name(op)
    operands = [exporter.names[x], exporter.names[w]]
    transposed = bool(op.attrs.get("transposed"))
    # of integers onnxruntime has products only
    if x.type.rank == 2 and x.type.dtype.is_float and (transposed or bias is not None):
        operands += [exporter.names[bias]] if bias is not None else []
        exporter.emit(proto, "Gemm", operands, [name], node, {"transB": 1} if transposed else {})
        return
    newer = (exporter.asked or ZEROS_SINCE) >= ZEROS_SINCE and isinstance(w.type.shape[1], int)
    if transposed and x.type.dtype in (DType.F32, DType.F64) and newer:
        operands += [exporter.names[bias]] if bias is not None else []
        _linear_rows(exporter, proto, op, operands)
        return
    if transposed:
        operands[1] = exporter.fresh_name(f"{name}_transposed")
        exporter.emit(
            proto, "Transpose", [exporter.names[w]], [operands[1]], node, {"perm": (1, 0)}
        )
    if bias is None:
        exporter.emit(proto, "MatMul", operands, [name], node)
        return
    product = exporter.fresh_name(f"{name}_product")
    exporter.emit(proto, "MatMul", operands, [product], node)
    exporter.emit(proto, "Add", [product, exporter.names[bias]], [name], f"{node}_bias")


def _linear_rows(exporter: Exporter, proto: GraphProto, op: Op, operands: list[str]) -> None:
    """A Gemm of all rows, which turns no weights that something else reads as they are.

    Measured with onnxruntime 1.32, it takes as long as a product with turned ones, which takes up
    to ten times as long where a Transpose turns them each time.
    """
    writer, shape = SizeWriter(exporter, proto, op), op.result.type.shape
    columns = op.operands[1].type.shape[1]
    assert isinstance(columns, int)
    rows = writer.node("Reshape", operands[0], writer.constant(-1, columns))
    product = exporter.fresh_name(f"{exporter.names[op.result]}_rows")
    exporter.emit(proto, "Gemm", [rows, *operands[1:]], [product], node_name(op), {"transB": 1})
    numbers = [dim if isinstance(dim, int) else -1 for dim in shape]
    known = numbers.count(-1) < 2 and 0 not in numbers
    target = writer.constant(*numbers) if known else writer.row(shape)
    result, node = exporter.names[op.result], f"{node_name(op)}_shape"
    attributes = {} if known else {"allowzero": 1}
    exporter.emit(proto, "Reshape", [product, target], [result], node, attributes)


def _linear_bytes(exporter: Exporter, proto: GraphProto, op: Op) -> None:
    """A product with what the bytes stand for."""
    names = [exporter.names[value] for value in op.operands]
    name, node = exporter.names[op.result], node_name(op)
    weight = exporter.fresh_name(f"{name}_weight")
    if len(names) > 2:
        attributes = {"axis": 0, "block_size": op.int("block_size")}
        exporter.require("DequantizeLinear", 21, op.name, op.location)
        exporter.emit(proto, "DequantizeLinear", names[1:], [weight], f"{node}_weight", attributes)
    else:
        exporter.emit(
            proto, "Cast", names[1:], [weight], f"{node}_weight", {"to": TensorProto.FLOAT}
        )
    exporter.emit(proto, "MatMul", [names[0], weight], [name], node)


Rule: TypeAlias = "Callable[[Exporter, GraphProto, Op], None]"

EXPORT: Mapping[str, Rule] = MappingProxyType({
    "dims": _dims, "expand": export_shaped, "reshape": export_shaped,
    "extents": export_check, "linear": _linear, "linear_bytes": _linear_bytes,
    "swish": export_swish, "group_normalization": export_group_normalization,
    "attention": export_attention, "rotary_embedding": export_rotary,
})  # fmt: skip
"""How the operations that are not written as one operator of their own are."""
