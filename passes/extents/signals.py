"""Fourier transforms along an axis, or of a length, that only run time tells; those of frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from leptonc.ir.dims import Dim
from leptonc.ir.graph import Value
from leptonc.ir.ops.contents import content_of
from leptonc.ir.ops.signal import frame_count, frame_length
from leptonc.ir.types import DType
from leptonc.passes.extents.resolution import Resolution, is_open

if TYPE_CHECKING:
    from leptonc.passes.extents.resolve_extents import Resolver


def _known(job: Resolution, name: str) -> Value | None:
    """A number as an extent; None where the operand is absent."""
    value = job.op.operand(name)
    if value is None or not is_open(job.op, name):
        return value
    row = job.as_row(value)
    if name in ("frame_step", "sample_rate"):
        row = job.checked(row, job.build.greater(row, job.const(0)))
    return job.scalar(job.sizes(row))


def _dft(job: Resolution) -> Sequence[Value] | None:
    """The axis becomes the middle one of three, with all others before and behind it as one."""
    op = job.op
    if not (is_open(op, "axis") or is_open(op, "dft_length")):
        return None
    x, build, length = job.operand("x"), job.build, _known(job, "dft_length")
    if not is_open(op, "axis"):
        made = _transform(job, x, length, op.operand("axis"))
        return [job.shaped(made, op.result.type)]
    rank = x.type.rank
    extents, places = build.shape(x, end=rank - 1), job.count(rank - 1)
    axis = job.wrapped(job.row("axis"), rank)
    here, before = build.equal(places, axis), build.less(places, axis)
    one = job.const(1)
    outer = job.product_of(job.choose(before, extents, one))
    middle = job.product_of(job.choose(here, extents, one))
    inner = job.product_of(job.choose(build.or_(here, before), one, extents))
    low = build.greater_or_equal(axis, job.const(0))
    valid = build.and_(low, build.less(axis, job.const(rank - 1)))
    parts = build.concat(outer, middle, inner, axis=0)
    split = job.sizes(job.checked(parts, valid))
    whole = build.concat(split, job.const(int(str(x.type.shape[-1]))), axis=0)
    made = _transform(job, build.reshape(x, whole, allowzero=1), length, job.scalar(one))
    row = job.choose(here, build.shape(made, start=1, end=2), extents)
    last = build.shape(made, start=3, end=4)
    sizes = job.sizes(build.concat(row, last, axis=0), op.result.type.shape)
    return [build.reshape(made, sizes, allowzero=1)]


def _transform(job: Resolution, x: Value, length: Value | None, axis: Value | None) -> Value:
    given = {"dft_length": length, "axis": axis}
    operands = [x, *(value for value in given.values() if value is not None)]
    names = ("x", *(name for name, value in given.items() if value is not None))
    return job.build.op("dft", operands, job.op.attrs, names=names).result


def _stft(job: Resolution) -> Sequence[Value] | None:
    """Frames are gathered, weighted by the window, and transformed all at once."""
    op, build, x = job.op, job.build, job.operand("x")
    step, given = _known(job, "frame_step"), _known(job, "frame_length")
    window = op.operand("window")
    assert step is not None
    signal = x.type.shape[1]
    length = frame_length(signal, window, _number(given))
    count = frame_count(signal, length, _number(step))
    zero, one = (build.const(np.array(number, np.int64)) for number in (0, 1))
    starts = build.mul(build.range(zero, job.scalar(_extent(job, count)), one), _long(job, step))
    places = build.range(zero, job.scalar(_extent(job, length)), one)
    frames = build.gather(x, build.add(build.unsqueeze(starts, job.const(1)), places), axis=1)
    if window is not None:
        frames = build.mul(frames, build.unsqueeze(window, job.const(1)))
    attrs = {"onesided": op.attrs["onesided"]}
    made = build.op("dft", [frames, job.scalar(job.const(2))], attrs, names=("x", "axis")).result
    return [job.shaped(made, op.result.type)]


def _number(value: Value | None) -> Dim | None:
    content = None if value is None else content_of(value)
    return None if content is None else content.reshape(-1)[0]


def _extent(job: Resolution, dim: Dim) -> Value:
    """An extent as a row of one."""
    return job.build.op("dims", [], {"value": (dim,), "shape": (1,), "dtype": DType.I64}).result


def _long(job: Resolution, value: Value) -> Value:
    return job.scalar(job.as_row(value))


def _mel_weight_matrix(job: Resolution) -> Sequence[Value] | None:
    """The same of extents."""
    op, names = job.op, ("num_mel_bins", "dft_length", "sample_rate")
    if not any(is_open(op, name) for name in names):
        return None
    operands = [
        _known(job, name) if name in names else job.operand(name) for name in op.operand_names
    ]
    present = [value for value in operands if value is not None]
    made = job.build.op(op.definition, present, op.attrs, names=op.operand_names).result
    return [job.shaped(made, op.result.type)]


RESOLVERS: Mapping[str, Resolver] = MappingProxyType({
    "dft": _dft, "mel_weight_matrix": _mel_weight_matrix, "stft": _stft,
})  # fmt: skip
