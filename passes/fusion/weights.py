"""Scaling and shifting what products with constant weights compute, by changing the weights."""

from __future__ import annotations

import numpy as np

from leptonc.ir.blob import Array, Blob
from leptonc.ir.build import Builder
from leptonc.ir.graph import Op, Value
from leptonc.passes.constants import array_of
from leptonc.passes.pattern import Const, Match, OpPattern, Var, pat

x = Var("x")
weight, bias = Const("weight"), Const("bias")

WEIGHTED = ("conv", "conv_transpose", "linear")
"""Products whose weight this module can change."""


def weighted() -> OpPattern:
    """A product with a constant weight, and a constant bias if any, that nothing else reads."""
    return pat.any_of(*WEIGHTED)(x, weight, bias=bias.optional())


def channel_axis(op: Op) -> int:
    """The axis of the result along which the weight has its outputs."""
    return op.result.type.rank - 1 if op.name == "linear" else 1


def channels(op: Op) -> int:
    """The number of outputs of the weight."""
    extent = op.result.type.shape[channel_axis(op)]
    assert isinstance(extent, int)
    return extent


def per_channel(m: Match, constant: Value, like: Value, axis: int) -> Array:
    """`constant` as one f64 for each channel; the rule does not apply where it varies elsewhere."""
    data = array_of(constant)
    m.fits(data is not None and constant.type.dtype.is_float)
    assert data is not None
    extent = like.type.shape[axis]
    m.fits(isinstance(extent, int))
    assert isinstance(extent, int)
    m.require(data.ndim <= like.type.rank, "the constant broadcasts the product")
    shape = (1,) * (like.type.rank - data.ndim) + data.shape
    expected = tuple(extent if index == axis else 1 for index in range(like.type.rank))
    m.require(
        all(have in (1, want) for have, want in zip(shape, expected, strict=True)),
        "the constant differs along other axes than the channels",
    )
    wide = np.broadcast_to(data.astype(np.float64).reshape(shape), expected).reshape(-1)
    m.require(bool(np.isfinite(wide).all()), "the constant is not finite")
    return wide


def rebuilt(build: Builder, op: Op, source: Value, data: Array, offset: Array | None) -> Value:
    """`op` on `source`, with another weight and bias in the element type it has."""
    old = op.operands[1]
    dtype = old.type.dtype.numpy
    new = build.const(Blob.of(np.ascontiguousarray(data.astype(dtype))))
    new.name = old.name
    operands = [source, new]
    names = list(op.operand_names[:2])
    if offset is not None:
        operands.append(build.const(Blob.of(offset.astype(dtype))))
        names.append("bias")
    return build.op(op.definition, operands, op.attrs, names=names).result


def affine_after(
    m: Match, build: Builder, op: Op, scale: Array | None, shift: Array | None
) -> Value:
    """The product that gives `scale * op + shift`, both per channel."""
    data = m.blob(weight).array
    offset = array_of(m[bias]) if m.get(bias) is not None else None
    if scale is not None:
        data = _scaled_outputs(op, data.astype(np.float64), scale)
        offset = offset.astype(np.float64) * scale if offset is not None else None
    if shift is not None:
        offset = shift if offset is None else offset.astype(np.float64) + shift
    return rebuilt(build, op, m[x], data, offset)


def _scaled_outputs(op: Op, data: Array, scale: Array) -> Array:
    if op.name == "linear":
        return data * (scale[:, None] if op.attrs["transposed"] else scale)
    if op.name == "conv":
        return data * scale.reshape(-1, *(1,) * (data.ndim - 1))
    # conv_transpose: inputs x outputs of one group x window
    return _scaled_within_groups(data, scale, op.int("group"))


def _scaled_within_groups(data: Array, scale: Array, groups: int) -> Array:
    """`data`, its axis 0 divided into groups, with a factor for each group and place of axis 1."""
    split = data.reshape(groups, data.shape[0] // groups, *data.shape[1:])
    factors = scale.reshape(groups, 1, data.shape[1], *(1,) * (data.ndim - 2))
    return (split * factors).reshape(data.shape)


def scaled_inputs(op: Op, data: Array, scale: Array) -> Array:
    """The weight that does to `x` what `data` does to `scale * x`."""
    data = data.astype(np.float64)
    if op.name == "linear":
        return data * (scale if op.attrs["transposed"] else scale[:, None])
    if op.name == "conv_transpose":
        return data * scale.reshape(-1, *(1,) * (data.ndim - 1))
    # conv: outputs x inputs of one group x window
    return _scaled_within_groups(data, scale, op.int("group"))


def response_to(op: Op, data: Array, shift: Array) -> Array:
    """What each output gets from `shift` on every input, where no padding is in the way."""
    data = data.astype(np.float64)
    if op.name == "linear":
        return data @ shift if op.attrs["transposed"] else shift @ data
    groups = op.int("group")
    taps = data.reshape(groups, data.shape[0] // groups, data.shape[1], -1).sum(axis=-1)
    return np.einsum("goi,gi->go", taps, shift.reshape(groups, -1)).reshape(-1)


def pads_nothing(op: Op) -> bool:
    """True where no output of the product reads padding."""
    if op.name == "linear":
        return True
    if op.name != "conv":
        return False
    return op.str("auto_pad") in ("NOTSET", "VALID") and not any(op.ints("pads"))
