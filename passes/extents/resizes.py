"""Resizes whose scales or sizes only run time tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from leptonc.ir.graph import Value
from leptonc.ir.ops.resample import SIMPLE_DENOMINATOR
from leptonc.ir.ops.resize import given
from leptonc.ir.table import Inference
from leptonc.ir.types import DType
from leptonc.passes.extents.resolution import Resolution, is_open

if TYPE_CHECKING:
    from leptonc.passes.extents.resolve_extents import Resolver

FINEST = 1 << 24
"""The denominator of scales that are no simple fraction: single precision has 24 bits."""


def _resize(job: Resolution) -> Sequence[Value] | None:
    op = job.op
    if not (is_open(op, "scales") or is_open(op, "sizes")):
        return None
    x, rank = job.operand("x"), job.operand("x").type.rank
    known = Inference(op.definition, op.operands, op.operand_names, op.attrs)
    axes = [axis % rank for axis in known.ints("axes") or range(rank)]
    extents = job.extents_of(x)
    if len(axes) < rank:
        extents = job.build.gather(extents, job.const(*axes))
    if given(known, "scales", len(axes)):
        sizes, over, under = _by_scales(job, extents)
    else:
        sizes, over, under = _by_sizes(job, extents)
    names = tuple(op.result.type.shape[axis] for axis in axes)
    rows = (job.sizes(sizes, names), job.sizes(over), job.sizes(under))
    roi = op.operand("roi")
    operands = [x, *([roi] if roi is not None else []), *rows]
    slots = ("x", *(["roi"] if roi is not None else []), "sizes", "numerators", "denominators")
    return [job.build.op("resize_by", operands, op.attrs, names=slots).result]


def _by_scales(job: Resolution, extents: Value) -> tuple[Value, Value, Value]:
    """Scales as fractions: with a small denominator where that is the scale in f32."""
    build, scales = job.build, job.build.cast(job.operand("scales"), to=DType.F32)
    wide = build.cast(scales, to=DType.F64)
    small = build.const(np.arange(1, SIMPLE_DENOMINATOR + 1, dtype=np.float64))
    over = build.round(build.mul(build.unsqueeze(wide, job.const(1)), small))
    again = build.cast(build.div(over, small), to=DType.F32)
    same = build.equal(again, build.unsqueeze(scales, job.const(1)))
    found = build.where(same, small, build.const(np.array(float(FINEST))))
    under = build.reduce_min(found, axes=job.const(1), keepdims=0)
    over = build.cast(build.round(build.mul(wide, under)), to=DType.I64)
    under = build.cast(under, to=DType.I64)
    whole = over
    if job.op.attrs["coordinate_transformation_mode"] == "tf_crop_and_resize":
        whole = build.cast(_cropped(job, over), to=DType.I64)
    sizes = build.div(build.mul(extents, whole), under)
    positive = build.greater(scales, build.const(np.zeros((), np.float32)))
    return job.checked(sizes, positive), over, under


def _cropped(job: Resolution, over: Value) -> Value:
    """Numerators of the scales of the region of interest, as far as that is known."""
    roi = job.op.operand("roi")
    wide = job.build.cast(over, to=DType.F64)
    if roi is None or roi.type.shape == (0,):
        return wide
    both = job.build.cast(roi, to=DType.F64)
    count = over.type.extents[0]
    start = job.build.slice(both, job.const(0), job.const(count))
    end = job.build.slice(both, job.const(count), job.const(2 * count))
    return job.build.mul(wide, job.build.sub(end, start))


def _by_sizes(job: Resolution, extents: Value) -> tuple[Value, Value, Value]:
    sizes, policy = job.row("sizes"), job.op.attrs["keep_aspect_ratio_policy"]
    if policy == "stretch":
        return sizes, sizes, extents
    build = job.build
    ratios = [build.cast(row, to=DType.F64) for row in (sizes, extents)]
    ratio = build.div(*ratios)
    extreme = build.reduce_min if policy == "not_larger" else build.reduce_max
    best = build.cast(build.equal(ratio, extreme(ratio, keepdims=1)), to=DType.I64)
    # of equal ratios the first
    first = build.mul(best, build.cast(
        build.equal(build.cum_sum(best, build.const(np.array(0))), job.const(1)), to=DType.I64
    ))  # fmt: skip
    over, under = (build.reduce_sum(build.mul(first, row), keepdims=1) for row in (sizes, extents))
    doubled = build.mul(build.mul(extents, over), job.const(2))
    target = build.div(build.add(doubled, under), build.mul(under, job.const(2)))
    every = job.const(*[1] * extents.type.extents[0])
    return target, build.mul(over, every), build.mul(under, every)


RESOLVERS: Mapping[str, Resolver] = MappingProxyType({"resize": _resize})
