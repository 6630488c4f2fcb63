"""Sliding windows over spatial axes, of known and symbolic extents."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim, ceildiv, floordiv, maximum, minimum
from leptonc.ir.ops.broadcasting import shown_shape
from leptonc.ir.table import Arguments, Attr
from leptonc.ir.types import TensorType

AUTO_PADS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")

WINDOW_ATTRS = {
    "auto_pad": Attr("str", "NOTSET"),
    "dilations": Attr("ints"),
    "kernel_shape": Attr("ints"),
    "pads": Attr("ints"),
    "strides": Attr("ints"),
}


@dataclass(frozen=True)
class Window:
    """A window on each spatial axis: its extent, steps, padding and number of places."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[Dim, ...]
    after: tuple[Dim, ...]
    out: tuple[Dim, ...]

    @property
    def reach(self) -> tuple[int, ...]:
        """How far the window spans on each axis, its dilation included."""
        return reach(self.kernel, self.dilations)

    @property
    def is_padded(self) -> bool:
        """True where a place of the window may lie outside of the operand."""
        return any(pad != 0 for pad in (*self.before, *self.after))

    def taps(self) -> Iterator[tuple[int, ...]]:
        """Each element of the window, in row-major order."""
        return itertools.product(*map(range, self.kernel))


def reach(kernel: Sequence[int], dilations: Sequence[int]) -> tuple[int, ...]:
    """How far a dilated kernel spans on each axis."""
    return tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))


def per_axis(
    call: Arguments[Any], name: str, count: int, default: int, least: int
) -> tuple[int, ...]:
    """The attribute `name`, one integer an axis; raises E108 where it is not that."""
    values = call.ints(name)
    if values is None or not values:
        return (default,) * count
    if len(values) != count:
        raise LeptonError(
            f"{call.definition.name}.{name} has {len(values)} numbers, should have {count}",
            code="E108",
        )
    if min(values) < least:
        raise LeptonError(
            f"{call.definition.name}.{name} holds {min(values)}, should be at least {least}",
            code="E108",
        )
    return values


def auto_pad_of(call: Arguments[Any]) -> str:
    """How padding is chosen; raises E108 for an unknown way."""
    mode = call.str("auto_pad") if call.attrs.get("auto_pad") else "NOTSET"
    if mode not in AUTO_PADS:
        raise LeptonError(
            f"{call.definition.name}.auto_pad is {mode!r}, should be one of {', '.join(AUTO_PADS)}",
            code="E108",
        )
    return mode


def spatial_shape(call: Arguments[Any], type: TensorType, least: int = 1) -> tuple[Dim, ...]:
    """The extents behind batch and channels; raises E103 where there are fewer than `least`."""
    if type.rank < 2 + least:
        raise LeptonError(
            f"{call.definition.name} needs at least {2 + least} dimensions (batch, channels, "
            f"space), got {type}",
            code="E103",
        )
    return type.shape[2:]


def resolve_window(
    call: Arguments[Any], spatial: Sequence[Dim], kernel: Sequence[int], *, ceil_mode: bool = False
) -> Window:
    """The window that the attributes of `call` describe over `spatial`."""
    count = len(spatial)
    kernel = tuple(kernel)
    strides = per_axis(call, "strides", count, 1, 1)
    dilations = per_axis(call, "dilations", count, 1, 1)
    pads = per_axis(call, "pads", 2 * count, 0, 0)
    mode = auto_pad_of(call)
    before: list[Dim] = []
    after: list[Dim] = []
    out: list[Dim] = []
    for axis, (extent, span) in enumerate(zip(spatial, reach(kernel, dilations), strict=True)):
        stride = strides[axis]
        if mode.startswith("SAME"):
            places = ceildiv(extent, stride)
            total = maximum(0, (places - 1) * stride + span - extent)
            half = floordiv(total, 2)
            low, high = (half, total - half) if mode == "SAME_UPPER" else (total - half, half)
        else:
            low, high = (0, 0) if mode == "VALID" else (pads[axis], pads[count + axis])
            room = extent + low + high - span
            places = floordiv(room, stride) + 1
            if ceil_mode and mode == "NOTSET" and stride > 1:
                # a window that would start behind the operand is left out
                places = minimum(ceildiv(room, stride) + 1, ceildiv(extent + low, stride))
        if isinstance(places, int) and places < 0:
            raise LeptonError(
                f"{call.definition.name}: a window of {span} does not fit into {extent} elements "
                "padded by "
                f"{low} and {high} on spatial axis {axis}",
                code="E103",
            )
        before.append(low)
        after.append(high)
        out.append(places)
    return Window(kernel, strides, dilations, tuple(before), tuple(after), tuple(out))


