# pyright: standard
"""Lowering of resize: coordinates are exact fractions of integers, only weights are rounded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import te, tirx

from leptonc.backends.tvm.lower.indexing import compute, if_any, inside
from leptonc.backends.tvm.lowering import LowerCall, Reason, Rule
from leptonc.ir.graph import Op
from leptonc.ir.ops.resample import (
    COORDINATES,
    ResizedAxis,
    coordinate,
    nearest,
    nearest_place,
    reach,
    weight,
)
from leptonc.ir.ops.resize import filter_of, given, resized_axes
from leptonc.ir.table import Inference

CROP = COORDINATES[-1]


@dataclass(frozen=True)
class _Place:
    """Where a result index reads along one axis: the element below, and how far above it."""

    low: Any
    rest: Any
    nearest: Any
    valid: Any


class _Resize:
    """One resize to lower."""

    def __init__(self, call: LowerCall) -> None:
        self.call, self.kind = call, filter_of(call.known)
        self.mode = call.known.str("coordinate_transformation_mode")
        axes = resized_axes(call.known)
        assert axes is not None
        self.count = len(axes)
        self.axes = [
            (at, axis) for at, axis in enumerate(axes) if self.mode == CROP or not axis.is_identity
        ]
        self.wide = "float64" if call.dtype() == "float64" else "float32"

    def place(self, at: int, axis: ResizedAxis, index: Any) -> _Place:
        """The place that `index` along `axis` reads."""
        if self.mode == CROP:
            return self._cropped_place(at, axis, index)
        over, under = coordinate(axis, self.mode, index, self.call.dim)
        low = tirx.floordiv(over, under)
        rest = (over - low * under).astype(self.wide) * (
            tirx.const(1, self.wide) / under.astype(self.wide)
        )
        return _Place(low, rest, nearest(over, under, self.kind.nearest_mode, tirx.floordiv), None)

    def _cropped_place(self, at: int, axis: ResizedAxis, index: Any) -> _Place:
        start, end = self._roi(at), self._roi(at + self.count)
        last = self.call.dim(axis.source - 1).astype("float64")
        width = self.call.dim(axis.source * axis.numerator).astype("float64")
        width = width / self.call.dim(axis.denominator).astype("float64")
        spread = tirx.max(width - 1, tirx.const(1e-30, "float64"))  # not used where that matters
        place = start * last + index.astype("float64") * (end - start) * last / spread
        place = tirx.Select(self.call.dim(axis.target) > 1, place, (start + end) * last * 0.5)
        low = tirx.floor(place)
        chosen = nearest_place(place, self.kind.nearest_mode, tirx.floor)
        index_dtype = self.call.dims.index_dtype
        return _Place(
            low.astype(index_dtype), (place - low).astype(self.wide), chosen.astype(index_dtype),
            tirx.all(place >= 0, place <= last),
        )  # fmt: skip

    def _roi(self, at: int) -> Any:
        call = self.call
        constant = call.known.constant("roi")
        if constant is not None and constant.size:
            return tirx.const(float(constant[at]), "float64")
        tensor = call.get("roi") if given(call.known, "roi", 2 * self.count) else None
        if tensor is None:
            return tirx.const(float(at >= self.count), "float64")
        return tensor(call.index(at)).astype("float64")

    def stored(self, value: Any, conditions: Sequence[Any]) -> Any:
        """A result element of a sampled one."""
        dtype = self.call.dtype()
        if conditions:
            outside = tirx.const(self.call.known.float("extrapolation_value"), self.wide)
            value = tirx.Select(tirx.all(*conditions), value, outside)
        if "int" in dtype:
            low, high = (
                tirx.min_value(dtype).astype(self.wide),
                tirx.max_value(dtype).astype(self.wide),
            )
            value = tirx.max(tirx.min(tirx.nearbyint(value), high), low)
        return value.astype(dtype)


def _resize(call: LowerCall) -> te.Tensor:
    job = _Resize(call)
    if job.kind.mode == "nearest":
        return _nearest(job)
    shrinks = job.kind.antialias and any(
        axis.scale is None or axis.scale < 1 for _, axis in job.axes
    )
    # axes whose scale is open all count, as many times as there are elements around a coordinate
    many = sum(axis.scale is None for _, axis in job.axes) > 2
    return _in_stages(job) if shrinks or many else _at_once(job)


def _nearest(job: _Resize) -> te.Tensor:
    call = job.call

    def element(*index: Any) -> Any:
        source, conditions = list(index), []
        for at, axis in job.axes:
            place = job.place(at, axis, index[axis.axis])
            source[axis.axis] = inside(call, place.nearest, axis.source)
            conditions += [place.valid] if place.valid is not None else []
        value = call[0](*source)
        for _, axis in job.axes:
            value = if_any(call, axis.source, value)
        if not conditions:
            return value
        return job.stored(value.astype(job.wide), conditions)

    return compute(call, element)


def _at_once(job: _Resize) -> te.Tensor:
    """Few elements around each coordinate: one expression of all of them."""
    call = job.call

    def element(*index: Any) -> Any:
        places = [(axis, job.place(at, axis, index[axis.axis])) for at, axis in job.axes]

        def sampled(source: list[Any], left: Sequence[tuple[ResizedAxis, _Place]]) -> Any:
            if not left:
                return call[0](*source).astype(job.wide)
            (axis, place), *rest = left
            taps = _taps(job, axis, place)
            total: Any = None
            for at, factor in taps:
                source[axis.axis] = inside(call, at, axis.source)
                part = sampled(source, rest) * factor
                total = part if total is None else total + part
            return total

        value = sampled(list(index), places)
        for _, axis in job.axes:
            value = _if_any_wide(job, axis, value)
        return job.stored(value, [place.valid for _, place in places if place.valid is not None])

    return compute(call, element)


def _if_any_wide(job: _Resize, axis: ResizedAxis, value: Any) -> Any:
    if isinstance(axis.source, int):
        return value
    return tirx.if_then_else(job.call.dim(axis.source) > 0, value, tirx.const(0, job.wide))


def _taps(job: _Resize, axis: ResizedAxis, place: _Place) -> list[tuple[Any, Any]]:
    """The elements around a place, two or four, and their weights."""
    before, count = (int(str(n)) for n in reach(axis, job.kind.support, antialias=False))
    taps: list[tuple[Any, Any]] = []
    for step in range(-before, count - before):
        distance = place.rest - step if step <= 0 else step - place.rest
        taps.append((place.low + step, _inner_weight(job, distance, step)))
    if not job.kind.exclude_outside:
        return taps
    size = job.call.dim(axis.source)
    kept = [
        (at, tirx.Select(tirx.all(at >= 0, at < size), w, tirx.const(0, job.wide)))
        for at, w in taps
    ]
    total: Any = sum((w for _, w in kept[1:]), kept[0][1])
    total = tirx.Select(total == 0, tirx.const(1, job.wide), total)
    return [(at, w / total) for at, w in kept]


def _inner_weight(job: _Resize, distance: Any, step: int) -> Any:
    """The weight of one of the next elements: which piece of the filter holds is known."""

    def piece(condition: Any, inner: Any, outer: Any) -> Any:
        return inner

    if job.kind.mode == "cubic" and step not in (0, 1):
        a = job.kind.cubic_a
        return ((distance * a - 5 * a) * distance + 8 * a) * distance - 4 * a
    return weight(distance, job.kind.cubic_a, job.kind.mode == "cubic", piece)


def _in_stages(job: _Resize) -> te.Tensor:
    """Many elements around each coordinate: one sum along each axis in turn."""
    tensor = job.call[0]
    for at, axis in job.axes:
        tensor = _along(job, tensor, at, axis)

    def element(*index: Any) -> Any:
        places = [job.place(at, axis, index[axis.axis]) for at, axis in job.axes]
        return job.stored(
            tensor(*index).astype(job.wide), [p.valid for p in places if p.valid is not None]
        )

    return compute(job.call, element)


def _along(job: _Resize, tensor: te.Tensor, at: int, axis: ResizedAxis) -> te.Tensor:
    read_from: Any = tensor
    call, shape = job.call, list(read_from.shape)
    shape[axis.axis] = call.dim(axis.target)
    before, count = reach(axis, job.kind.support, antialias=job.kind.antialias)

    def weighed(index: Any, step: Any) -> tuple[Any, Any]:
        place = job.place(at, axis, index)
        tap = place.low + step - call.dim(before)
        distance = tirx.abs((tap - place.low).astype(job.wide) - place.rest) * _shrink(job, axis)
        factor = weight(distance, job.kind.cubic_a, job.kind.mode == "cubic", tirx.Select)
        if job.kind.exclude_outside:
            kept = tirx.all(tap >= 0, tap < call.dim(axis.source))
            factor = tirx.Select(kept, factor, tirx.const(0, job.wide))
        return tap, factor

    step = te.reduce_axis((call.index(0), call.dim(count)), name="tap")
    totals: Any = te.compute(
        [shape[axis.axis]], lambda i: te.sum(weighed(i, step)[1], axis=step), name="total"
    )
    inner = te.reduce_axis((call.index(0), call.dim(count)), name="tap")

    def partial(*index: Any) -> Any:
        tap, factor = weighed(index[axis.axis], inner)
        source = [*index[: axis.axis], inside(call, tap, axis.source), *index[axis.axis + 1 :]]
        read = _if_any_wide(job, axis, tensor(*source).astype(job.wide))
        return te.sum(read * factor, axis=inner)

    sums: Any = te.compute(shape, partial, name="sums")
    return te.compute(shape, lambda *i: sums(*i) / totals(i[axis.axis]), name="means")  # pyright: ignore


def _shrink(job: _Resize, axis: ResizedAxis) -> Any:
    """By how much the filter is stretched: the scale, but 1 where that is larger."""
    one = tirx.const(1, job.wide)
    if not job.kind.antialias:
        return one
    scale = job.call.dim(axis.numerator).astype(job.wide) / job.call.dim(axis.denominator).astype(
        job.wide
    )
    return tirx.min(scale, one)


def _reason(op: Op) -> str:
    call = Inference(op.definition, op.operands, op.operand_names, op.attrs)
    return (
        "" if resized_axes(call) is not None else "its scales or sizes are known at run time only"
    )


RULES: dict[str, Rule] = {"resize": _resize, "resize_by": _resize}
REASONS: dict[str, Reason] = {"resize": _reason}
