"""Convolutions and their transposes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim, floordiv, maximum
from leptonc.ir.ops.broadcasting import FLOATS, check_dtype, check_same_dtype
from leptonc.ir.ops.extents import differ, natural
from leptonc.ir.ops.windows import (
    WINDOW_ATTRS,
    Window,
    auto_pad_of,
    ints_of,
    kernel_of,
    padded,
    per_axis,
    reach,
    resolve_window,
    spatial_shape,
    tap_of,
)  # fmt: skip
from leptonc.ir.table import Arguments, Attr, Evaluation, Inference, Trait, define
from leptonc.ir.types import DType, TensorType

CONV_ATTRS = {**WINDOW_ATTRS, "group": Attr("int", 1)}


def group_of(call: Arguments[Any]) -> int:
    """The number of groups; raises E108 for none."""
    group = call.int("group")
    if group < 1:
        raise LeptonError(
            f"{call.definition.name}.group is {group}, should be at least 1", code="E108"
        )
    return group


def check_weight_rank(call: Inference, x: TensorType, w: TensorType) -> None:
    """Raise E103 unless the weight has as many dimensions as the operand."""
    if w.rank != x.rank:
        raise LeptonError(
            f"{call.definition.name}: the weight {w} has {w.rank} dimensions, x {x} has {x.rank}",
            code="E103",
        )


def check_divisible(call: Inference, what: str, dim: Dim, group: int) -> None:
    """Raise E103 where a known extent does not split into `group` equal parts."""
    if isinstance(dim, int) and dim % group:
        raise LeptonError(
            f"{call.definition.name}: {dim} {what} do not split into {group} groups", code="E103"
        )


def check_channel_vector(call: Inference, name: str, channels: Dim) -> None:
    """Raise E103 unless the operand `name`, if any, holds one number for each channel."""
    type = call.type(name)
    if type is not None and (type.rank != 1 or differ(type.shape[0], channels)):
        raise LeptonError(
            f"{call.definition.name}: {name} {type} should hold one number for each of "
            f"{channels} channels",
            code="E103",
        )


def conv_shape(call: Inference, x: TensorType, w: TensorType) -> tuple[Dim, ...]:
    """The extents of a convolution's result."""
    spatial = spatial_shape(call, x)
    check_weight_rank(call, x, w)
    group = group_of(call)
    if differ(w.shape[1] * group, x.shape[1]):
        grouped = f" in {group} groups" if group > 1 else ""
        raise LeptonError(
            f"{call.definition.name} weight expects {w.shape[1] * group} input channels{grouped}, "
            f"x {x} has {x.shape[1]}",
            code="E103",
        )
    check_divisible(call, "output channels", w.shape[0], group)
    window = resolve_window(call, spatial, kernel_of(call, w, len(spatial)))
    return (x.shape[0], w.shape[0], *window.out)


