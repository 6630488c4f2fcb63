# pyright: standard
"""Pooling over blocks of channels."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.emit import IDENTITY, Epilogue, Extent, Register
from leptonc.backends.cpu.packing import channel_blocks
from leptonc.backends.cpu.sharing import shares_channels, shares_of
from leptonc.backends.cpu.sliding import Place, Sliding, Taps
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.cpu.window import Window
from leptonc.backends.tvm.binding import Buffer, PrimExpr, tirx

PIXELS = 8


@dataclass(frozen=True)
class PoolSpec:
    """The largest, or the mean, of each window over x[batch, C / lanes, height, width, lanes].

    A mean is of f32, the largest of that or of u8. A mean counts the pads if `count_pads`. The
    largest of a window with not-a-number is that.
    """

    kind: str  # "max" or "mean"
    batch: Extent
    channels: int
    height: Extent
    width: Extent
    window: Window
    ceil: bool = False
    count_pads: bool = False
    epilogue: Epilogue = IDENTITY
    out_dtype: str = "float32"
    dtype: str = "float32"


def pool(name: str, spec: PoolSpec, cpu: CpuTarget) -> PrimFunc:
    """The kernel (x, *operands, out)."""
    lanes, blocks = cpu.lanes, channel_blocks(spec.channels, cpu.lanes)
    outputs = (
        spec.window.outputs(0, spec.height, ceil=spec.ceil),
        spec.window.outputs(1, spec.width, ceil=spec.ceil),
    )
    parameters = [
        ("x", (spec.batch, blocks, spec.height, spec.width, lanes), spec.dtype),
        *spec.epilogue.parameters(),
        ("out", (spec.batch, blocks, *outputs, lanes), spec.out_dtype),
    ]

    is_float = spec.dtype == "float32"

    def combine(
        total: PrimExpr, value: PrimExpr, block: PrimExpr, row: PrimExpr, column: Extent
    ) -> PrimExpr:
        if spec.kind == "mean":
            return total + value
        return larger(total, value) if is_float else tirx.max(total, value)

    def body(x: Buffer, *rest: Buffer) -> None:
        *operands, out = rest

        def finish(place: Place, total: Register, taps: Taps) -> None:
            share = None if spec.kind == "max" else emit.let(divisor(spec, place, taps))
            with emit.vectorized(lanes) as lane:
                value = total.lane(lane) if share is None else total.lane(lane) / share
                index = [place.image, place.block, place.row, place.column, lane]
                T.buffer_store(out, spec.epilogue.apply(value, index, operands), index)

        area = math.prod(spec.window.kernel)
        shared = shares_channels(cpu, blocks * lanes, outputs, area)
        Sliding(
            x=x,
            window=spec.window,
            outputs=outputs,
            lanes=lanes,
            pixels=PIXELS,
            shares=shares_of(cpu, blocks * lanes, outputs, shared=shared),
            start=-math.inf if spec.kind == "max" and is_float else 0.0,
            combine=combine,
            finish=finish,
        ).emit()

    return emit.function(name, parameters, body)


def larger(total: PrimExpr, value: PrimExpr) -> PrimExpr:
    """The larger of two values; once not-a-number, always so."""
    # The comparison is false where either is not-a-number: such a value is taken, and then kept.
    kept = emit.is_nan(total)
    return tirx.Select(tirx.Or(kept, total > value), total, value)


def divisor(spec: PoolSpec, place: Place, taps: Taps) -> PrimExpr:
    """The number of elements that a mean is over."""
    if not spec.count_pads:
        return ((taps.high - taps.low) * taps.columns).astype("float32")
    counts: list[PrimExpr] = []
    for axis, (output, extent) in enumerate(((place.row, spec.height), (place.column, spec.width))):
        window = spec.window
        dilation = window.dilations[axis]
        padded = emit.integer(extent) + (window.pads[axis] + window.pads[axis + 2])
        room = padded - output * window.strides[axis]
        fitting = tirx.floordiv(room + (dilation - 1), dilation)
        counts.append(tirx.min(fitting, emit.integer(window.kernel[axis])))
    return (counts[0] * counts[1]).astype("float32")


@dataclass(frozen=True)
class MeanSpec:
    """The mean of each channel of x f32[batch, C / lanes, height, width, lanes]."""

    batch: Extent
    channels: int
    height: Extent
    width: Extent
    epilogue: Epilogue = IDENTITY
    out_dtype: str = "float32"


def global_mean(name: str, spec: MeanSpec, cpu: CpuTarget) -> PrimFunc:
    """The kernel (x, *operands, out[batch, C / lanes, 1, 1, lanes])."""
    lanes, blocks = cpu.lanes, channel_blocks(spec.channels, cpu.lanes)
    pixels = emit.product((spec.height, spec.width))
    parameters = [
        ("x", (spec.batch, blocks, spec.height, spec.width, lanes), "float32"),
        *spec.epilogue.parameters(),
        ("out", (spec.batch, blocks, 1, 1, lanes), spec.out_dtype),
    ]

    def body(x: Buffer, *rest: Buffer) -> None:
        *operands, out = rest
        planes, extents = emit.product((spec.batch, blocks)), (spec.height, spec.width)
        flat = emit.view(x, (planes, pixels, lanes))
        shared = shares_channels(cpu, blocks * lanes, extents, 3)
        shares = shares_of(cpu, blocks * lanes, extents, shared=shared)

        def mean(plane: PrimExpr, total: Register) -> None:
            image, block = tirx.floordiv(plane, blocks), tirx.floormod(plane, blocks)
            with emit.vectorized(lanes) as lane:
                value = total.lane(lane) / emit.integer(pixels).astype("float32")
                index = [image, block, emit.integer(0), emit.integer(0), lane]
                T.buffer_store(out, spec.epilogue.apply(value, index, operands), index)

        if shares < 2:
            with emit.outer_loop(planes, parallel=not shares) as plane:
                mean(plane, pixel_sum(flat, plane, (emit.integer(0), emit.integer(pixels))))
            return
        # each thread adds up rows of its own; what it writes lies together
        parts = emit.workspace((emit.product((spec.batch, shares)), blocks, lanes))
        with emit.outer_loop(parts.shape[0], parallel=True) as step:
            image, part = tirx.floordiv(step, shares), tirx.floormod(step, shares)
            first, end = (
                emit.let(tirx.floordiv(each * emit.integer(spec.height), shares) * spec.width)
                for each in (part, part + 1)
            )
            with emit.serial(blocks) as block:
                total = pixel_sum(flat, image * blocks + block, (first, end - first))
                emit.store(parts, total.get(), [step, block, 0], lanes)
        with emit.serial(planes) as plane:
            image, block = tirx.floordiv(plane, blocks), tirx.floormod(plane, blocks)
            total = Register(lanes)
            total.set(emit.load(parts, [image * shares, block, 0], lanes))
            for part in range(1, shares):
                value = emit.load(parts, [image * shares + part, block, 0], lanes)
                total.set(total.get() + value)
            mean(plane, total)

    return emit.function(name, parameters, body)


def pixel_sum(flat: Buffer, plane: PrimExpr, some: tuple[PrimExpr, PrimExpr]) -> Register:
    """The sum of some pixels of a plane, from the first one and so many."""
    (first, count), lanes = some, int(flat.shape[2])
    sums = [Register(lanes) for _ in range(PIXELS)]
    for register in sums:
        register.set(emit.broadcast(emit.const(0.0), lanes))
    steps = count // PIXELS
    with emit.serial(steps) as step:
        for pixel, register in enumerate(sums):
            value = emit.load(flat, [plane, first + step * PIXELS + pixel, 0], lanes)
            register.set(register.get() + value)
    with emit.serial(count - steps * PIXELS) as rest_pixel:
        value = emit.load(flat, [plane, first + steps * PIXELS + rest_pixel, 0], lanes)
        sums[0].set(sums[0].get() + value)
    for register in sums[1:]:
        sums[0].set(sums[0].get() + register.get())
    return sums[0]
