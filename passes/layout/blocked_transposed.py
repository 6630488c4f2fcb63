"""Transposed convolutions whose windows do not overlap, as products on blocks of channels."""

from __future__ import annotations

import math

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim
from leptonc.ir.graph import Op, Value
from leptonc.ir.types import DType


def kept_transposed(op: Op, lanes: int) -> str | None:
    """Why a transposed convolution stays as it is; None where each input has outputs of its own."""
    x, w = op.operands[0].type, op.operands[1]
    bias = op.operand("bias")
    if x.rank != 4 or x.dtype is not DType.F32:
        return "not of f32 images"
    if w.blob is None or 0 in w.type.extents or (bias is not None and bias.blob is None):
        return "the weight or the bias is not known, or empty"
    apart = op.ints("strides") == w.type.extents[2:] and set(op.ints("dilations") or (1,)) == {1}
    more = any(op.ints("pads") or ()) or any(op.ints("output_padding") or ())
    if not apart or more or op.ints("output_shape") or op.int("group") != 1:
        return "windows overlap, have pads or groups"
    if op.attrs["auto_pad"] not in ("NOTSET", "VALID"):
        return "the pads are not told"
    return None if w.type.extents[0] >= lanes else "few channels would not fill a block"


def spread(op: Op, source: Value, build: Builder, lanes: int) -> tuple[Value, bool]:
    """The result of a transposed convolution of a blocked operand, and whether it is blocked.

    One convolution of single pixels computes for each input all outputs of its window, which then
    move to their places: whole blocks, or where one block holds all that an input makes, numbers.
    """
    w, bias = op.operands[1].blob, op.operand("bias")
    assert w is not None
    filters, *kernel = w.array.shape[1:]
    weights = np.moveaxis(w.array, 0, -1)  # filters, rows, columns, channels
    given = None if bias is None or bias.blob is None else bias.blob.array
    offsets = np.zeros(filters, np.float32) if given is None else given
    offsets = np.broadcast_to(offsets[:, None, None, None], (*weights.shape[:3], 1))
    is_blocked = math.prod(weights.shape[:3]) > lanes
    if is_blocked:
        weights, offsets = (_filled(array, lanes) for array in (weights, offsets))
    operands = [source, _filters(weights, build)]
    if given is not None:
        operands.append(build.const(np.ascontiguousarray(offsets.reshape(-1))))
    attrs = {"lanes": lanes, "kernel_shape": (1, 1), "strides": (1, 1)}
    product = build.op("conv_blocked", operands, attrs).result
    batch, _, height, width = op.operands[0].type.shape
    if is_blocked:
        blocks = -(-filters // lanes)
        parts = (batch, *kernel, blocks, height, width, lanes)
        places, whole = (0, 3, 4, 1, 5, 2, 6), (batch, blocks)
    else:
        product = build.unpack_channels(product, channels=filters * math.prod(kernel))
        parts = (batch, filters, *kernel, height, width)
        places, whole = (0, 1, 4, 2, 5, 3), (batch, filters)
    moved = build.transpose(_shaped(product, parts, build), perm=places)
    whole = (*whole, height * kernel[0], width * kernel[1], *([lanes] if is_blocked else []))
    return _shaped(moved, whole, build), is_blocked


def _filled(array: Array, lanes: int) -> Array:
    """Filters, rows, columns, rest as rows, columns, whole blocks of filters, rest."""
    fill = [(0, -array.shape[0] % lanes), (0, 0), (0, 0), (0, 0)]
    return np.moveaxis(np.pad(array, fill), 0, 2)


def _filters(weights: Array, build: Builder) -> Value:
    channels = weights.shape[-1]
    return build.const(np.ascontiguousarray(weights.reshape(-1, channels, 1, 1)))


def _shaped(value: Value, shape: tuple[Dim, ...], build: Builder) -> Value:
    return build.reshape(value, build.dims(value=shape, shape=(len(shape),)))
