# pyright: standard
"""Lowering of operations that sample at computed coordinates, pool regions or add up blocks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product as all_of
from typing import Any

from tvm import te, tirx
from tvm.tirx import PrimFunc

from leptonc.backends.cpu import emit
from leptonc.backends.tvm.lower.arithmetic import converted, larger
from leptonc.backends.tvm.lower.indexing import compute, if_any, inside, zero
from leptonc.backends.tvm.lower.opaque import Kernel, kernel
from leptonc.backends.tvm.lower.parts import natural
from leptonc.backends.tvm.lowering import KernelRule, LowerCall, Reason, Rule
from leptonc.ir.dims import Dim
from leptonc.ir.graph import Op
from leptonc.ir.ops.contents import content_of
from leptonc.ir.ops.resample import weight
from leptonc.ir.ops.sampling import CUBIC
from leptonc.ir.ops.signal import column_window

FAR = 1e9
"""Coordinates are limited to this, so that they have integers; none so far off reads an element."""


def _reflected(at: Any, low: Any, high: Any) -> Any:
    dtype = str(at.ty)
    span = tirx.max(high - low, tirx.const(1e-30, dtype))
    folded = at - low - tirx.floor((at - low) / (span * 2)) * (span * 2)
    return tirx.Select(high > low, low + tirx.min(folded, span * 2 - folded), tirx.const(0, dtype))


def _grid_sample(call: LowerCall) -> te.Tensor:
    shape = call.known[0].type.shape
    mode, padding = call.known.str("mode"), call.known.str("padding_mode")
    aligned = bool(call.known.int("align_corners"))

    def element(*index: Any) -> Any:
        batch, channel, *place = index
        taps = [
            _grid_taps(
                call,
                call[1](batch, *place, call.index(len(shape) - 3 - axis)),
                extent,
                mode,
                padding,
                aligned,
            )
            for axis, extent in enumerate(shape[2:])
        ]
        total: Any = None
        for combination in all_of(*taps):
            value = call[0](batch, channel, *(at for at, _ in combination))
            for extent in shape[2:]:
                value = if_any(call, extent, value)
            value = value.astype(natural(call.dtype()))
            for _, factor in combination:
                value = value * factor
            total = value if total is None else total + value
        return total.astype(call.dtype())

    return compute(call, element)


def _grid_taps(
    call: LowerCall, at: Any, extent: Dim, mode: str, padding: str, aligned: bool
) -> list[tuple[Any, Any]]:
    dtype = natural(call.dtype())
    size = call.dim(extent).astype(dtype)
    at = tirx.max(tirx.min(at.astype(dtype), tirx.const(FAR, dtype)), tirx.const(-FAR, dtype))
    at = (at + 1) / 2 * (size - 1) if aligned else ((at + 1) * size - 1) / 2
    low = tirx.const(0.0 if aligned else -0.5, dtype)
    high = size - 1 - low
    at = tirx.nearbyint(at) if mode == "nearest" else at
    if padding != "zeros":
        edge: Any = tirx.max(tirx.min(at, size - 1), tirx.const(0, dtype))
        outside = tirx.any(at < low, at > high)
        at = tirx.Select(outside, edge if padding == "border" else _reflected(at, low, high), at)
    below = tirx.nearbyint(at) if mode == "nearest" else tirx.floor(at)
    steps = {"nearest": [0], "linear": [0, 1], "cubic": [-1, 0, 1, 2]}[mode]
    taps: list[tuple[Any, Any]] = []
    for step in steps:
        place = below + tirx.const(step, dtype)
        factor: Any = tirx.const(1, dtype)
        if mode != "nearest":
            factor = weight(tirx.abs(at - place), CUBIC, mode == "cubic", tirx.Select)
        if padding == "reflection":
            place = tirx.trunc(_reflected(place, low, high))
        if padding == "zeros":
            factor = tirx.Select(tirx.all(place >= 0, place < size), factor, tirx.const(0, dtype))
        taps.append((inside(call, place.astype(call.dims.index_dtype), extent), factor))
    return taps


def _affine_grid(call: LowerCall) -> te.Tensor:
    shape = call.shape()
    dtype = call.dtype()

    def coordinate(axis: int, at: Any) -> Any:
        extent = shape[1 + axis].astype("float64")
        at = at.astype("float64")
        if call.known.int("align_corners"):
            return at * 2 / tirx.max(extent - 1, tirx.const(1, "float64")) - 1
        return (at * 2 + 1) / extent - 1

    def element(batch: Any, *index: Any) -> Any:
        *place, row = index
        total = call[0](batch, row, call.index(len(place))).astype("float64")
        for axis, at in enumerate(place):
            column = call.index(len(place) - 1 - axis)
            total = total + call[0](batch, row, column).astype("float64") * coordinate(axis, at)
        return total.astype(dtype)

    return compute(call, element)


def _col2im(call: LowerCall) -> te.Tensor:
    """Each element of the image is the sum of the blocks' elements that lie on it."""
    block = [call.dim(dim) for dim in call.content("block_shape")]
    strides, pads, dilations = column_window(call.known, len(block))
    image = call.shape()[2:]
    counts = [
        tirx.floordiv(
            image[i] + (pads[i] + pads[i + len(block)] - 1) - (size - 1) * dilations[i], strides[i]
        )
        + 1
        for i, size in enumerate(block)
    ]
    tap: list[Any] = [te.reduce_axis((call.index(0), size), name="tap") for size in block]

    def element(batch: Any, channel: Any, *index: Any) -> Any:
        conditions, row, column = [], channel, call.index(0)
        for i, step in enumerate(tap):
            start = index[i] + pads[i] - step * dilations[i]
            which = tirx.floordiv(start, strides[i])
            conditions += [start >= 0, tirx.floormod(start, strides[i]) == 0, which < counts[i]]
            row, column = row * block[i] + step, column * counts[i] + which
        value = call[0](batch, row, column)
        return te.sum(tirx.if_then_else(tirx.all(*conditions), value, zero(call.dtype())), axis=tap)

    return compute(call, element)


