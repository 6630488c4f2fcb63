# pyright: standard
"""Lowering of poolings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import te, tirx

from leptonc.backends.tvm.lower.arithmetic import not_a_number
from leptonc.backends.tvm.lower.nn import place, surrounded
from leptonc.backends.tvm.lower.parts import (
    FLOATS,
    Tensor,
    cast,
    compute,
    count_of,
    filled,
    larger,
    lowest,
    maximum,
    natural,
    reduce_axes,
    reduced,
    tensor_as,
)
from leptonc.backends.tvm.lowering import LowerCall, Reason, Rule
from leptonc.backends.tvm.vector_math import exp, log
from leptonc.backends.tvm.vector_power import sqrt
from leptonc.ir.ops.pool import pool_window
from leptonc.ir.ops.windows import Window

LANES = 16
"""Elements whose largest is found side by side; what a CPU's vectors hold divides it."""


def _windowed(
    call: LowerCall, window: Window, source: Tensor, combine: Callable[..., Any], name: str
) -> Tensor:
    """`combine` over each place of the window in `source`, which holds every element it touches."""
    taps = reduce_axes([call.index(extent) for extent in window.kernel])

    def element(n: Any, c: Any, *index: Any) -> Any:
        return combine(
            source(n, c, *place(call, window, index, [tap.var for tap in taps])), axis=taps
        )

    return compute(call.shape(), element, name=name)


def max_pool(call: LowerCall) -> list[Tensor]:
    """The largest elements; their places are found by looking for them again."""
    spatial = call.op.operands[0].type.shape[2:]
    window = pool_window(call.known, spatial)
    x = tensor_as(call[0], natural(call[0].dtype))
    source = surrounded(call, x, spatial, window, lowest(str(x.dtype)))
    best = _windowed(call, window, source, maximum, "largest")
    return [tensor_as(best, call.dtype()), _places(call, window, source, best)]


def _places(call: LowerCall, window: Window, source: Tensor, best: Tensor) -> Tensor:
    """The flat index of each window's first largest element; -1 where all is padding."""
    extents = [call.dim(dim) for dim in call.op.operands[0].type.shape]
    space, none = extents[2:], tirx.max_value("int64")
    before = [call.dim(dim) for dim in window.before]
    taps = reduce_axes([call.index(extent) for extent in window.kernel])
    column_major = bool(call.known.int("storage_order"))

    def candidate(n: Any, c: Any, *index: Any) -> Any:
        touched = place(call, window, index, [tap.var for tap in taps])
        at = [position - low for position, low in zip(touched, before, strict=True)]
        inside = [
            tirx.all(p >= call.index(0), p < extent) for p, extent in zip(at, space, strict=True)
        ]
        value = source(n, c, *touched)
        found = value == best(n, c, *index)
        if str(source.dtype) in FLOATS:
            found = tirx.any(found, not_a_number(value))
        flat = _flat(at, space)
        return te.min(tirx.Select(tirx.all(found, *inside), flat, none), axis=taps)

    first = compute(best.shape, candidate, name="first")

    def element(n: Any, c: Any, *index: Any) -> Any:
        flat = first(n, c, *index)
        inner = _turned(flat, space) if column_major else flat
        whole = (n * extents[1] + c) * _size(call, space) + inner
        return tirx.Select(flat == none, tirx.const(-1, "int64"), whole)

    return compute(best.shape, element, name="places")


def _size(call: LowerCall, extents: Sequence[Any]) -> Any:
    total: Any = call.index(1)
    for extent in extents:
        total = total * extent
    return total


def _flat(index: Sequence[Any], extents: Sequence[Any]) -> Any:
    flat = index[0]
    for at, extent in zip(index[1:], extents[1:], strict=True):
        flat = flat * extent + at
    return flat


def _turned(flat: Any, extents: Sequence[Any]) -> Any:
    """A row-major flat index as a column-major one."""
    index: list[Any] = []
    for extent in reversed(extents[1:]):
        index.append(tirx.floormod(flat, extent))
        flat = tirx.floordiv(flat, extent)
    index.append(flat)
    return _flat(index, list(reversed(extents)))


def average_pool(call: LowerCall) -> Tensor:
    """The sums, divided by how many elements each has."""
    spatial = call.op.operands[0].type.shape[2:]
    window = pool_window(call.known, spatial)
    x = tensor_as(call[0], natural(call[0].dtype))
    source = surrounded(call, x, spatial, window, tirx.const(0, str(x.dtype)))
    total = _windowed(call, window, source, te.sum, "total")

    def element(n: Any, c: Any, *index: Any) -> Any:
        count: Any = None
        for axis, at in enumerate(index):
            inside = _inside(call, window, axis, at)
            count = inside if count is None else count * inside
        return cast(total(n, c, *index) / cast(count, str(x.dtype)), call.dtype())

    return compute(call.shape(), element, name="average")


