"""Rows that repeat, pad and rearrange elements."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim, bounds, floordiv, minimum
from leptonc.ir.ops.broadcasting import broadcast_shapes, check_same_dtype
from leptonc.ir.ops.contents import content_of, moved, required_integers
from leptonc.ir.ops.shape import normalized_axes
from leptonc.ir.table import Attr, Evaluation, Inference, Trait, define
from leptonc.ir.types import TensorType


def wanted_extents(call: Inference, name: str, count: int | None = None) -> list[Dim]:
    """What a shape operand holds; unknown extents where its data comes at run time."""
    value = call.get(name)
    assert value is not None
    type = value.type
    extent = type.shape[0] if type.rank == 1 else None
    if type.rank != 1:
        raise LeptonError(
            f"{call.definition.name}: {name} is {type}, should be of rank 1", code="E103"
        )
    if not isinstance(extent, int):
        raise LeptonError(
            f"{call.definition.name}: the number of elements of {name} is not known", code="E109"
        )
    if count is not None and extent != count:
        raise LeptonError(
            f"{call.definition.name}: {name} has {extent} elements, should have {count}",
            code="E103",
        )
    content = content_of(value)
    if content is None:
        return [call.unknown(index) for index in range(extent)]
    for dim in content:
        if bounds(dim)[1] < 0:
            raise LeptonError(
                f"{call.definition.name}: {name} has an element {dim}, should be at least 0",
                code="E103",
            )
    return list(content)


def _expand_infer(call: Inference) -> TensorType:
    type, wanted = call[0].type, wanted_extents(call, "shape")
    if content_of(call[1]) is not None:
        return type.with_shape(*broadcast_shapes(type.shape, wanted))
    missing = len(wanted) - type.rank
    aligned = [1] * missing + list(type.shape)
    # Only an extent of 1 can grow; what stands before it cannot be told without the data.
    shape = [
        w if dim == 1 or not isinstance(dim, int) else dim
        for dim, w in zip(aligned[-len(wanted) :], wanted, strict=True)
    ]
    return type.with_shape(*aligned[: max(-missing, 0)], *(shape if wanted else ()))


def _expand_evaluate(call: Evaluation) -> Array:
    shape = np.broadcast_shapes(call[0].shape, tuple(int(extent) for extent in call[1]))
    return np.broadcast_to(call[0], shape).copy()


define(
    "expand(x, shape!)", "The operand broadcast together with `shape`.",
    infer=_expand_infer, evaluate=_expand_evaluate, content=moved(_expand_evaluate, "x"),
    traits=[Trait.INJECTIVE], onnx="Expand", since=13,
)  # fmt: skip


def _tile_infer(call: Inference) -> TensorType:
    type, repeats = call[0].type, wanted_extents(call, "repeats", call[0].type.rank)
    if content_of(call[1]) is None:
        return type.with_shape(*repeats)
    return type.with_shape(*(dim * times for dim, times in zip(type.shape, repeats, strict=True)))


def _tile_evaluate(call: Evaluation) -> Array:
    return np.tile(call[0], tuple(int(times) for times in call[1]))


define(
    "tile(x, repeats!)", "The operand repeated `repeats` times along each axis.",
    infer=_tile_infer, evaluate=_tile_evaluate, content=moved(_tile_evaluate, "x"),
    traits=[Trait.INJECTIVE], onnx="Tile", since=13,
)  # fmt: skip


def pad_widths(call: Inference) -> list[tuple[Dim, Dim]] | None:
    """What a `pad` adds before and after each axis (removes, where negative); None where unknown."""
    rank, content = call[0].type.rank, content_of(call[1])
    axes: Sequence[int] = range(rank)
    if call.get("axes") is not None:
        axes = normalized_axes(call, required_integers(call, "axes"), rank)
    if content is None:
        return None
    if content.shape != (2 * len(axes),):
        raise LeptonError(
            f"pad: pads has {content.size} elements, should have {2 * len(axes)}", code="E103"
        )
    widths: list[tuple[Dim, Dim]] = [(0, 0)] * rank
    for at, axis in enumerate(axes):
        widths[axis] = (content[at], content[at + len(axes)])
    return widths


def _pad_infer(call: Inference) -> TensorType:
    type, mode = call[0].type, call.str("mode")
    if mode not in ("constant", "edge", "reflect", "wrap"):
        raise LeptonError(
            f"pad: mode is {mode!r}, should be constant, edge, reflect or wrap", code="E108"
        )
    if call.get("constant_value") is not None:
        check_same_dtype(call, "x", "constant_value")
    widths = pad_widths(call)
    if widths is None:
        return type.with_shape(*(call.unknown(axis) for axis in range(type.rank)))
    shape: list[Dim] = []
    for axis, (dim, (before, after)) in enumerate(zip(type.shape, widths, strict=True)):
        extent = dim + before + after
        if bounds(extent)[1] < 0:
            raise LeptonError(
                f"pad: axis {axis} of {type} would have {extent} elements", code="E103"
            )
        left = dim + minimum(before, 0) + minimum(after, 0)
        if mode != "constant" and bounds(left)[1] <= 0 and bounds(extent)[0] > 0:
            raise LeptonError(
                f"pad: axis {axis} of {type} has no elements to pad with", code="E103"
            )
        shape.append(extent)
    return type.with_shape(*shape)


def _pad_evaluate(call: Evaluation) -> Array:
    x, pads, axes = call[0], call[1], call.get("axes")
    where = [int(axis) % x.ndim for axis in axes] if axes is not None else list(range(x.ndim))
    widths = [(0, 0)] * x.ndim
    for at, axis in enumerate(where):
        widths[axis] = (int(pads[at]), int(pads[at + len(where)]))
    mode = call.str("mode")
    if mode == "constant":
        return _framed(x, widths, call.get("constant_value"))
    kept = [slice(max(-b, 0), n + min(a, 0)) for n, (b, a) in zip(x.shape, widths, strict=True)]
    added = [(max(before, 0), max(after, 0)) for before, after in widths]
    return np.pad(x[tuple(kept)], added, mode)  # pyright: ignore[reportArgumentType, reportCallIssue]


def _framed(x: Array, widths: Sequence[tuple[int, int]], value: Array | None) -> Array:
    extents = [n + before + after for n, (before, after) in zip(x.shape, widths, strict=True)]
    fill = np.zeros((), x.dtype) if value is None else value.reshape(())
    result = np.full(extents, fill, x.dtype)
    source, target = [slice(None)] * x.ndim, [slice(None)] * x.ndim
    for axis, (before, _) in enumerate(widths):
        first, last = max(0, -before), min(x.shape[axis], extents[axis] - before)
        source[axis] = slice(first, max(first, last))
        target[axis] = slice(first + before, max(first, last) + before)
    result[tuple(target)] = x[tuple(source)]
    return result


define(
    "pad(x, pads!, constant_value?, axes?!)",
    "Elements added around the operand: a constant, or by `mode` its edge, its reflection or itself again. "
    "Negative pads remove elements first.",
    infer=_pad_infer, evaluate=_pad_evaluate,
    attrs={"mode": Attr("str", "constant")}, traits=[Trait.INJECTIVE], onnx="Pad", since=25,
)  # fmt: skip


def _trilu_infer(call: Inference) -> TensorType:
    if call[0].type.rank < 2:
        raise LeptonError(
            f"trilu of {call[0].type}, should have at least 2 dimensions", code="E103"
        )
    return call[0].type


def _trilu_evaluate(call: Evaluation) -> Array:
    k = call.get("k")
    offset = int(k.reshape(())) if k is not None else 0
    rows, columns = np.indices(call[0].shape[-2:], sparse=True)
    kept = columns - rows >= offset if call.int("upper") else columns - rows <= offset
    return np.where(kept, call[0], np.zeros((), call[0].dtype))


define(
    "trilu(x, k?!)", "The upper (or lower) triangle of the last two dimensions, from diagonal `k`; 0 elsewhere.",
    infer=_trilu_infer, evaluate=_trilu_evaluate,
    attrs={"upper": Attr("int", 1)}, traits=[Trait.INJECTIVE], onnx="Trilu", since=14,
)  # fmt: skip


def _block(call: Inference | Evaluation) -> tuple[int, bool]:
    size, mode = call.int("blocksize"), call.str("mode")
    if size < 1 or mode not in ("DCR", "CRD"):
        raise LeptonError(
            f"{call.definition.name}: blocksize {size} and mode {mode!r}, should be at least 1 and DCR or CRD",
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
    "depth_to_space(x)", "Channels moved into blocks of the image; `mode` says which channels make a block.",
    infer=_blocks_infer, evaluate=_depth_to_space, attrs=BLOCK_ATTRS,
    traits=[Trait.INJECTIVE], onnx="DepthToSpace", since=28,
)  # fmt: skip

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
    "center_crop_pad(x, shape!)", "The middle of the operand cut out, or zeros around it, to give `axes` the extents `shape`.",
    infer=_crop_infer, evaluate=_crop_evaluate,
    attrs={"axes": Attr("ints")}, traits=[Trait.INJECTIVE], onnx="CenterCropPad", since=18,
)  # fmt: skip
