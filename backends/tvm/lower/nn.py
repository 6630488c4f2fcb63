# pyright: standard
"""Lowering of convolutions and their transposes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import te, tirx

from leptonc.backends.tvm.lower.parts import (
    Tensor,
    cast,
    compute,
    natural,
    padded,
    reduce_axes,
    tensor_as,
)
from leptonc.backends.tvm.lowering import LowerCall, Reason, Rule
from leptonc.ir.dims import Dim, maximum
from leptonc.ir.ops.conv import resolve_transposed
from leptonc.ir.ops.windows import Window, kernel_of, resolve_window
from leptonc.ir.types import TensorType


def window_of(call: LowerCall, x: TensorType, w: TensorType) -> Window:
    """The window of a convolution."""
    spatial = x.shape[2:]
    return resolve_window(call.known, spatial, kernel_of(call.known, w, len(spatial)))


def surrounded(
    call: LowerCall, x: Tensor, spatial: Sequence[Dim], window: Window, fill: Any
) -> Tensor:
    """`x` with every place that the window touches; itself where no place lies outside."""
    before: list[Any] = [None, None]
    shape: list[Any] = [None, None]
    for axis, extent in enumerate(spatial):
        low, high = window.before[axis], window.after[axis]
        touched = (window.out[axis] - 1) * window.strides[axis] + window.reach[axis]
        wanted = maximum(extent + low + high, touched)
        is_inside = low == 0 and wanted == extent
        before.append(None if is_inside else call.dim(low))
        shape.append(None if is_inside else call.dim(wanted))
    return x if all(item is None for item in shape) else padded(x, before, shape, fill)


def place(call: LowerCall, window: Window, index: Sequence[Any], taps: Sequence[Any]) -> list[Any]:
    """Where the window at `index` reads for its elements `taps`."""
    return [
        at * call.index(stride) + tap * call.index(dilation)
        for at, tap, stride, dilation in zip(
            index, taps, window.strides, window.dilations, strict=True
        )
    ]


def channel_of(call: LowerCall, o: Any, inner: Any, group: int, each: tuple[Dim, Dim]) -> Any:
    """The input channel that output channel `o` reads at place `inner` of its group.

    `each` are the inputs and the outputs of one group.
    """
    inputs, outputs = each
    if group == 1:
        return inner
    which = o if outputs == 1 else tirx.floordiv(o, call.dim(outputs))
    return which if inputs == 1 else which * call.dim(inputs) + inner


def convolution(call: LowerCall, x: Tensor, w: Tensor, window: Window, group: int) -> Tensor:
    """The sums over one group's inputs and the window; `x` holds every place the window touches."""
    types = call.known.type("x"), call.known.type("w")
    assert types[0] is not None
    assert types[1] is not None
    weight = types[1].shape
    inputs, outputs = weight[1], weight[0] // group
    shape = [
        call.dim(types[0].shape[0]),
        call.dim(weight[0]),
        *(call.dim(dim) for dim in window.out),
    ]
    channel, *taps = reduce_axes(
        [call.dim(inputs), *(call.index(extent) for extent in window.kernel)]
    )

    def element(n: Any, o: Any, *index: Any) -> Any:
        c = channel_of(call, o, channel.var, group, (inputs, outputs))
        source = x(n, c, *place(call, window, index, [tap.var for tap in taps]))
        return te.sum(source * w(o, channel, *taps), axis=[channel, *taps])

    return compute(shape, element, name="convolution")


def with_bias(call: LowerCall, y: Tensor, finish: Callable[[Any], Any] | None = None) -> Tensor:
    """`y` plus the bias of each channel, in the result's type."""
    bias = call.get("bias")
    if bias is None and str(y.dtype) == call.dtype():
        return y

    def element(n: Any, c: Any, *index: Any) -> Any:
        value = y(n, c, *index)
        return cast(value if bias is None else value + cast(bias(c), str(y.dtype)), call.dtype())

    return compute(y.shape, element, name="biased")


def conv(call: LowerCall) -> Tensor:
    """Padding, sums, bias."""
    types = [value.type for value in call.op.operands]
    window = window_of(call, types[0], types[1])
    dtype = natural(call[0].dtype)
    x, w = tensor_as(call[0], dtype), tensor_as(call[1], dtype)
    x = surrounded(call, x, types[0].shape[2:], window, tirx.const(0, dtype))
    return with_bias(call, convolution(call, x, w, window, call.known.int("group")))


