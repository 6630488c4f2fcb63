"""Poolings over windows and over all of space."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim, maximum
from leptonc.ir.ops.broadcasting import FLOATS, check_dtype
from leptonc.ir.ops.extents import natural
from leptonc.ir.ops.windows import (
    WINDOW_ATTRS,
    Window,
    ints_of,
    padded,
    per_axis,
    pool_kernel,
    resolve_window,
    spatial_shape,
    tap_of,
    trimmed,
    valid_counts,
)  # fmt: skip
from leptonc.ir.table import Arguments, Attr, Evaluation, Inference, Trait, define
from leptonc.ir.types import DType, TensorType

POOL_ATTRS = {
    **WINDOW_ATTRS,
    "kernel_shape": Attr("ints", required=True),
    "ceil_mode": Attr("int", 0),
}


def pool_window(call: Arguments[Any], spatial: Sequence[Dim]) -> Window:
    """The window of a pooling over `spatial`."""
    ceil_mode = bool(call.int("ceil_mode"))
    return resolve_window(call, spatial, pool_kernel(call, len(spatial)), ceil_mode=ceil_mode)


def lowest(dtype: np.dtype[Any]) -> Any:
    """The number that loses against every other in a maximum."""
    return np.iinfo(dtype).min if dtype.kind in "iu" else -np.inf


def _pool_type(call: Inference) -> TensorType:
    x = call.types[0]
    return x.with_shape(*x.shape[:2], *pool_window(call, spatial_shape(call, x)).out)


def _float_pool_infer(call: Inference) -> TensorType:
    check_dtype(call, "x", FLOATS)
    return _pool_type(call)


def _max_infer(call: Inference) -> list[TensorType]:
    check_dtype(call, "x", FLOATS | {DType.I8, DType.U8})
    y = _pool_type(call)
    return [y, y.with_dtype(DType.I64)]


def _max_evaluate(call: Evaluation) -> list[Array]:
    x = call[0]
    window = pool_window(call, x.shape[2:])
    wide = x.dtype if x.dtype.kind in "iu" else natural(x.dtype)
    source = padded(x.astype(wide), window, lowest(wide))
    taps, column_major = list(window.taps()), bool(call.int("storage_order"))
    best = np.full((*x.shape[:2], *ints_of(window.out)), lowest(wide), wide)
    for tap in taps:
        best = np.maximum(best, tap_of(source, window, tap))
    which = np.full(best.shape, -1, np.int32)
    has_nan = bool((best != best).any())
    # backwards, so that the first of equal elements is left, and the first NaN
    for number, tap in reversed(list(enumerate(taps))):
        part = tap_of(source, window, tap)
        found = (part == best) | (part != part) if has_nan else part == best
        np.copyto(which, number, where=found & _inside(window, tap, x.shape[2:]))
    return [best.astype(x.dtype), _places(which, window, x.shape, column_major=column_major)]


def _starts(window: Window, axis: int, offset: int = 0) -> Array:
    """Where the window's element at `offset` lies for each place along a spatial axis."""
    starts = np.arange(ints_of(window.out)[axis]) * window.strides[axis]
    shape = [1] * len(window.out)
    shape[axis] = -1
    return (starts + offset - ints_of(window.before)[axis]).reshape(shape)


def _inside(window: Window, tap: Sequence[int], spatial: Sequence[int]) -> Array:
    """At which places one element of the window lies inside the operand."""
    inside = np.ones((1,) * len(spatial), bool)
    for axis, k in enumerate(tap):
        at = _starts(window, axis, k * window.dilations[axis])
        inside = inside & (at >= 0) & (at < spatial[axis])
    return inside


def _places(which: Array, window: Window, shape: Sequence[int], *, column_major: bool) -> Array:
    """The flat index of the window's element `which` at each place; -1 for none."""
    spatial, taps = shape[2:], np.array(list(window.taps())).reshape(-1, len(shape) - 2)
    images: Array = np.arange(shape[0] * shape[1], dtype=np.int64)
    flat = images.reshape((*shape[:2], *(1,) * len(spatial))) * math.prod(spatial)
    for axis in range(len(spatial)):
        step = math.prod(spatial[:axis] if column_major else spatial[axis + 1 :])
        offsets = taps[:, axis] * window.dilations[axis] * step
        flat = flat + (_starts(window, axis) * step + offsets[which])
    return np.where(which < 0, -1, flat)


MAX_POOL = define(
    "max_pool(x)",
    "The largest element of each window, and where it was (a flat index over the whole operand).",
    infer=_max_infer, evaluate=_max_evaluate, attrs={**POOL_ATTRS, "storage_order": Attr("int", 0)},
    traits=[Trait.REDUCTION], onnx="MaxPool",
)  # fmt: skip


def _sum_of_taps(x: Array, window: Window) -> Array:
    window = trimmed(window, x.shape[2:])  # one may be far larger than all there is
    source = padded(x, window, 0)
    total = np.zeros((*x.shape[:2], *ints_of(window.out)), x.dtype)
    for tap in window.taps():
        total += tap_of(source, window, tap)
    return total


def _average_evaluate(call: Evaluation) -> Array:
    x = call[0]
    window = pool_window(call, x.shape[2:])
    counts = valid_counts(window, x.shape[2:], with_padding=bool(call.int("count_include_pad")))
    wide = natural(x.dtype)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (_sum_of_taps(x.astype(wide), window) / counts.astype(wide)).astype(x.dtype)