def _roi_align(call: LowerCall, cpu: Any) -> PrimFunc:
    bins = [call.op.int("output_height"), call.op.int("output_width")]
    half = call.op.str("coordinate_transformation_mode") == "half_pixel"
    dtype = natural(call.dtype())
    average, scale = call.op.str("mode") == "avg", call.op.float("spatial_scale")

    def number(value: float) -> Any:
        return tirx.const(value, dtype)

    def body(job: Kernel) -> None:
        shape = job.shape(0)
        with job.shared(call.op.results[0].type.shape[:2], call.op.results[0].type.shape) as line:
            channels = call.dim(shape[1])
            roi, channel = (
                emit.let(tirx.truncdiv(line, channels)),
                emit.let(tirx.truncmod(line, channels)),
            )
            batch = emit.let(inside(call, job.read(2, [roi]).astype("int64"), shape[0]))
            starts, sizes, counts = [], [], []
            for axis in (0, 1):
                corner = [
                    job.read(1, [roi, call.index(at)]).astype(dtype) * number(scale)
                    - number(0.5 * half)
                    for at in (1 - axis, 3 - axis)
                ]
                length = (
                    corner[1] - corner[0] if half else tirx.max(corner[1] - corner[0], number(1))
                )
                starts.append(emit.let(corner[0]))
                sizes.append(emit.let(length / number(bins[axis])))
                given = call.op.int("sampling_ratio")
                adaptive: Any = tirx.max(tirx.min(tirx.ceil(sizes[axis]), number(65536)), number(0))
                counts.append(
                    emit.let(call.index(given) if given > 0 else adaptive.astype("int64"))
                )
            total = emit.workspace((1,), dtype)
            with emit.serial(bins[0]) as row, emit.serial(bins[1]) as column:
                emit.store(total, number(0), [0])
                with emit.serial(counts[0]) as y, emit.serial(counts[1]) as x:
                    corners = [
                        _corner(call, starts[i], sizes[i], bin, step, counts[i], shape[2 + i])
                        for i, bin, step in ((0, row, y), (1, column, x))
                    ]
                    parts = _corner_values(job, [batch, channel], corners)
                    if average:
                        value = emit.load(total, [0]) + parts[0] + parts[1] + parts[2] + parts[3]
                    else:
                        value = larger(larger(parts[0], parts[1]), larger(parts[2], parts[3]))
                        first = tirx.all(y == 0, x == 0)
                        value = tirx.Select(first, value, larger(emit.load(total, [0]), value))
                    emit.store(total, value, [0])
                found = emit.load(total, [0])
                if average:
                    samples: Any = tirx.max(counts[0] * counts[1], call.index(1))
                    found = found / samples.astype(dtype)
                emit.store(
                    job.outputs[0], converted(found, call.dtype()), [roi, channel, row, column]
                )

    return kernel(call, cpu, body)


def _corner(
    call: LowerCall, start: Any, size: Any, bin: Any, step: Any, count: Any, extent: Dim
) -> tuple[Any, Any, Any, Any]:
    """Along one axis: the elements below and above a sample, the part above, whether it counts."""
    dtype = natural(call.dtype())
    half, last = tirx.const(0.5, dtype), call.dim(extent).astype(dtype) - 1
    at = start + bin.astype(dtype) * size + (step.astype(dtype) + half) * size / count.astype(dtype)
    valid = tirx.all(at >= -1, at <= last + 1)
    at = emit.let(tirx.max(tirx.min(at, last), tirx.const(0, dtype)))
    low = emit.let(inside(call, at.astype("int64"), extent))
    return low, emit.let(inside(call, low + 1, extent)), at - low.astype(dtype), valid


def _corner_values(
    job: Kernel, head: Sequence[Any], corners: Sequence[tuple[Any, Any, Any, Any]]
) -> list[Any]:
    (top, bottom, down, row_valid), (left, right, beside, column_valid) = corners
    dtype = natural(job.call.dtype())
    one, nothing = tirx.const(1, dtype), tirx.const(0, dtype)
    parts: list[Any] = []
    for y, vertical in ((top, one - down), (bottom, down)):
        for x, horizontal in ((left, one - beside), (right, beside)):
            factor = tirx.Select(tirx.all(row_valid, column_valid), vertical * horizontal, nothing)
            parts.append(job.read(0, [*head, y, x]).astype(dtype) * factor)
    return parts


def _unknown(*names: str) -> Reason:
    def reason(op: Op) -> str:
        missing = [
            name
            for name in names
            if (value := op.operand(name)) is not None and content_of(value) is None
        ]
        return f"its size depends on data ({', '.join(missing)})" if missing else ""

    return reason


def _data_dependent(op: Op) -> str:
    return "its size depends on data"


RULES: dict[str, Rule] = {
    "grid_sample": _grid_sample,
    "affine_grid": _affine_grid,
    "col2im": _col2im,
}
KERNELS: dict[str, KernelRule] = {"roi_align": _roi_align}
REASONS: dict[str, Reason] = {
    "affine_grid": _unknown("size"), "col2im": _unknown("image_shape", "block_shape"),
    "non_max_suppression": _data_dependent,
}  # fmt: skip