def kernel_of(call: Arguments[Any], weight: TensorType, count: int) -> tuple[int, ...]:
    """The spatial extents of a weight; raises E103 where they are unknown or contradict."""
    shape = weight.shape[2:]
    stated = per_axis(call, "kernel_shape", count, 0, 1)
    if call.ints("kernel_shape"):
        for dim, extent in zip(shape, stated, strict=True):
            if isinstance(dim, int) and dim != extent:
                raise LeptonError(
                    f"{call.definition.name}.kernel_shape is {shown_shape(stated)}, the weight "
                    f"{weight} has "
                    f"{shown_shape(shape)}",
                    code="E103",
                )
        return stated
    known = tuple(dim for dim in shape if isinstance(dim, int))
    if len(known) != count:
        raise LeptonError(
            f"{call.definition.name}: the kernel's extents {shown_shape(shape)} are not known "
            "before run time",
            notes=["state them in kernel_shape"],
            code="E103",
        )
    if 0 in known:
        raise LeptonError(
            f"{call.definition.name}: the weight {weight} has a window without elements",
            code="E103",
        )
    return known


def pool_kernel(call: Arguments[Any], count: int) -> tuple[int, ...]:
    """The window of a pooling over `count` spatial axes."""
    return per_axis(call, "kernel_shape", count, 1, 1)


def ints_of(dims: Sequence[Dim]) -> tuple[int, ...]:
    """Extents of a window over data at hand, all of them known."""
    return tuple(dim for dim in dims if isinstance(dim, int))


def padded(x: Array, window: Window, value: float) -> Array:
    """`x` with every place that the window touches, `value` outside of the operand."""
    widths = [(0, 0), (0, 0)]
    before, after, out = ints_of(window.before), ints_of(window.after), ints_of(window.out)
    for axis, extent in enumerate(x.shape[2:]):
        touched = (out[axis] - 1) * window.strides[axis] + window.reach[axis]
        widths.append((before[axis], max(after[axis], touched - extent - before[axis], 0)))
    if not any(map(any, widths)):
        return x
    return np.pad(x, widths, constant_values=value)


def trimmed(window: Window, spatial: Sequence[int]) -> Window:
    """The window without the elements that lie behind the operand at every place."""
    kernel = tuple(
        min(size, max(-(-(extent + before) // dilation), 0))
        for size, extent, before, dilation in zip(
            window.kernel, spatial, ints_of(window.before), window.dilations, strict=True
        )
    )
    after = (0,) * len(kernel)
    return replace(window, kernel=kernel, after=after)


def tap_of(x: Array, window: Window, tap: Sequence[int]) -> Array:
    """What the element `tap` of the window sees at each of its places; `x` is padded."""
    cuts = [slice(None), slice(None)]
    for axis, k in enumerate(tap):
        start = k * window.dilations[axis]
        places = ints_of(window.out)[axis]
        cuts.append(
            slice(
                start,
                start + max(places - 1, 0) * window.strides[axis] + min(places, 1),
                window.strides[axis],
            )
        )
    return x[tuple(cuts)]


def valid_counts(window: Window, spatial: Sequence[int], *, with_padding: bool) -> Array:
    """How many elements of the window lie inside the operand (or its padding) at each place."""
    total = np.ones((1,) * len(spatial))
    for axis, extent in enumerate(spatial):
        places = np.arange(ints_of(window.out)[axis])[:, None] * window.strides[axis]
        position = (
            places
            + np.arange(window.kernel[axis]) * window.dilations[axis]
            - ints_of(window.before)[axis]
        )
        limit = extent + ints_of(window.after)[axis] if with_padding else extent
        inside = (position < limit) & (with_padding | (position >= 0))
        shape = [1] * len(spatial)
        shape[axis] = -1
        total = total * inside.sum(axis=1).reshape(shape)
    return total