AVERAGE_POOL = define(
    "average_pool(x)",
    "The mean of each window, of its elements inside the operand unless padding counts.",
    infer=_float_pool_infer, evaluate=_average_evaluate,
    attrs={**POOL_ATTRS, "count_include_pad": Attr("int", 0)}, traits=[Trait.REDUCTION],
    onnx="AveragePool", since=7,
)  # fmt: skip


def _root(total: Array, p: int) -> Array:
    return np.sqrt(total) if p == 2 else total ** np.asarray(1 / p, total.dtype)


def _lp_evaluate(call: Evaluation) -> Array:
    x, p = call[0], call.int("p")
    powers = np.abs(x.astype(natural(x.dtype))) ** p
    return _root(_sum_of_taps(powers, pool_window(call, x.shape[2:])), p).astype(x.dtype)


LP_POOL = define(
    "lp_pool(x)",
    "The Lp norm of each window; padding counts as zero.",
    infer=_float_pool_infer, evaluate=_lp_evaluate, attrs={**POOL_ATTRS, "p": Attr("int", 2)},
    traits=[Trait.REDUCTION], onnx="LpPool", since=2,
)  # fmt: skip


def _global_infer(call: Inference) -> TensorType:
    check_dtype(call, "x", FLOATS)
    x = call.types[0]
    spatial = spatial_shape(call, x, least=0)
    return x.with_shape(*x.shape[:2], *(1,) * len(spatial))


def _space(x: Array) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


def _global_average(call: Evaluation) -> Array:
    x = call[0]
    total = x.astype(natural(x.dtype)).sum(axis=_space(x), keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (total / total.dtype.type(np.prod(x.shape[2:]))).astype(x.dtype)


def _global_max(call: Evaluation) -> Array:
    x = call[0]
    return (
        x.astype(natural(x.dtype))
        .max(axis=_space(x), keepdims=True, initial=-np.inf)
        .astype(x.dtype)
    )


def _global_lp(call: Evaluation) -> Array:
    x, p = call[0], call.int("p")
    powers = np.abs(x.astype(natural(x.dtype))) ** p
    return _root(powers.sum(axis=_space(x), keepdims=True), p).astype(x.dtype)


GLOBAL_AVERAGE_POOL = define(
    "global_average_pool(x)",
    "The mean over all of space.",
    infer=_global_infer,
    evaluate=_global_average,
    traits=[Trait.REDUCTION],
    onnx="GlobalAveragePool",
)
GLOBAL_MAX_POOL = define(
    "global_max_pool(x)",
    "The largest element over all of space.",
    infer=_global_infer,
    evaluate=_global_max,
    traits=[Trait.REDUCTION],
    onnx="GlobalMaxPool",
)
GLOBAL_LP_POOL = define(
    "global_lp_pool(x)", "The Lp norm over all of space.", infer=_global_infer, evaluate=_global_lp,
    attrs={"p": Attr("int", 2)}, traits=[Trait.REDUCTION], onnx="GlobalLpPool", since=2,
)  # fmt: skip


def unpooled_extents(call: Arguments[Any], spatial: Sequence[Dim]) -> list[Dim]:
    """The extents of the operand of the pooling to undo, if no element of it was left over."""
    count = len(spatial)
    kernel, pads = pool_kernel(call, count), per_axis(call, "pads", 2 * count, 0, 0)
    strides = per_axis(call, "strides", count, 1, 1)
    return [
        maximum(0, (extent - 1) * strides[axis] - pads[axis] - pads[count + axis] + kernel[axis])
        for axis, extent in enumerate(spatial)
    ]


def _unpool_infer(call: Inference) -> TensorType:
    check_dtype(call, "x", FLOATS)
    check_dtype(call, "indices", {DType.I64})
    x, indices = call.types[0], call.types[1]
    spatial = spatial_shape(call, x)
    if indices.rank != x.rank:
        raise LeptonError(
            f"max_unpool: indices {indices} should have the shape of x {x}", code="E103"
        )
    shape = call.content("output_shape")
    if shape is not None:
        return x.with_shape(*shape.tolist())
    if call.type("output_shape") is not None:
        return x.with_shape(*(call.unknown(axis) for axis in range(x.rank)))
    return x.with_shape(*x.shape[:2], *unpooled_extents(call, spatial))


def _unpool_evaluate(call: Evaluation) -> Array:
    x, indices, stated = call[0], call[1], call.get("output_shape")
    natural_shape = [*x.shape[:2], *ints_of(unpooled_extents(call, x.shape[2:]))]
    y = np.zeros(int(np.prod(natural_shape)), x.dtype)
    y[indices.reshape(-1)] = x.reshape(-1)
    y = y.reshape(natural_shape)
    if stated is None:
        return y
    result = np.zeros(tuple(map(int, stated)), x.dtype)
    cut = tuple(slice(0, min(a, b)) for a, b in zip(natural_shape, result.shape, strict=True))
    result[cut] = y[cut]
    return result


MAX_UNPOOL = define(
    "max_unpool(x, indices, output_shape?!)",
    "Each element at the flat index it was taken from, zeros elsewhere.",
    infer=_unpool_infer,
    evaluate=_unpool_evaluate,
    attrs={
        "kernel_shape": Attr("ints", required=True),
        "pads": Attr("ints"),
        "strides": Attr("ints"),
    },
    onnx="MaxUnpool",
    since=9,
)
