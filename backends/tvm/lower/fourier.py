# pyright: standard
"""Lowering of discrete Fourier transforms: one fast transform for each line of numbers."""

from __future__ import annotations

import math
from typing import Any

from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.fourier_plan import Plan, plan_of
from leptonc.backends.tvm.binding import Buffer, PrimExpr, tirx
from leptonc.backends.tvm.lower.fourier_lines import Lines
from leptonc.backends.tvm.lower.fourier_open import open_transform
from leptonc.backends.tvm.lower.fourier_stages import Complex, Numbers, numbers, transform
from leptonc.backends.tvm.lower.opaque import Kernel, kernel
from leptonc.backends.tvm.lower.parts import natural
from leptonc.backends.tvm.lowering import LowerCall
from leptonc.ir.dims import product
from leptonc.ir.graph import Op
from leptonc.ir.ops.signal import transform_length, transformed_axis
from leptonc.ir.table import Inference

BATCH_BYTES = 256 * 1024
"""Interleaved signals of more than this would not stay in the cache."""


def dft(call: LowerCall, cpu: Any) -> PrimFunc:
    """A discrete Fourier transform: planned where its length is known, step by step if not."""
    axis, length = transformed_axis(call.known), transform_length(call.known)
    flags = bool(call.op.int("inverse")), bool(call.op.int("onesided"))

    def body(job: Kernel) -> None:
        table = call.op.operand("table")
        if table is None or not isinstance(length, int):
            open_transform(Lines(job, axis, length, *flags, "float64"))
            return
        lines = Lines(job, axis, length, *flags, natural(call.dtype()))
        _planned(lines, plan_of(length), job.inputs[table], cpu)

    return kernel(call, cpu, body)


def _planned(lines: Lines, plan: Plan, table: Buffer, cpu: Any) -> None:
    """Blocks of lines, interleaved where there are enough of them, one after the other."""
    batch = _batch(lines, plan, cpu)
    call, count = lines.job.call, product(lines.others)
    total = call.dim(count)
    blocks = tirx.floordiv(total + (batch - 1), batch)
    work = product([count, plan.size])
    parallel = cpu.threads > 1 and (not isinstance(work, int) or work >= 16384)
    with emit.outer_loop(blocks, parallel=parallel) as block:
        data = numbers(plan.size * batch, lines.dtype), numbers(plan.size * batch, lines.dtype)
        for place in range(batch):
            line = emit.let(tirx.min(block * batch + place, total - 1))
            _load(lines, plan, data[0], (line, place, batch), table)
        data = _transformed(plan, data, batch, table, _lanes(lines, cpu))
        extent = call.dim(call.op.result.type.shape[lines.axis])
        for place in range(batch):
            line = emit.let(block * batch + place)
            with T.If(line < total), T.Then():
                head = [emit.let(at) for at in lines.head(line)]
                with emit.serial(extent) as at:
                    value = data[0].load(at * batch + place)
                    if plan.is_convolution:
                        chirp = _entry(table, plan.size + at)
                        value = Complex(value.im, value.re).times(chirp)
                    lines.store(head, at, value)


def _lanes(lines: Lines, cpu: Any) -> int:
    return cpu.lanes // 2 if lines.dtype == "float64" else cpu.lanes


def _batch(lines: Lines, plan: Plan, cpu: Any) -> int:
    """How many signals are transformed side by side, one in each lane."""
    lanes, count = _lanes(lines, cpu), product(lines.others)
    fits = plan.size * lanes * 4 * (8 if lines.dtype == "float64" else 4) <= BATCH_BYTES
    few = isinstance(count, int) and count * 2 <= lanes
    return lanes if fits and not few else 1


def _load(
    lines: Lines, plan: Plan, data: Numbers, where: tuple[PrimExpr, int, int], table: Buffer
) -> None:
    line, place, batch = where
    head = [emit.let(at) for at in lines.head(line)]
    with emit.serial(plan.length) as at:
        value = lines.load(head, at)
        if plan.is_convolution:
            value = value.kept().times(_entry(table, plan.size + at))
        data.store(value, at * batch + place)
    zero = tirx.const(0, lines.dtype)
    with emit.serial(plan.size - plan.length) as at:
        data.store(Complex(zero, zero), (plan.length + at) * batch + place)


def _entry(table: Buffer, at: PrimExpr) -> Complex:
    return Complex(emit.load(table, [at, 0]), emit.load(table, [at, 1]))


def _transformed(
    plan: Plan, data: tuple[Numbers, Numbers], batch: int, table: Buffer, lanes: int
) -> tuple[Numbers, Numbers]:
    """The transform; of a convolution without the last product, and with its parts swapped."""

    def root(at: PrimExpr) -> Complex:
        return _entry(table, at)

    data = transform(data, plan.radices, batch, root, lanes)
    if not plan.is_convolution:
        return data
    width = math.gcd(batch, lanes)
    with emit.serial(plan.size) as at:
        factor = _entry(table, plan.size + plan.length + at).kept().spread(width)
        product = data[0].load(at * batch, width).kept().times(factor).kept()
        data[0].store(Complex(product.im, product.re), at * batch, width)
    return transform(data, plan.radices, batch, root, lanes)


def dft_reason(op: Op) -> str:
    """Why a transform cannot be lowered: axis and length have to be extents."""
    call = Inference(op.definition, op.operands, op.operand_names, op.attrs)
    for name in ("axis", "dft_length"):
        if call.get(name) is not None and call.content(name) is None:
            return f"{name} is known at run time only"
    return ""
