"""Rows that repeat, pad and rearrange elements."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim, bounds, minimum
from leptonc.ir.ops.broadcasting import broadcast_shapes, check_same_dtype
from leptonc.ir.ops.contents import check_rank, content_of, known_integers, moved, required_integers
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
    check_rank(call, extent)
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
        # of two open extents that of the operand is the one that may be 1
        return type.with_shape(*broadcast_shapes(wanted, type.shape))
    missing = len(wanted) - type.rank
    aligned = [1] * missing + list(type.shape)
    wanted = [1] * -missing + wanted
    # Only an extent of 1 can grow, and that cannot be told without the data.
    shape = [
        w if dim == 1 or not isinstance(dim, int) else dim
        for dim, w in zip(aligned, wanted, strict=True)
    ]
    return type.with_shape(*shape)


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
    """What a `pad` adds before and after each axis, less than 0 to remove; None where unknown."""
    rank, content = call[0].type.rank, content_of(call[1])
    if call.get("axes") is not None and known_integers(call, "axes") is None:
        return None
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
    if mode == "constant" or not widths:  # numpy wants a width
        return framed(x, widths, call.get("constant_value"))
    kept = [slice(max(-b, 0), n + min(a, 0)) for n, (b, a) in zip(x.shape, widths, strict=True)]
    added = [(max(before, 0), max(after, 0)) for before, after in widths]
    return np.asarray(np.pad(x[tuple(kept)], added, mode))  # pyright: ignore


def framed(x: Array, widths: Sequence[tuple[int, int]], value: Array | None) -> Array:
    """`x` with so many elements before and after each axis, negative numbers to remove some."""
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


def position_in(mode: str, at: int, extent: int) -> int:
    """The element that stands for position `at` in a padding that is not constant."""
    if mode == "edge":
        return min(max(at, 0), extent - 1)
    if mode == "wrap":
        return at % extent
    period = max(2 * extent - 2, 1)
    return min(at % period, period - at % period) if extent > 1 else 0


define(
    "pad(x, pads!, constant_value?, axes?!)",
    "Elements added around the operand: a constant, or by `mode` its edge, its reflection or "
    "itself again. "
    "Negative pads remove elements first.",
    infer=_pad_infer,
    evaluate=_pad_evaluate,
    attrs={"mode": Attr("str", "constant")},
    traits=[Trait.INJECTIVE],
    onnx="Pad",
    since=25,
)


def _trilu_infer(call: Inference) -> TensorType:
    if call[0].type.rank < 2:
        raise LeptonError(
            f"trilu of {call[0].type}, should have at least 2 dimensions", code="E103"
        )
    return call[0].type


def _trilu_evaluate(call: Evaluation) -> Array:
    k = call.get("k")
    offset = int(k.reshape(())) if k is not None else 0
    height, width = call[0].shape[-2:]
    if call.int("upper"):
        kept = ~np.tri(height, width, offset - 1, dtype=bool)
    else:
        kept = np.tri(height, width, offset, dtype=bool)
    return np.where(kept, call[0], np.zeros((), call[0].dtype))


define(
    "trilu(x, k?!)",
    "The upper (or lower) triangle of the last two dimensions, from diagonal `k`; 0 elsewhere.",
    infer=_trilu_infer,
    evaluate=_trilu_evaluate,
    attrs={"upper": Attr("int", 1)},
    traits=[Trait.INJECTIVE],
    onnx="Trilu",
    since=14,
)
