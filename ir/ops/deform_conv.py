"""Deformable convolution: each element of the window reads where an offset moves it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.ops.broadcasting import FLOATS, check_dtype, check_same_dtype
from leptonc.ir.ops.conv import (
    add_bias,
    check_channel_vector,
    check_divisible,
    check_weight_rank,
    group_of,
)  # fmt: skip
from leptonc.ir.ops.extents import differ, natural
from leptonc.ir.ops.windows import (
    WINDOW_ATTRS,
    ints_of,
    kernel_of,
    resolve_window,
    spatial_shape,
)  # fmt: skip
from leptonc.ir.table import Attr, Evaluation, Inference, Trait, define
from leptonc.ir.types import TensorType

ATTRS = {**WINDOW_ATTRS, "group": Attr("int", 1), "offset_group": Attr("int", 1)}


def _infer(call: Inference) -> TensorType:
    check_dtype(call, "x", FLOATS)
    dtype = check_same_dtype(call, "x", "w", "offset", "bias", "mask")
    x, w = call.types[0], call.types[1]
    spatial = spatial_shape(call, x, least=2)
    if x.rank != 4:
        raise LeptonError(
            f"deform_conv of {x}: two spatial axes are defined, it has {x.rank - 2}", code="E103"
        )
    check_weight_rank(call, x, w)
    group, parts = group_of(call), call.int("offset_group")
    if differ(w.shape[1] * group, x.shape[1]):
        raise LeptonError(
            f"deform_conv weight expects {w.shape[1] * group} input channels, x {x} has "
            f"{x.shape[1]}",
            code="E103",
        )
    check_divisible(call, "output channels", w.shape[0], group)
    check_divisible(call, "input channels", x.shape[1], parts)
    check_channel_vector(call, "bias", w.shape[0])
    window = resolve_window(call, spatial, kernel_of(call, w, 2))
    taps = window.kernel[0] * window.kernel[1]
    for name, channels in (("offset", 2 * parts * taps), ("mask", parts * taps)):
        type = call.type(name)
        wanted = (x.shape[0], channels, *window.out)
        if type is not None and (type.rank != 4 or any(map(differ, type.shape, wanted))):
            raise LeptonError(
                f"deform_conv: {name} {type} should be [{','.join(map(str, wanted))}]", code="E103"
            )
    return TensorType(dtype, (x.shape[0], w.shape[0], *window.out))


def _evaluate(call: Evaluation) -> Array:
    wide = natural(call[0].dtype)
    x, w, offset = (item.astype(wide) for item in call.items[:3])
    window = resolve_window(call, x.shape[2:], w.shape[2:])
    batch, channels = x.shape[:2]
    group, parts, out = call.int("group"), call.int("offset_group"), ints_of(window.out)
    taps = list(window.taps())
    moves = offset.reshape(batch, parts, len(taps), 2, *out)
    mask = call.get("mask")
    weight = np.ones((1, parts, len(taps), 1, 1), wide) if mask is None else mask.astype(wide)
    weight = weight.reshape(-1, parts, len(taps), *weight.shape[-2:])
    source = x.reshape(batch, parts, channels // parts, *x.shape[2:])
    total = np.zeros((batch, group, w.shape[0] // group, out[0] * out[1]), wide)
    kernels = w.reshape(group, w.shape[0] // group, w.shape[1], *w.shape[2:])
    for index, tap in enumerate(taps):
        places = [
            (np.arange(out[axis]) * window.strides[axis] + tap[axis] * window.dilations[axis]
             - ints_of(window.before)[axis]).reshape((-1, 1) if axis == 0 else (1, -1))
            + moves[:, :, index, axis]
            for axis in range(2)
        ]  # fmt: skip
        seen = bilinear(source, places) * weight[:, :, index, None]
        seen = seen.reshape(batch, group, channels // group, -1)
        total += np.matmul(np.ascontiguousarray(kernels[(..., *tap)]), seen)
    return add_bias(total.reshape(batch, -1, *out), call.get("bias")).astype(call[0].dtype)


def bilinear(x: Array, places: Sequence[Array]) -> Array:
    """`x[n, g, :, y, x]` between its elements, zero outside; `places` are y and x."""
    floors = [np.floor(place) for place in places]
    total = np.zeros((*x.shape[:3], *places[0].shape[2:]), x.dtype)
    height, width = x.shape[3:]
    flat = x.reshape(*x.shape[:3], height * width)
    for down in (0, 1):
        for right in (0, 1):
            row, column = floors[0] + down, floors[1] + right
            share = (1 - np.abs(places[0] - row)) * (1 - np.abs(places[1] - column))
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            at = np.where(inside, row * width + column, 0).astype(np.int64)
            picked = np.take_along_axis(flat, at.reshape(*at.shape[:2], 1, -1), axis=3)
            total += picked.reshape(total.shape) * np.where(inside, share, 0)[:, :, None].astype(
                x.dtype
            )
    return total


DEFORM_CONV = define(
    "deform_conv(x, w, offset, bias?, mask?)",
    "Convolution whose window elements are moved by offsets, read bilinearly and weighed by a "
    "mask.",
    infer=_infer,
    evaluate=_evaluate,
    attrs={k: v for k, v in ATTRS.items() if k != "auto_pad"},
    traits=[Trait.PRODUCT],
    onnx="DeformConv",
    since=19,
)
