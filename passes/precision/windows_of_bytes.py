"""Convolutions of bytes made real, as products of the bytes in each window."""

from __future__ import annotations

import math

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.build import Builder
from leptonc.ir.graph import Op, Value
from leptonc.ir.ops.windows import Window, kernel_of, resolve_window
from leptonc.ir.table import Inference
from leptonc.ir.types import DType
from leptonc.passes.constants import uniform
from leptonc.passes.pattern import Match, pat
from leptonc.passes.precision import products_of_bytes
from leptonc.passes.precision.products_of_bytes import bias, point, real, weight, x
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
    window, matrix = _window(m.root), _matrix(m)
    weights = products_of_bytes.scaled(m, matrix)
    rank = len(window.kernel)
    rows, zero = _unsigned(m, build)
    rows = build.transpose(rows, perm=(0, *range(2, rank + 2), 1))
    if window.is_padded:
        pads = np.array([0, *window.before, 0, 0, *window.after, 0], np.int64)
        rows = build.pad(rows, build.const(pads), constant_value=build.const(zero))
    if any(extent > 1 for extent in (*window.kernel, *window.strides)):
        taps = [_tap(build, rows, window, tap) for tap in window.taps()]
        rows = build.concat(*taps, axis=rank + 1) if len(taps) > 1 else taps[0]
    sums = products_of_bytes.build_scaled(m, build, rows, build.const(zero), weights)
    return build.transpose(sums, perm=(0, rank + 1, *range(1, rank + 1)))


def _matrix(m: Match) -> Array:
    """The weight as a layer over the bytes of a window has it."""
    blob, window = m[weight].blob, _window(m.root)
    assert blob is not None
    filters, channels, *_ = blob.type.extents
    m.require(m.root.int("group") == 1, "there are groups")
    known = all(isinstance(dim, int) for dim in (*m[x].type.shape[1:], *window.out))
    m.require(known and 0 not in window.out, "its extents are not known")
    long = [out for out in window.out if out != 1]
    m.require(len(long) < 2 and max(window.kernel) == math.prod(window.kernel), "it is over planes")
    taps = math.prod(window.kernel)
    m.require(min(filters, channels) >= FEWEST, "few channels are faster in floats")
    m.require(channels * taps >= SHALLOW, "sums of few products are faster in floats")
    m.require(taps <= TAPS, "the windows take too much memory")
    return np.moveaxis(blob.array, (0, 1), (-1, -2)).reshape(-1, filters)


def _unsigned(m: Match, build: Builder) -> tuple[Value, Array]:
    """The bytes from zero on, which products take, and the one that stands for zero."""
    offset = m.get(point)
    zero = 0 if offset is None else int(uniform(offset) or 0)
    if m[x].type.dtype is DType.U8:
        return m[x], np.array(zero, np.uint8)
    wide = build.op("cast", [m[x]], {"to": DType.I16}).result
    shifted = build.add(wide, build.const(np.array(128, np.int16)))
    return build.op("cast", [shifted], {"to": DType.U8}).result, np.array(zero + 128, np.uint8)


def _window(op: Op) -> Window:
    call = Inference(op.definition, op.operands, op.operand_names, op.attrs, op.regions)
    space = op.operands[0].type.shape[2:]
    return resolve_window(call, space, kernel_of(call, op.operands[1].type, len(space)))


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
