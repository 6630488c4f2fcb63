# pyright: standard
"""Lowering of convolutions and their transposes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
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
from leptonc.ir.dims import Dim, ceildiv, floordiv, maximum
from leptonc.ir.ops.conv import resolve_transposed
from leptonc.ir.ops.windows import Window, kernel_of, resolve_window
from leptonc.ir.types import TensorType

WIDE, NARROW, FEW = 16, 8, 4
"""Places along the last axis are computed by so many, or fewer; fewer than the last one by one."""


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


def vector_width(places: Dim) -> int | None:
    """How many places along the last axis are computed together; None where there are too few."""
    if not isinstance(places, int):
        return WIDE
    if places < FEW:
        return None
    return WIDE if -(-places // WIDE) * WIDE == -(-places // NARROW) * NARROW else NARROW


def blocked(places: Dim) -> tuple[Dim, int] | None:
    """The last axis as blocks of so many places, the last of which may stick out."""
    width = vector_width(places)
    return None if width is None else (ceildiv(places, width), width)


def widened(window: Window) -> Window:
    """The window with the places of whole blocks along the last axis."""
    split = blocked(window.out[-1])
    if split is None:
        return window
    return replace(window, out=(*window.out[:-1], split[0] * split[1]))


def unblocked(
    call: LowerCall, shape: Sequence[Any], place_count: Dim, element: Callable[..., Any], name: str
) -> Tensor:
    """A stage of `shape` whose last axis is computed in whole blocks of vectors.

    What a block has beyond the axis is computed and left: `element` must be able to.
    """
    split = blocked(place_count)
    if split is None:
        return compute(shape, element, name=name)
    width = call.index(split[1])
    blocks = [*shape[:-1], call.dim(split[0]), width]
    stage = compute(blocks, lambda *i: element(*i[:-2], i[-2] * width + i[-1]), name=name)

    def read(*index: Any) -> Any:
        at = index[-1]
        return stage(*index[:-1], tirx.floordiv(at, width), tirx.floormod(at, width))

    return compute(shape, read, name="unblocked")


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

    return unblocked(call, shape, window.out[-1], element, "convolution")


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
    x = surrounded(call, x, types[0].shape[2:], widened(window), tirx.const(0, dtype))
    return with_bias(call, convolution(call, x, w, window, call.known.int("group")))


def conv_transpose(call: LowerCall) -> Tensor:
    """Each result element gathers what reaches it.

    Element p of the result gets x[i] w[k] where i stride + k dilation = p + before. With a dilation
    of 1 those k are (p + before) mod stride, the phase, and every stride-th from there on. Elements
    of one phase are computed together; operand and weight get zeros around them, so that the sums
    need no conditions.
    """
    types = [value.type for value in call.op.operands]
    spatial = types[0].shape[2:]
    kernel = kernel_of(call.known, types[1], len(spatial))
    window = resolve_transposed(call.known, spatial, kernel)
    dtype = natural(call[0].dtype)
    zero = tirx.const(0, dtype)
    steps = [_Step(call, window, axis, extent) for axis, extent in enumerate(spatial)]
    x = padded(
        tensor_as(call[0], dtype), [None, None, *(step.margin for step in steps)],
        [None, None, *(step.padded_extent for step in steps)], zero,
    )  # fmt: skip
    w = tensor_as(call[1], dtype)
    if any(step.weight_extent is not None for step in steps):
        none = [None, None, *(None if s.weight_extent is None else call.index(0) for s in steps)]
        w = padded(w, none, [None, None, *(step.weight_extent for step in steps)], zero)
    return with_bias(call, _interleaved(call, _gathered(call, x, w, steps), steps))


class _Step:
    """How one axis of a transposed convolution is walked: `count` steps for each place."""

    def __init__(self, call: LowerCall, window: Window, axis: int, extent: Dim) -> None:
        self.call = call
        self.stride, self.dilation = window.strides[axis], window.dilations[axis]
        self.before = call.dim(window.before[axis])
        kernel = window.kernel[axis]
        self.by_phase = self.dilation == 1 and self.stride > 1
        self.phases = self.stride if self.by_phase else 1
        self.count = -(-kernel // self.stride) if self.by_phase else kernel
        last = floordiv(window.out[axis] - 1 + window.before[axis], self.stride)
        self.places = last + 1 if self.by_phase else window.out[axis]
        margin = ((kernel - 1) * self.dilation + self.stride - 1) // self.stride
        self.margin = call.index(margin)
        is_last = axis == len(window.out) - 1
        split = blocked(self.places) if is_last else None
        touched = split[0] * split[1] if split is not None else self.places
        # by places of a phase, or by those of the result, which start `before` further on
        reached = touched if self.by_phase else window.before[axis] + touched
        self.padded_extent = call.dim(maximum(extent, reached) + margin)
        whole = self.count * self.stride if self.by_phase else kernel
        self.weight_extent = call.index(whole) if whole != kernel else None

    def split(self, p: Any) -> tuple[Any, Any]:
        """The phase of a place of the result, and its place in that phase."""
        if not self.by_phase:
            return self.call.index(0), p
        q, stride = p + self.before, self.call.index(self.stride)
        return tirx.floormod(q, stride), tirx.floordiv(q, stride)

    def at(self, phase: Any, place: Any, step: Any) -> tuple[Any, Any, Any]:
        """Where the padded operand and the weight are read, and a condition or None."""
        stride = self.call.index(self.stride)
        if self.by_phase:
            return place - step + self.margin, phase + step * stride, None
        start = place + self.before - step * self.call.index(self.dilation)
        if self.stride == 1:
            return start + self.margin, step, None
        source = tirx.floordiv(start, stride) + self.margin
        return source, step, tirx.floormod(start, stride) == self.call.index(0)


def _gathered(call: LowerCall, x: Tensor, w: Tensor, steps: Sequence[_Step]) -> Tensor:
    """The sums, by example, channel, phases and places."""
    group = call.known.int("group")
    weight = call.op.operands[1].type.shape
    inputs, outputs = weight[0] // group, weight[1]
    channel, *taps = reduce_axes([call.dim(inputs), *(call.index(step.count) for step in steps)])

    def element(n: Any, o: Any, *index: Any) -> Any:
        walked = [
            step.at(phase, place, tap.var)
            for step, phase, place, tap in zip(
                steps, index[: len(steps)], index[len(steps) :], taps, strict=True
            )
        ]
        c = channel_of(call, o, channel.var, group, (inputs, outputs))
        own = o if group == 1 else tirx.floormod(o, call.dim(outputs))
        source = x(n, c, *(source for source, _, _ in walked))
        product = source * w(c, own, *(tap for _, tap, _ in walked))
        conditions = [condition for _, _, condition in walked if condition is not None]
        if conditions:
            product = tirx.if_then_else(tirx.all(*conditions), product, tirx.const(0, x.dtype))
        return te.sum(product, axis=[channel, *taps])

    shape = [*call.shape()[:2], *(call.index(step.phases) for step in steps)]
    shape += [call.dim(step.places) for step in steps]
    return unblocked(call, shape, steps[-1].places, element, "transposed")


def _interleaved(call: LowerCall, parts: Tensor, steps: Sequence[_Step]) -> Tensor:
    """The result in order of its places."""
    if not any(step.by_phase for step in steps):
        zeros = [call.index(0)] * len(steps)
        return compute(call.shape(), lambda n, c, *p: parts(n, c, *zeros, *p), name="gathered")

    def element(n: Any, c: Any, *index: Any) -> Any:
        found = [step.split(p) for step, p in zip(steps, index, strict=True)]
        return parts(n, c, *(phase for phase, _ in found), *(place for _, place in found))

    return compute(call.shape(), element, name="interleaved")


RULES: dict[str, Rule] = {"conv": conv, "conv_transpose": conv_transpose}
REASONS: dict[str, Reason] = {}