def conv_transpose(call: LowerCall) -> Tensor:
    """Each result element gathers what reaches it.

    Element p of the result gets x[i] w[k] where i stride + k dilation = p + before. With a dilation
    of 1 those k are (p + before) mod stride and every stride-th from there on, so operand and
    weight get zeros around them once and the sums need no conditions.
    """
    types = [value.type for value in call.op.operands]
    spatial = types[0].shape[2:]
    window = resolve_transposed(call.known, spatial, kernel_of(call.known, types[1], len(spatial)))
    dtype = natural(call[0].dtype)
    steps = [_Step(call, window, axis, extent) for axis, extent in enumerate(spatial)]
    x = padded(
        tensor_as(call[0], dtype), [None, None, *(step.margin for step in steps)],
        [None, None, *(step.padded_extent for step in steps)], tirx.const(0, dtype),
    )  # fmt: skip
    w = tensor_as(call[1], dtype)
    if any(step.weight_extent is not None for step in steps):
        zero = [None, None, *(None if s.weight_extent is None else call.index(0) for s in steps)]
        w = padded(
            w, zero, [None, None, *(step.weight_extent for step in steps)], tirx.const(0, dtype)
        )
    return with_bias(call, _gathered(call, x, w, window, steps))


class _Step:
    """How one axis of a transposed convolution is walked: `count` steps for each place."""

    def __init__(self, call: LowerCall, window: Window, axis: int, extent: Dim) -> None:
        self.call = call
        self.stride, self.dilation = window.strides[axis], window.dilations[axis]
        self.before = call.dim(window.before[axis])
        kernel = window.kernel[axis]
        self.by_phase = self.dilation == 1 and self.stride > 1
        self.count = -(-kernel // self.stride) if self.by_phase else kernel
        reach = (kernel - 1) * self.dilation
        margin = (reach + self.stride - 1) // self.stride
        last = (window.out[axis] - 1 + window.before[axis]) // self.stride
        self.margin = call.index(margin)
        self.padded_extent = call.dim(maximum(extent, last + 1) + margin)
        whole = self.count * self.stride if self.by_phase else kernel
        self.weight_extent = call.index(whole) if whole != kernel else None

    def at(self, p: Any, step: Any) -> tuple[Any, Any, Any]:
        """Where the padded operand and the weight are read, and a condition or None."""
        call, q = self.call, p + self.before
        stride = call.index(self.stride)
        if self.by_phase:
            whole = tirx.floordiv(q, stride)
            return whole - step + self.margin, tirx.floormod(q, stride) + step * stride, None
        start = q - step * call.index(self.dilation)
        if self.stride == 1:
            return start + self.margin, step, None
        whole = tirx.floordiv(start, stride)
        return whole + self.margin, step, tirx.floormod(start, stride) == call.index(0)


def _gathered(
    call: LowerCall, x: Tensor, w: Tensor, window: Window, steps: Sequence[_Step]
) -> Tensor:
    group = call.known.int("group")
    weight = call.op.operands[1].type.shape
    inputs, outputs = weight[0] // group, weight[1]
    channel, *taps = reduce_axes([call.dim(inputs), *(call.index(step.count) for step in steps)])

    def element(n: Any, o: Any, *index: Any) -> Any:
        walked = [step.at(p, tap.var) for step, p, tap in zip(steps, index, taps, strict=True)]
        c = channel_of(call, o, channel.var, group, (inputs, outputs))
        own = o if group == 1 else tirx.floormod(o, call.dim(outputs))
        product = x(n, c, *(source for source, _, _ in walked)) * w(
            c, own, *(tap for _, tap, _ in walked)
        )
        conditions = [condition for _, _, condition in walked if condition is not None]
        if conditions:
            product = tirx.if_then_else(tirx.all(*conditions), product, tirx.const(0, str(x.dtype)))
        return te.sum(product, axis=[channel, *taps])

    return compute(call.shape(), element, name="transposed")


RULES: dict[str, Rule] = {"conv": conv, "conv_transpose": conv_transpose}
REASONS: dict[str, Reason] = {}
