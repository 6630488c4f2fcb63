"""Operations that take their sizes as they are, and `range`, which computes one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from leptonc.ir.build import infer_types
from leptonc.ir.dims import symbols
from leptonc.ir.graph import Value
from leptonc.ir.ops.signal import column_window
from leptonc.ir.table import Inference
from leptonc.ir.types import DType
from leptonc.passes.extents.resolution import Resolution, is_open

if TYPE_CHECKING:
    from leptonc.passes.extents.resolve_extents import Resolver

SIZES: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "affine_grid": ("size",),
    "center_crop_pad": ("shape",),
    "constant_of_shape": ("shape",),
    "max_unpool": ("output_shape",),
    "one_hot": ("depth",),
    "split": ("split",),
    "tile": ("repeats",),
    "top_k": ("k",),
})  # fmt: skip
"""Operands that are extents and nothing else."""


def _sized(job: Resolution) -> Sequence[Value] | None:
    """The same operation on extents."""
    op, names = job.op, SIZES[job.op.name]
    if not any(is_open(op, name) for name in names):
        return None
    operands: list[Value] = []
    for name, value in zip(op.operand_names, op.operands, strict=True):
        operands.append(_extents(job, value) if name in names and is_open(op, name) else value)
    made = job.build.op(op.definition, operands, op.attrs, names=op.operand_names)
    return [job.shaped(new, old.type) for new, old in zip(made.results, op.results, strict=True)]


def _extents(job: Resolution, value: Value) -> Value:
    row = job.as_row(value)
    row = job.checked(row, *_limits(job, row))
    sizes = job.sizes(row)
    return sizes if value.type.rank == 1 else job.scalar(sizes)


def _limits(job: Resolution, row: Value) -> list[Value]:
    """What must hold of sizes beside that they are extents."""
    op = job.op
    if op.name == "top_k":
        axis = int(op.attrs["axis"]) % op.operands[0].type.rank  # pyright: ignore
        return [
            job.build.less_or_equal(row, job.build.shape(op.operands[0], start=axis, end=axis + 1))
        ]
    if op.name == "split":
        axis = int(op.attrs["axis"]) % op.operands[0].type.rank  # pyright: ignore
        whole = job.build.shape(op.operands[0], start=axis, end=axis + 1)
        return [job.build.equal(job.build.reduce_sum(row, keepdims=1), whole)]
    return []


def _col2im(job: Resolution) -> Sequence[Value] | None:
    """Blocks and columns are checked to fit what there is of them, since both are data."""
    op, build = job.op, job.build
    if not (is_open(op, "image_shape") or is_open(op, "block_shape")):
        return None
    x, image, block = op.operands[0], job.row("image_shape"), job.row("block_shape")
    rank = image.type.extents[0]
    known = Inference(op.definition, op.operands, op.operand_names, op.attrs)
    strides, pads, dilations = column_window(known, rank)
    borders = [before + after - 1 for before, after in zip(pads[:rank], pads[rank:], strict=True)]
    reach = build.mul(build.sub(block, job.const(1)), job.const(*dilations))
    room = build.sub(build.add(image, job.const(*borders)), reach)
    counts = build.add(build.div(room, job.const(*strides)), job.const(1))
    inner = job.product_of(block)
    rows, columns = (build.shape(x, start=axis, end=axis + 1) for axis in (1, 2))
    fits = [
        build.greater_or_equal(room, job.const(0)),
        build.greater(block, job.const(0)),
        build.equal(job.product_of(counts), columns),
        build.equal(build.mul(build.div(rows, inner), inner), rows),
    ]
    sizes = [job.sizes(job.checked(image, *fits)), job.sizes(job.checked(block, *fits))]
    return [job.shaped(build.op(op.definition, [x, *sizes], op.attrs).result, op.result.type)]


def _range(job: Resolution) -> Sequence[Value] | None:
    """Start plus 0, 1, 2... deltas, computed in the type that the operation computes in."""
    op, build = job.op, job.build
    if not any(name.startswith("?") for name in symbols(infer_types(op)[0].shape[0])):
        return None
    dtype = op.result.type.dtype
    start, limit, delta = (build.reshape(value, job.const(1)) for value in op.operands)
    count = _turns(job, start, limit, delta, DType.F64 if dtype.is_float else DType.I64)
    sizes = job.sizes(count, op.result.type.shape)
    zero, one = (build.const(np.array(number)) for number in (0, 1))
    steps = build.range(zero, job.scalar(sizes), one)
    wide = dtype
    if dtype in (DType.F16, DType.BF16):
        wide = DType.F64 if op.attrs["stash_type"] is DType.F64 else DType.F32
    start, delta, steps = (build.cast(value, to=wide) for value in (start, delta, steps))
    made = build.cast(build.add(build.mul(steps, delta), start), to=dtype)
    return [job.shaped(made, op.result.type)]


def _turns(job: Resolution, start: Value, limit: Value, delta: Value, dtype: DType) -> Value:
    """How many numbers a range has, as a row of one."""
    build = job.build
    start, limit, delta = (build.cast(value, to=dtype) for value in (start, limit, delta))
    way = build.sub(limit, start)
    nonzero = build.not_(build.equal(build.cast(delta, to=DType.F64), build.const(np.array(0.0))))
    if dtype is DType.F64:
        count = build.cast(build.ceil(build.div(way, delta)), to=DType.I64)
        return job.checked(build.max(count, job.const(0)), nonzero)
    back = build.less(delta, job.const(0))
    way = job.choose(back, build.neg(way), way)
    steps = build.div(build.sub(way, job.const(1)), build.abs(delta))
    count = job.choose(
        build.greater(way, job.const(0)), build.add(steps, job.const(1)), job.const(0)
    )
    return job.checked(count, nonzero)


RESOLVERS: Mapping[str, Resolver] = MappingProxyType(
    {**dict.fromkeys(SIZES, _sized), "col2im": _col2im, "range": _range}
)
