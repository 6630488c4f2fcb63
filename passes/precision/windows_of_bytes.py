"""Convolutions of bytes made real, as products of the bytes in each window."""

from __future__ import annotations

import math

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.build import Builder
from leptonc.ir.graph import Op, Value
from leptonc.ir.ops.windows import Window, kernel_of, resolve_window
from leptonc.ir.table import Inference
from leptonc.ir.types import DType, TensorType
from leptonc.passes.constants import uniform
from leptonc.passes.pattern import Match, pat
from leptonc.passes.precision import products_of_bytes
from leptonc.passes.precision.products_of_bytes import bias, point, real, weight, x
from leptonc.passes.precision.quantised_convolution import quantised_conv, requantised
from leptonc.passes.rewrite import rule

FEWEST, SHALLOW = 64, 256
"""With fewer channels or filters, or less depth, gathering windows takes what products save."""
TAPS = 8
"""Larger windows of bytes take more than twice the memory of the signal in floats."""


@rule(pat.conv(real, weight, bias=bias.optional()))
def windows_of_bytes(m: Match, build: Builder) -> Value:
    """A convolved signal of bytes made real: the bytes of each window are a row of a layer.

    Convolutions over planes keep their kernels of floats, which need not turn channels last.
    """
    window = window_of(m.root)
    blob = m[weight].blob
    assert blob is not None
    _require_signal(m, window, m[x].type, blob.type)
    weights = products_of_bytes.scaled(m, _matrix(blob.array))
    offset = m.get(point)
    zero = 0 if offset is None else int(uniform(offset) or 0)
    rows, at_zero = _rows(build, m[x], zero, window)
    return _channels_first(
        build, products_of_bytes.build_scaled(m, build, rows, at_zero, weights)
    )  # fmt: skip


@rule(pat.qlinear_conv(...))
def quantised_windows(m: Match, build: Builder) -> Value:
    """A convolved signal of bytes that are quantised again: so are the sums of the layer."""
    conv, window = quantised_conv(m), window_of(m.root)
    _require_signal(m, window, conv.source.type, m.root.operands[3].type)
    weights = products_of_bytes.in_bytes(m, _matrix(conv.integers), conv.most)
    rows, at_zero = _rows(build, conv.source, conv.zero, window)
    sums = products_of_bytes.build_sums(build, rows, at_zero, weights)
    return _channels_first(build, requantised(build, sums, conv, (-1,)))


def _require_signal(m: Match, window: Window, x: TensorType, w: TensorType) -> None:
    """Go on only for convolutions along one axis that are wide enough."""
    m.require(m.root.int("group") == 1, "there are groups")
    known = all(isinstance(dim, int) for dim in (*x.shape[1:], *window.out))
    m.require(known and 0 not in window.out, "its extents are not known")
    long, taps = [out for out in window.out if out != 1], math.prod(window.kernel)
    m.require(len(long) < 2 and max(window.kernel) == taps, "it is over planes")
    filters, channels, *_ = w.extents
    m.require(min(filters, channels) >= FEWEST, "few channels are faster in floats")
    m.require(channels * taps >= SHALLOW, "sums of few products are faster in floats")
    m.require(taps <= TAPS, "the windows take too much memory")


def _matrix(weight: Array) -> Array:
    """The weight as a layer over the bytes of a window has it."""
    return np.moveaxis(weight, (0, 1), (-1, -2)).reshape(-1, weight.shape[0])


def _rows(build: Builder, x: Value, zero: int, window: Window) -> tuple[Value, Value]:
    """The bytes of each window as a row, from 0 on, and the one that stands for zero."""
    if x.type.dtype is DType.I8:
        wide = build.op("cast", [x], {"to": DType.I16}).result
        shifted = build.add(wide, build.const(np.array(128, np.int16)))
        x, zero = build.op("cast", [shifted], {"to": DType.U8}).result, zero + 128
    at_zero, rank = build.const(np.array(zero, np.uint8)), len(window.kernel)
    rows = build.transpose(x, perm=(0, *range(2, rank + 2), 1))
    if window.is_padded:
        pads = np.array([0, *window.before, 0, 0, *window.after, 0], np.int64)
        rows = build.pad(rows, build.const(pads), constant_value=at_zero)
    if any(extent > 1 for extent in (*window.kernel, *window.strides)):
        taps = [_tap(build, rows, window, tap) for tap in window.taps()]
        rows = build.concat(*taps, axis=rank + 1) if len(taps) > 1 else taps[0]
    return rows, at_zero


def _channels_first(build: Builder, x: Value) -> Value:
    last = x.type.rank - 1
    return build.transpose(x, perm=(0, last, *range(1, last)))


def window_of(op: Op) -> Window:
    """The window of a convolution."""
    call = Inference(op.definition, op.operands, op.operand_names, op.attrs, op.regions)
    space, w = op.operands[0].type.shape[2:], op.operand("w")
    assert w is not None
    return resolve_window(call, space, kernel_of(call, w.type, len(space)))


def _tap(build: Builder, rows: Value, window: Window, tap: tuple[int, ...]) -> Value:
    """The bytes at one place of every window."""
    starts = [at * step for at, step in zip(tap, window.dilations, strict=True)]
    ends = [
        start + (out - 1) * stride + 1
        for start, out, stride in zip(starts, window.out, window.strides, strict=True)
    ]
    axes = range(1, len(starts) + 1)
    limits = (
        build.const(np.array(numbers, np.int64))
        for numbers in (starts, ends, axes, window.strides)
    )  # fmt: skip
    start, end, along, steps = limits
    return build.slice(rows, start, end, axes=along, steps=steps)