def convolve(x: Array, w: Array, window: Window, group: int) -> Array:
    """The convolution in `x`'s type: one matrix product for each element of the window."""
    batch, channels = x.shape[:2]
    outputs, out = w.shape[0], ints_of(window.out)
    source = padded(x, window, 0)
    taps = len(window.kernel)
    weights = w.reshape(group, outputs // group, channels // group, *window.kernel)
    weights = np.ascontiguousarray(np.moveaxis(weights, (0, 1, 2), range(taps, taps + 3)))
    total = np.zeros((batch, group, outputs // group, int(np.prod(out))), x.dtype)
    for tap in window.taps():
        part = tap_of(source, window, tap).reshape(batch, group, channels // group, total.shape[-1])
        total += weights[tap] * part if channels == group else np.matmul(weights[tap], part)
    return total.reshape(batch, outputs, *out)


def window_at(call: Evaluation, x: Array, w: Array) -> Window:
    """The window of a convolution of data at hand."""
    return resolve_window(call, x.shape[2:], w.shape[2:])


def add_bias(y: Array, bias: Array | None) -> Array:
    """`y` plus one number for each channel."""
    return y if bias is None else y + bias.reshape(-1, *(1,) * (y.ndim - 2)).astype(y.dtype)


def _conv_infer(call: Inference) -> TensorType:
    check_dtype(call, "x", FLOATS)
    dtype = check_same_dtype(call, "x", "w", "bias")
    shape = conv_shape(call, call.types[0], call.types[1])
    check_channel_vector(call, "bias", shape[1])
    return TensorType(dtype, shape)


def _conv_evaluate(call: Evaluation) -> Array:
    x, w = call[0], call[1]
    wide = natural(x.dtype)
    y = convolve(x.astype(wide), w.astype(wide), window_at(call, x, w), call.int("group"))
    return add_bias(y, call.get("bias")).astype(x.dtype)


CONV = define(
    "conv(x, w, bias?)",
    "Convolution of channels-first data with a weight of [outputs, inputs / group, ...kernel].",
    infer=_conv_infer, evaluate=_conv_evaluate, attrs=CONV_ATTRS, traits=[Trait.PRODUCT],
    onnx="Conv",
)  # fmt: skip


def resolve_transposed(
    call: Arguments[Any], spatial: Sequence[Dim], kernel: Sequence[int]
) -> Window:
    """A transposed convolution's window: `out` is the result, padding is cut off it."""
    count = len(spatial)
    strides, dilations = (
        per_axis(call, "strides", count, 1, 1),
        per_axis(call, "dilations", count, 1, 1),
    )
    extra = per_axis(call, "output_padding", count, 0, 0)
    pads, mode = per_axis(call, "pads", 2 * count, 0, 0), auto_pad_of(call)
    stated = per_axis(call, "output_shape", count, 0, 0) if call.ints("output_shape") else None
    before: list[Dim] = []
    after: list[Dim] = []
    out: list[Dim] = []
    for axis, (extent, span) in enumerate(
        zip(spatial, reach(tuple(kernel), dilations), strict=True)
    ):
        full = (extent - 1) * strides[axis] + extra[axis] + span
        if stated is None and not mode.startswith("SAME"):
            low, high = (0, 0) if mode == "VALID" else (pads[axis], pads[count + axis])
            places = full - low - high
        else:
            places = stated[axis] if stated is not None else extent * strides[axis]
            total = maximum(0, full - places)
            half = floordiv(total, 2)
            low, high = (half, total - half) if mode == "SAME_UPPER" else (total - half, half)
        if isinstance(places, int) and places < 0:
            raise LeptonError(
                f"{call.definition.name}: {full} elements on spatial axis {axis} are fewer than "
                "the "
                f"{low} and {high} to cut off",
                code="E103",
            )
        before.append(low)
        after.append(high)
        out.append(places)
    return Window(tuple(kernel), strides, dilations, tuple(before), tuple(after), tuple(out))


def _transpose_infer(call: Inference) -> TensorType:
    check_dtype(call, "x", FLOATS)
    dtype: DType = check_same_dtype(call, "x", "w", "bias")
    x, w = call.types[0], call.types[1]
    spatial = spatial_shape(call, x)
    check_weight_rank(call, x, w)
    group = group_of(call)
    if differ(w.shape[0], x.shape[1]):
        raise LeptonError(
            f"conv_transpose weight expects {w.shape[0]} input channels, x {x} has {x.shape[1]}",
            code="E103",
        )
    check_divisible(call, "input channels", x.shape[1], group)
    channels = w.shape[1] * group
    check_channel_vector(call, "bias", channels)
    window = resolve_transposed(call, spatial, kernel_of(call, w, len(spatial)))
    return TensorType(dtype, (x.shape[0], channels, *window.out))


def _transpose_evaluate(call: Evaluation) -> Array:
    x, w, group = call[0], call[1], call.int("group")
    wide = natural(x.dtype)
    window = resolve_transposed(call, x.shape[2:], w.shape[2:])
    batch, channels = x.shape[:2]
    outputs = w.shape[1]
    out, before = ints_of(window.out), ints_of(window.before)
    full = [
        max((extent - 1) * stride + span, low + places)
        for extent, stride, span, low, places in zip(
            x.shape[2:], window.strides, window.reach, before, out, strict=True
        )
    ]
    y = np.zeros((batch, group, outputs, *full), wide)
    source = x.astype(wide).reshape(batch, group, channels // group, -1)
    weights = w.astype(wide).reshape(group, channels // group, outputs, *window.kernel)
    for tap in window.taps():
        part = np.matmul(np.ascontiguousarray(weights[(..., *tap)].swapaxes(1, 2)), source)
        cuts = [
            slice(k * d, k * d + max((extent - 1) * s + 1, 0), s)
            for k, d, s, extent in zip(
                tap, window.dilations, window.strides, x.shape[2:], strict=True
            )
        ]
        y[(slice(None), slice(None), slice(None), *cuts)] += part.reshape(
            batch, group, outputs, *x.shape[2:]
        )
    cuts = [slice(low, low + places) for low, places in zip(before, out, strict=True)]
    y = y.reshape(batch, group * outputs, *full)[(slice(None), slice(None), *cuts)]
    return add_bias(y, call.get("bias")).astype(x.dtype)


CONV_TRANSPOSE = define(
    "conv_transpose(x, w, bias?)",
    "Transposed convolution with a weight of [inputs, outputs / group, ...kernel].",
    infer=_transpose_infer, evaluate=_transpose_evaluate,
    attrs={**CONV_ATTRS, "output_padding": Attr("ints"), "output_shape": Attr("ints")},
    traits=[Trait.PRODUCT], onnx="ConvTranspose",
)  # fmt: skip
