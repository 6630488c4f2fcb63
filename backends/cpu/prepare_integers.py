"""Weights in the order in which kernels of integers read them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from leptonc.backends.cpu.decision import Decision
from leptonc.backends.cpu.integer_packing import (
    integer_blobs,
    integer_conv_blobs,
    integer_weight_shape,
    pack_words,
)
from leptonc.backends.cpu.integer_winograd_packing import (
    OUTPUTS,
    may_filter_bytes,
    pack_whole_weight,
    pays,
)
from leptonc.backends.cpu.packed import Packing, decided_panel
from leptonc.backends.cpu.packing import channel_blocks
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.cpu.tiles import TYPICAL_ROWS, integer_panel
from leptonc.backends.cpu.winograd_tables import WholeTransform
from leptonc.ir.blob import Array, Blob
from leptonc.ir.dims import product
from leptonc.ir.graph import Attribute, Op
from leptonc.ir.ops.integer_conv import TOGETHER
from leptonc.ir.types import DType, TensorType


def integer_linear(
    op: Op, blobs: Mapping[str, Blob], cpu: CpuTarget, decision: Decision
) -> Packing | None:
    """The weight of a product of rows of integers."""
    rows = product(op.operands[0].type.shape[:-1])
    known = rows if isinstance(rows, int) else None
    panel = decided_panel(decision, cpu)
    packed = integer_blobs(op.operands[0].type.dtype, blobs["w"], known, cpu, panel)
    if packed is None:
        return None
    attrs: dict[str, Attribute] = {
        "columns": blobs["w"].type.extents[1],
        "folds": packed[1],
        "decision": decision.text,
    }
    return Packing("packed_integer_linear", attrs, packed[0])


def integer_conv(
    op: Op, blobs: Mapping[str, Blob], cpu: CpuTarget, decision: Decision
) -> Packing | None:
    """The weight of a convolution of bytes, direct, by Winograd's tiles or of each channel."""
    pixels = product(op.result.type.shape[2:4])
    filters, _, height, width = blobs["w"].type.extents
    known = pixels if isinstance(pixels, int) else None
    kept = ("pads", "lanes", "filler", *(("plain",) if op.attrs["plain"] else ()))
    attrs = {
        **{name: op.attrs[name] for name in kept}, "kernel_shape": (height, width),
        "filters": filters, "decision": decision.text,
    }  # fmt: skip
    if op.int("group") > 1:
        attrs |= {name: op.attrs[name] for name in ("strides", "dilations", "group")}
        return _integer_depthwise(op, blobs["w"], attrs)
    if _takes_tiles(op, blobs["w"], cpu, decision):
        return _integer_winograd(op, blobs["w"], cpu, decided_panel(decision, cpu), attrs)
    panel = decided_panel(decision, cpu) or integer_panel(known, filters, 4, cpu)
    block = TOGETHER if op.attrs["plain"] else op.int("lanes")
    packed, folds = integer_conv_blobs(blobs["w"], known, block, cpu, panel)
    if op.operand("point") is not None:
        packed["whole"] = _sums_of_filters(blobs["w"], op.int("lanes"))
    attrs |= {"strides": op.attrs["strides"], "dilations": op.attrs["dilations"], "folds": folds}
    return Packing("packed_integer_conv", attrs, packed)


def _sums_of_filters(weight: Blob, lanes: int) -> Blob:
    """What each filter adds up to, filled up to whole blocks."""
    filters = weight.type.extents[0]
    type = TensorType(DType.I32, (channel_blocks(filters, lanes) * lanes,))

    def add_up() -> Array:
        sums = np.zeros(type.extents, np.int32)
        sums[:filters] = weight.array.sum((1, 2, 3), dtype=np.int32)
        return sums

    return Blob(type, add_up)


def _integer_depthwise(op: Op, weight: Blob, attrs: dict[str, Attribute]) -> Packing:
    lanes, (filters, _, height, width) = op.int("lanes"), weight.type.extents
    type = TensorType(DType.I32, (channel_blocks(filters, lanes), height * width + 1, lanes))
    packed = Blob(type, lambda: pack_words(weight.array, lanes, op.int("filler")))
    return Packing("packed_integer_depthwise", attrs, {"w": packed})


def _takes_tiles(op: Op, weight: Blob, cpu: CpuTarget, decision: Decision) -> bool:
    """Whether Winograd's tiles compute a convolution of bytes."""
    rows, columns = op.result.type.shape[2:4]
    known = (rows, columns) if isinstance(rows, int) and isinstance(columns, int) else None
    if op.operand("point") is not None or not may_filter_bytes(op, weight.array):
        return False
    return pays(weight.array, known, cpu) if decision.tile is None else decision.tile == OUTPUTS


def _integer_winograd(
    op: Op, weight: Blob, cpu: CpuTarget, panel: int | None, attrs: dict[str, Attribute]
) -> Packing:
    lanes, (filters, channels, *_) = op.int("lanes"), weight.type.extents
    filled = channel_blocks(channels, lanes) * lanes
    panel = panel or integer_panel(TYPICAL_ROWS, filters, 2, cpu)
    points = WholeTransform(OUTPUTS).points
    shape = (points, *integer_weight_shape(filled, filters, panel, 2))
    packed = Blob(
        TensorType(DType.I16, shape), lambda: pack_whole_weight(weight.array, panel, lanes)
    )
    return Packing("packed_integer_winograd", attrs, {"w": packed})