def _inside(call: LowerCall, window: Window, axis: int, at: Any) -> Any:
    """How many elements of the window at place `at` of a spatial axis are counted."""
    extent = call.op.operands[0].type.shape[2 + axis]
    low, high, kernel = window.before[axis], window.after[axis], window.kernel[axis]
    counts_padding = bool(call.known.int("count_include_pad"))
    overhangs = bool(call.known.int("ceil_mode")) and window.strides[axis] > 1
    if not overhangs and (counts_padding or (low == 0 and high == 0)):
        return call.index(kernel)
    dilation, zero = call.index(window.dilations[axis]), call.index(0)
    start = at * call.index(window.strides[axis]) - call.dim(low)
    limit = call.dim(extent + high if counts_padding else extent)
    behind = tirx.floordiv(limit - start + dilation - call.index(1), dilation)
    last = tirx.max(tirx.min(behind, call.index(kernel)), zero)
    if counts_padding:
        return last
    first = tirx.floordiv(tirx.max(zero - start, zero) + dilation - call.index(1), dilation)
    return tirx.max(last - first, zero)


def _power(value: Any, p: int) -> Any:
    if p == 2:
        return value * value
    total = size = larger(value, tirx.const(0, str(value.ty)) - value)
    for _ in range(p - 1):
        total = total * size
    return total


def _root(value: Any, p: int) -> Any:
    if p == 1:
        return value
    return sqrt(value) if p == 2 else exp(log(value) * tirx.const(1 / p, str(value.ty)))


def lp_pool(call: LowerCall) -> Tensor:
    """The root of the sums of powers."""
    spatial, p = call.op.operands[0].type.shape[2:], call.known.int("p")
    window = pool_window(call.known, spatial)
    x = tensor_as(call[0], natural(call[0].dtype))
    powers = compute(x.shape, lambda *i: _power(x(*i), p), name="powers")
    source = surrounded(call, powers, spatial, window, tirx.const(0, str(x.dtype)))
    total = _windowed(call, window, source, te.sum, "total")
    return compute(total.shape, lambda *i: cast(_root(total(*i), p), call.dtype()), name="norm")


def _over_space(
    call: LowerCall,
    combine: Callable[..., Any],
    element: Callable[..., Any],
    finish: Callable[[Any], Any],
) -> Tensor:
    x = tensor_as(call[0], natural(call[0].dtype))
    blocked = call.op.name.endswith("_blocked")
    axes = list(range(2, len(x.shape) - blocked))
    if combine is maximum and not blocked and _is_ragged(x.shape[-1]):
        lanes = _in_lanes(x, axes)
        total = reduced(lanes.shape, [2], combine, lanes, "total")
    else:
        total = reduced(x.shape, axes, combine, lambda *i: element(x(*i)), "total")
    neutral = lowest(x.dtype) if combine is maximum else tirx.const(0, str(x.dtype))
    total = filled(call, total, [call.op.operands[0].type.shape[axis] for axis in axes], neutral)

    def pooled(*index: Any) -> Any:
        kept = [*index[:2], *index[len(axes) + 2 :]]
        return cast(finish(total(*kept)), call.dtype())

    return compute(call.shape(), pooled, name="pooled")


def _is_ragged(extent: Any) -> bool:
    """Whether rows have several vectors, but no whole number of them."""
    known = int(extent) if isinstance(extent, tirx.IntImm | int) else 0
    return known > 2 * LANES and known % LANES > 0


def _in_lanes(x: Tensor, axes: Sequence[int]) -> Tensor:
    """The largest elements over `axes` as a row of a few: the last vector lies over that before."""
    width = x.shape[-1]
    *outer, step = reduce_axes([*(x.shape[axis] for axis in axes[:-1]), -(-width // LANES)])

    def at(n: Any, c: Any, lane: Any) -> Any:
        first = tirx.min(step.var * LANES, width - LANES)
        return maximum(x(n, c, *(each.var for each in outer), first + lane), axis=[*outer, step])

    return compute((*x.shape[:2], tirx.const(LANES, "int64")), at, name="lanes")


def global_average_pool(call: LowerCall) -> Tensor:
    """The sum over all of space, divided by its size."""
    dtype = natural(call[0].dtype)
    end = -1 if call.op.name.endswith("_blocked") else None
    count = count_of(call, call.op.operands[0].type.shape[2:end], dtype)
    return _over_space(call, te.sum, lambda x: x, lambda total: total / count)


def global_max_pool(call: LowerCall) -> Tensor:
    """The largest element over all of space."""
    return _over_space(call, maximum, lambda x: x, lambda total: total)


def global_lp_pool(call: LowerCall) -> Tensor:
    """The root of the sum of powers over all of space."""
    p = call.known.int("p")
    return _over_space(call, te.sum, lambda x: _power(x, p), lambda total: _root(total, p))


RULES: dict[str, Rule] = {
    "max_pool": max_pool,
    "average_pool": average_pool,
    "lp_pool": lp_pool,
    "global_average_pool": global_average_pool,
    "global_average_pool_blocked": global_average_pool,
    "global_max_pool": global_max_pool,
    "global_lp_pool": global_lp_pool,
}
REASONS: dict[str, Reason] = {}
