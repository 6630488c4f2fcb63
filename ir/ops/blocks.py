"""Rows that move blocks of an image, or cut out its middle."""

from __future__ import annotations

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim, floordiv
from leptonc.ir.ops.movement import wanted_extents
from leptonc.ir.ops.shape import normalized_axes
from leptonc.ir.table import Attr, Evaluation, Inference, Trait, define
from leptonc.ir.types import TensorType


def _block(call: Inference | Evaluation) -> tuple[int, bool]:
    size, mode = call.int("blocksize"), call.str("mode")
    if size < 1 or mode not in ("DCR", "CRD"):
        raise LeptonError(
            f"{call.definition.name}: blocksize {size} and mode {mode!r}, should be at least 1 "
            "and DCR or CRD",
            code="E108",
        )
    return size, mode == "DCR"


def _blocks_infer(call: Inference) -> TensorType:
    type, (size, _) = call[0].type, _block(call)
    if type.rank != 4:
        raise LeptonError(
            f"{call.definition.name} of {type}, should have 4 dimensions", code="E103"
        )
    batch, channels, height, width = type.shape
    divided: list[tuple[Dim, int]] = [(height, size), (width, size)]
    if call.definition.name == "depth_to_space":
        divided = [(channels, size * size)]
    for dim, by in divided:
        if isinstance(dim, int) and dim % by:
            raise LeptonError(
                f"{call.definition.name}: an extent of {dim} is no multiple of {by}", code="E103"
            )
    if call.definition.name == "depth_to_space":
        return type.with_shape(batch, floordiv(channels, size * size), height * size, width * size)
    return type.with_shape(
        batch, channels * (size * size), floordiv(height, size), floordiv(width, size)
    )


def _depth_to_space(call: Evaluation) -> Array:
    (n, c, h, w), (size, depth_first) = call[0].shape, _block(call)
    inner = c // (size * size)
    if depth_first:
        parts = call[0].reshape(n, size, size, inner, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        parts = call[0].reshape(n, inner, size, size, h, w).transpose(0, 1, 4, 2, 5, 3)
    return parts.reshape(n, inner, h * size, w * size)


def _space_to_depth(call: Evaluation) -> Array:
    (n, c, h, w), (size, depth_first) = call[0].shape, _block(call)
    parts = call[0].reshape(n, c, h // size, size, w // size, size)
    order = (0, 3, 5, 1, 2, 4) if depth_first else (0, 1, 3, 5, 2, 4)
    return parts.transpose(order).reshape(n, c * size * size, h // size, w // size)


BLOCK_ATTRS = {"blocksize": Attr("int", required=True), "mode": Attr("str", "DCR")}

define(
    "depth_to_space(x)",
    "Channels moved into blocks of the image; `mode` says which channels make a block.",
    infer=_blocks_infer,
    evaluate=_depth_to_space,
    attrs=BLOCK_ATTRS,
    traits=[Trait.INJECTIVE],
    onnx="DepthToSpace",
    since=28,
)

define(
    "space_to_depth(x)", "Blocks of the image moved into channels; `mode` says where they go.",
    infer=_blocks_infer, evaluate=_space_to_depth, attrs=BLOCK_ATTRS,
    traits=[Trait.INJECTIVE], onnx="SpaceToDepth", since=28,
)  # fmt: skip


def _crop_infer(call: Inference) -> TensorType:
    type, axes = call[0].type, cropped_axes(call)
    shape = list(type.shape)
    for axis, dim in zip(axes, wanted_extents(call, "shape", len(axes)), strict=True):
        shape[axis] = dim
    return type.with_shape(*shape)


def cropped_axes(call: Inference) -> tuple[int, ...]:
    """The axes that a `center_crop_pad` changes."""
    axes = call.ints("axes")
    return (
        tuple(range(call[0].type.rank))
        if axes is None
        else normalized_axes(call, axes, call[0].type.rank)
    )


def _crop_evaluate(call: Evaluation) -> Array:
    x, axes = call[0], call.ints("axes")
    where = range(x.ndim) if axes is None else [axis % x.ndim for axis in axes]
    for axis, extent in zip(where, call[1], strict=True):
        rest = int(extent) - x.shape[axis]
        if rest < 0:
            x = np.take(x, range(-rest // 2, -rest // 2 + int(extent)), axis)
        widths = [(0, 0)] * x.ndim
        widths[axis] = (max(rest, 0) // 2, max(rest, 0) - max(rest, 0) // 2)
        x = np.pad(x, widths)
    return x


define(
    "center_crop_pad(x, shape!)",
    "The middle of the operand cut out, or zeros around it, to give `axes` the extents `shape`.",
    infer=_crop_infer,
    evaluate=_crop_evaluate,
    attrs={"axes": Attr("ints")},
    traits=[Trait.INJECTIVE],
    onnx="CenterCropPad",
    since=18,
)
