# pyright: standard
"""Lowering of deformable convolution: what each window element reads, then the sums over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import te, tirx

from leptonc.backends.tvm.lower.arithmetic import let
from leptonc.backends.tvm.lower.nn import channel_of, window_of, with_bias
from leptonc.backends.tvm.lower.parts import Tensor, cast, compute, natural, reduce_axes, tensor_as
from leptonc.backends.tvm.lowering import KernelRule, LowerCall, Reason, Rule
from leptonc.ir.ops.windows import Window


def deform_conv(call: LowerCall) -> Tensor:
    """The moved elements as a stage, then a sum over a group's inputs and the window."""
    x, w = call.op.operands[0].type, call.op.operands[1].type
    window, group = window_of(call, x, w), call.known.int("group")
    columns = _columns(call, window)
    weight = tensor_as(call[1], natural(call[1].dtype))
    channel, *taps = reduce_axes([call.dim(w.shape[1]), *(call.index(k) for k in window.kernel)])
    each = (w.shape[1], w.shape[0] // group)

    def element(n: Any, o: Any, *index: Any) -> Any:
        c = channel_of(call, o, channel.var, group, each)
        source = columns(n, c, *(tap.var for tap in taps), *index)
        return te.sum(source * weight(o, channel, *taps), axis=[channel, *taps])

    return with_bias(call, compute(call.shape(), element, name="convolution"))


def _columns(call: LowerCall, window: Window) -> Tensor:
    """What each element of the window reads for each channel and place, weighed by the mask."""
    type = call.op.operands[0].type
    x = tensor_as(call[0], natural(call[0].dtype))
    offset, mask = call.get("offset"), call.get("mask")
    assert offset is not None
    each = call.dim(type.shape[1] // call.known.int("offset_group"))
    shape = [call.dim(type.shape[0]), call.dim(type.shape[1])]
    shape += [call.index(extent) for extent in window.kernel] + call.shape()[2:]
    height, width = window.kernel

    def element(n: Any, c: Any, kh: Any, kw: Any, oh: Any, ow: Any) -> Any:
        part = tirx.floordiv(c, each)
        tap = (part * call.index(height) + kh) * call.index(width) + kw
        places = [_start(call, window, axis, (kh, kw), (oh, ow)) for axis in (0, 1)]
        moved = [
            cast(place, str(x.dtype)) + cast(offset(n, tap * 2 + axis, oh, ow), str(x.dtype))
            for axis, place in enumerate(places)
        ]
        value = let(
            moved[0], lambda row: let(moved[1], lambda column: _between(x, (n, c), row, column))
        )
        return value if mask is None else value * cast(mask(n, tap, oh, ow), str(x.dtype))

    return compute(shape, element, name="columns")


def _start(
    call: LowerCall, window: Window, axis: int, taps: Sequence[Any], index: Sequence[Any]
) -> Any:
    """Where an element of the window lies before it is moved."""
    at = index[axis] * call.index(window.strides[axis]) + taps[axis] * call.index(
        window.dilations[axis]
    )
    return at - call.dim(window.before[axis])


def _between(x: Tensor, head: Sequence[Any], row: Any, column: Any) -> Any:
    """`x` between its elements; what lies outside is zero."""
    one, zero = tirx.const(1, str(row.ty)), tirx.const(0, str(row.ty))
    total: Any = None
    for down in (False, True):
        for right in (False, True):
            shares: list[Any] = []
            places: list[Any] = []
            inside: list[Any] = []
            for place, up, extent in ((row, down, x.shape[2]), (column, right, x.shape[3])):
                floor = tirx.floor(place)
                shares.append(place - floor if up else one - (place - floor))
                at = floor + one if up else floor
                # compared as floats: an integer might not hold the place
                inside += [at >= zero, at < cast(extent, str(row.ty))]
                places.append(at)
            read = x(*head, *(at.astype("int64") for at in places))
            value = tirx.if_then_else(tirx.all(*inside), read * shares[0] * shares[1], zero)
            total = value if total is None else total + value
    return total


RULES: dict[str, Rule] = {"deform_conv": deform_conv}
KERNELS: dict[str, KernelRule] = {}
REASONS: dict[str, Reason] = {}
