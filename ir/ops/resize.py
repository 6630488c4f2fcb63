"""The row of resize: a tensor sampled on another grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim, bounds, floordiv
from leptonc.ir.ops.contents import content_of
from leptonc.ir.ops.resample import (
    COORDINATES,
    NEAREST,
    Filter,
    ResizedAxis,
    along_axis,
    coordinate,
    fraction_of,
)
from leptonc.ir.ops.shape import normalized_axes
from leptonc.ir.table import Attr, Evaluation, Inference, Trait, define
from leptonc.ir.types import DType, TensorType

POLICIES = ("stretch", "not_larger", "not_smaller")


def _check(call: Inference) -> None:
    allowed = {
        "mode": ("nearest", "linear", "cubic"), "nearest_mode": NEAREST,
        "coordinate_transformation_mode": COORDINATES, "keep_aspect_ratio_policy": POLICIES,
    }  # fmt: skip
    for name, values in allowed.items():
        if call.str(name) not in values:
            raise LeptonError(
                f"resize: {name} is {call.str(name)!r}, should be one of {', '.join(values)}",
                code="E108",
            )
    if call[0].type.dtype is DType.STR or call[0].type.dtype in (DType.C64, DType.C128):
        raise LeptonError(f"resize of {call[0].type.dtype} is not defined", code="E102")


def given(call: Inference, name: str, count: int) -> bool:
    """True where an operand is there and not empty, which some exporters write for absent."""
    type = call.type(name)
    if type is None or type.shape == (0,):
        return False
    if type.rank != 1 or (isinstance(type.shape[0], int) and type.shape[0] != count):
        raise LeptonError(f"resize: {name} is {type}, should have {count} elements", code="E103")
    return True


def resized_axes(call: Inference) -> list[ResizedAxis] | None:
    """What a `resize` does along each axis it names; None where that is known at run time only."""
    rank = call[0].type.rank
    named = call.ints("axes")
    axes = tuple(range(rank)) if named is None else normalized_axes(call, named, rank)
    if call.definition.name == "resize_by":
        return _as_given(call, axes)
    scales, sizes = (given(call, name, len(axes)) for name in ("scales", "sizes"))
    if scales == sizes:
        raise LeptonError("resize needs scales or sizes, not both and not none", code="E106")
    extents = [call[0].type.shape[axis] for axis in axes]
    if scales:
        constant = call.constant("scales")
        return None if constant is None else _by_scales(call, axes, extents, constant)
    wanted = call.get("sizes")
    content = content_of(wanted) if wanted is not None else None
    return None if content is None else _by_sizes(call, axes, extents, list(content))


def _as_given(call: Inference, axes: Sequence[int]) -> list[ResizedAxis]:
    parts = [call.content(name) for name in ("sizes", "numerators", "denominators")]
    known = [list(part) for part in parts if part is not None]
    if len(known) < len(parts) or any(len(part) != len(axes) for part in known):
        raise LeptonError("resize_by needs three extents for each axis", code="E109")
    extents = [call[0].type.shape[axis] for axis in axes]
    return [ResizedAxis(*one) for one in zip(axes, extents, *known, strict=True)]


def _by_scales(
    call: Inference, axes: Sequence[int], extents: Sequence[Dim], scales: Array
) -> list[ResizedAxis]:
    crop = (
        call.constant("roi")
        if call.str("coordinate_transformation_mode") == COORDINATES[-1]
        else None
    )
    found: list[ResizedAxis] = []
    for at, (axis, dim) in enumerate(zip(axes, extents, strict=True)):
        value = float(scales[at])
        if not (math.isfinite(value) and value > 0):
            raise LeptonError(
                f"resize: the scale of axis {axis} is {value}, should be above 0", code="E108"
            )
        scale = fraction_of(value)
        whole = scale
        if crop is not None and crop.size:
            whole = scale * fraction_of(float(crop[at + len(axes)] - crop[at]))
        target = floordiv(dim * whole.numerator, whole.denominator)
        found.append(ResizedAxis(axis, dim, target, scale.numerator, scale.denominator))
    return found


def _by_sizes(
    call: Inference, axes: Sequence[int], extents: Sequence[Dim], sizes: Sequence[Dim]
) -> list[ResizedAxis] | None:
    policy = call.str("keep_aspect_ratio_policy")
    for size in sizes:
        if bounds(size)[1] < 0:
            raise LeptonError(f"resize: a size is {size}, should be at least 0", code="E103")
    if policy == "stretch":
        rows = zip(axes, extents, sizes, strict=True)
        return [ResizedAxis(axis, dim, size, size, dim) for axis, dim, size in rows]
    known = [Fraction(size, dim) for size, dim in zip(sizes, extents, strict=True)
             if isinstance(size, int) and isinstance(dim, int) and dim]  # fmt: skip
    if len(known) < len(axes):
        return None
    scale = min(known) if policy == "not_larger" else max(known)
    p, q = scale.numerator, scale.denominator
    return [ResizedAxis(axis, dim, floordiv(dim * (2 * p) + q, 2 * q), p, q)
            for axis, dim in zip(axes, extents, strict=True)]  # fmt: skip


def _infer(call: Inference) -> TensorType:
    _check(call)
    type, found = call[0].type, resized_axes(call)
    shape = list(type.shape)
    if found is None:
        named = call.ints("axes")
        for axis in range(type.rank) if named is None else normalized_axes(call, named, type.rank):
            shape[axis] = call.unknown(axis)
        return type.with_shape(*shape)
    for one in found:
        if one.source == 0 and bounds(one.target)[0] > 0:
            raise LeptonError(
                f"resize: axis {one.axis} of {type} has no elements to sample", code="E103"
            )
        shape[one.axis] = one.target
    return type.with_shape(*shape)


def filter_of(call: Inference | Evaluation) -> Filter:
    """How a `resize` weighs elements."""
    mode = call.str("mode")
    return Filter(
        mode, call.str("nearest_mode"), call.float("cubic_coeff_a"),
        antialias=bool(call.int("antialias")) and mode != "nearest",
        exclude_outside=bool(call.int("exclude_outside")) and mode != "nearest",
    )  # fmt: skip


def _evaluate(call: Evaluation) -> Array:
    from leptonc.ir.blob import Blob
    from leptonc.ir.build import Builder
    from leptonc.ir.graph import Graph, Value

    graph = Graph("resize")
    build = Builder(graph)
    data = Value(TensorType(DType.F64, call[0].shape), "x")
    values = [data, *(build.const(Blob.of(array)) for array in call.items[1:])]
    known = Inference(call.definition, values, call.names, call.attrs)
    axes, kind = resized_axes(known), filter_of(call)
    assert axes is not None
    result, outside = call[0].astype(np.float64), np.zeros((1,) * call[0].ndim, bool)
    for at, axis in enumerate(axes):
        if 0 in (axis.target, axis.source):
            return np.zeros([dim for dim in _infer(known).extents], call[0].dtype)
        position, beyond = _positions(call, axis, at, len(axes))
        if (
            axis.is_identity
            and not beyond.any()
            and call.str("coordinate_transformation_mode") != COORDINATES[-1]
        ):
            continue
        result = along_axis(result, axis, position, kind)
        outside = outside | beyond.reshape(
            [-1 if i == axis.axis else 1 for i in range(result.ndim)]
        )
    if outside.any():
        result = np.where(outside, call.float("extrapolation_value"), result)
    return _stored(result, call[0].dtype)


def _positions(
    call: Evaluation, axis: ResizedAxis, at: int, count: int
) -> tuple[tuple[Array, Array], Array]:
    """The coordinates along an axis, and which of them lie outside of what may be sampled."""
    mode, roi = call.str("coordinate_transformation_mode"), call.get("roi")
    x = np.arange(int(str(axis.target)))
    if mode != COORDINATES[-1]:
        over, under = coordinate(axis, mode, x, lambda dim: np.int64(int(str(dim))))
        return (over, np.asarray(under)), np.zeros(x.shape, bool)
    start, end = (
        (float(roi[at + i * count]) for i in (0, 1)) if roi is not None and roi.size else (0.0, 1.0)
    )
    last, scale = int(str(axis.source)) - 1, float(axis.scale or 1)
    width = scale * (last + 1)
    if x.size > 1:
        place = start * last + x * (end - start) * last / (width - 1)
    else:
        place = np.full(x.shape, 0.5 * (start + end) * last)
    return (place, np.ones(())), (place < 0) | (place > last)


def _stored(result: Array, dtype: np.dtype[Any]) -> Array:
    """The nearest numbers of an element type; what is beyond its range becomes its end."""
    if dtype.kind in "iu":
        info = np.iinfo(dtype.name)
        return np.clip(np.rint(result), info.min, info.max).astype(dtype)
    return result.astype(dtype)


_ATTRS = {
    "antialias": Attr("int", 0),
    "axes": Attr("ints"),
    "coordinate_transformation_mode": Attr("str", "half_pixel"),
    "cubic_coeff_a": Attr("float", -0.75),
    "exclude_outside": Attr("int", 0),
    "extrapolation_value": Attr("float", 0.0),
    "keep_aspect_ratio_policy": Attr("str", "stretch"),
    "mode": Attr("str", "nearest"),
    "nearest_mode": Attr("str", "round_prefer_floor"),
}

define(
    "resize(x, roi?!, scales?!, sizes?!)",
    "The operand sampled on a grid of other extents: the nearest elements, or linear or cubic "
    "interpolation.",
    infer=_infer, evaluate=_evaluate, attrs=_ATTRS, traits=[Trait.INJECTIVE], onnx="Resize",
    since=19,
)  # fmt: skip
define(
    "resize_by(x, roi?!, sizes!, numerators!, denominators!)",
    "A resize to `sizes` whose scales, fractions of extents, may be known at run time only.",
    infer=_infer, evaluate=_evaluate, attrs=_ATTRS, traits=[Trait.INJECTIVE],
)  # fmt: skip
