"""How layers take their weights: products of rows, and recurrent ones."""

from __future__ import annotations

from collections.abc import Mapping

from leptonc.backends.cpu.bf16_packing import pack_bf16_weight
from leptonc.backends.cpu.decision import Decision
from leptonc.backends.cpu.integer_packing import integer_weight_shape
from leptonc.backends.cpu.packed import Packing, decided_panel, floats
from leptonc.backends.cpu.packing import matmul_weight_shape, pack_matmul_weight
from leptonc.backends.cpu.recurrent_packing import (
    pack_input_weight,
    pack_recurrent_bias,
    pack_recurrent_weight,
    recurrent_weight,
)
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.cpu.tiles import bf16_panel, bytes_panel, matmul_panel
from leptonc.ir.blob import Array, Blob
from leptonc.ir.dims import product
from leptonc.ir.graph import Op
from leptonc.ir.ops.bf16 import OPERANDS
from leptonc.ir.types import DType, TensorType


def linear(op: Op, blobs: Mapping[str, Blob], cpu: CpuTarget, decision: Decision) -> Packing | None:
    """A layer with a weight of floats, or of bf16 where that was chosen."""
    x, blob = op.operands[0].type, blobs["w"]
    if x.dtype is not DType.F32 or x.rank < 1:
        return None
    transposed = bool(op.attrs["transposed"])
    depth, columns = blob.type.extents[::-1] if transposed else blob.type.extents
    if depth == 0 or columns == 0:
        return None
    rows = product(x.shape[:-1])
    panel = decided_panel(decision, cpu) or matmul_panel(
        rows if isinstance(rows, int) else None, columns, depth, cpu
    )
    if op.attrs["rounds"]:
        known = rows if isinstance(rows, int) else None
        pairs = op.attrs["rounds"] == OPERANDS
        panel = decided_panel(decision, cpu) or bf16_panel(known, columns, depth, cpu, pairs=pairs)
        return _linear_bf16(op, blob, (depth, columns), panel)
    packed = Blob(
        TensorType(DType.F32, matmul_weight_shape(depth, columns, panel)),
        lambda: pack_matmul_weight(blob.array, panel, transposed=transposed),
    )
    attrs = {"columns": columns, "decision": decision.text}
    return Packing("packed_linear", attrs, {"w": packed})


def _linear_bf16(op: Op, weight: Blob, extents: tuple[int, int], panel: int) -> Packing:
    """A weight in bf16, two elements of the depth side by side."""
    depth, columns = extents
    transposed = bool(op.attrs["transposed"])

    def pack() -> Array:
        return pack_bf16_weight(weight.array, panel, transposed=transposed)

    type = TensorType(DType.U16, integer_weight_shape(depth, columns, panel, 2))
    attrs = {"columns": columns, "rounds": op.attrs["rounds"]}
    return Packing("packed_linear_bf16", attrs, {"w": Blob(type, pack)})


def linear_bytes(
    op: Op, blobs: Mapping[str, Blob], cpu: CpuTarget, decision: Decision
) -> Packing | None:
    """A layer with a weight of bytes, scaled or not."""
    x, blob = op.operands[0].type, blobs["w"]
    depth, columns = blob.type.extents
    if depth == 0 or columns == 0 or ("scales" in op.operand_names and "scales" not in blobs):
        return None
    rows = product(x.shape[:-1])
    panel = decided_panel(decision, cpu) or bytes_panel(
        rows if isinstance(rows, int) else None, columns, depth, cpu
    )

    def packed(source: Blob) -> Blob:
        shape = matmul_weight_shape(source.type.extents[0], columns, panel)
        data = TensorType(source.type.dtype, shape)
        return Blob(data, lambda: pack_matmul_weight(source.array, panel))

    found = {name: packed(blobs[name]) for name in ("w", "scales") if name in blobs}
    attrs = {"columns": columns, "block_size": op.int("block_size")}
    return Packing("packed_linear_bytes", attrs, found)


def recurrent(
    op: Op, blobs: Mapping[str, Blob], cpu: CpuTarget, decision: Decision
) -> Packing | None:
    """Layers of f32 with constant weights; their rarer forms have a kernel without packing."""
    x = op.operands[0].type
    rare = bool(op.attrs.get("input_forget")) or {"sequence_lens", "p"} & {*op.operand_names}
    fixed = "r" in blobs and ("bias" in blobs) == ("bias" in op.operand_names)
    if x.dtype is not DType.F32 or rare or not fixed or 0 in blobs["w"].type.extents:
        return None
    w, r = blobs["w"], blobs["r"]
    steps, batch = x.shape[1::-1] if op.int("layout") else x.shape[:2]
    known = tuple(extent if isinstance(extent, int) else None for extent in (steps, batch))
    shape = (w.type.extents[0], w.type.extents[2], r.type.extents[2])
    linear = bool(op.attrs.get("linear_before_reset"))
    sizes = recurrent_weight(op.name, shape, (known[0], known[1]), cpu, linear=linear)
    packed = {
        "w": floats(sizes.input_shape, lambda: pack_input_weight(w.array, sizes)),
        "r": floats(sizes.recurrent_shape, lambda: pack_recurrent_weight(r.array, sizes)),
    }
    if "bias" in blobs:
        bias = blobs["bias"]
        packed["bias"] = floats(sizes.bias_shape, lambda: pack_recurrent_bias(bias.array, sizes))
    attrs = {
        **{name: value for name, value in op.attrs.items() if name != "input_forget"},
        "hidden_size": sizes.hidden,
        "layer": op.name,
        "units": tuple(phase.units for phase in sizes.phases),
    }
    return Packing("packed_recurrent", attrs, packed)
