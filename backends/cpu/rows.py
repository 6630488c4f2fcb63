# pyright: standard
"""Softmax and normalisation over the last axis, fp32, one row at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.emit import IDENTITY, Epilogue, Extent, Shape
from leptonc.backends.cpu.sharing import is_worth_sharing
from leptonc.backends.cpu.sweep import Fold, sweep
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.tvm import vector_math
from leptonc.backends.tvm.binding import Buffer, PrimExpr, tirx

# An element takes as long as so many additions.
OPERATIONS = 25
# Elements that a thread takes at a time, and rows of unknown width.
ELEMENTS_A_STEP = 4096
ROWS_A_STEP = 16


@dataclass(frozen=True)
class SoftmaxSpec:
    """`out = epilogue(softmax(x))`, or of its logarithm, over the last axis of x[*lead, width]."""

    lead: Shape
    width: Extent
    logarithm: bool = False
    epilogue: Epilogue = IDENTITY
    out_dtype: str = "float32"


@dataclass(frozen=True)
class NormSpec:
    """`out = epilogue((x - mean) / sqrt(variance + epsilon) * scale + bias)` over the last axis.

    Without centring, an RMS norm: the mean is left at zero. x is f32[*lead, width], scale and bias
    are f32[width].
    """

    lead: Shape
    width: Extent
    epsilon: float
    centred: bool = True
    scale: bool = True
    bias: bool = True
    epilogue: Epilogue = IDENTITY
    out_dtype: str = "float32"


def softmax(name: str, spec: SoftmaxSpec, cpu: CpuTarget) -> PrimFunc:
    """The kernel (x, *operands, out)."""
    parameters = [
        ("x", (*spec.lead, spec.width), "float32"),
        *spec.epilogue.parameters(),
        ("out", (*spec.lead, spec.width), spec.out_dtype),
    ]

    def body(x: Buffer, *rest: Buffer) -> None:
        flat = emit.view(x, (emit.product(spec.lead), spec.width))
        write = writer(spec, rest)

        def rows(each: Callable[[Callable[[PrimExpr], None]], None]) -> None:
            if spec.logarithm:
                each(lambda row: log_softmax_row(flat, row, spec, cpu, write))
                return
            powers = emit.workspace((spec.width,))
            each(lambda row: softmax_row(flat, powers, row, spec, cpu, write))

        over_rows(spec, cpu, rows)

    return emit.function(name, parameters, body)


Write = Callable[[PrimExpr, PrimExpr, PrimExpr], None]


def writer(spec: SoftmaxSpec | NormSpec, rest: Sequence[Buffer]) -> Write:
    """Stores one value of a row and column through the epilogue."""
    *operands, out = rest

    def write(value: PrimExpr, row: PrimExpr, column: PrimExpr) -> None:
        index = [*emit.unflatten(row, spec.lead), column]
        T.buffer_store(out, spec.epilogue.apply(value, index, operands), index)

    return write


def over_rows(
    spec: SoftmaxSpec | NormSpec,
    cpu: CpuTarget,
    rows: Callable[[Callable[[Callable[[PrimExpr], None]], None]], None],
) -> None:
    """Emits a loop over all rows; `rows` allocates what a thread needs, then calls `each`."""
    count = emit.product(spec.lead)
    size = emit.product((count, spec.width))
    if cpu.threads == 1 or (isinstance(size, int) and not is_worth_sharing(OPERATIONS * size)):

        def each(body: Callable[[PrimExpr], None]) -> None:
            with emit.serial(count) as row:
                body(row)

        rows(each)
        return
    at_once = ROWS_A_STEP
    if isinstance(spec.width, int):
        at_once = max(1, min(at_once, ELEMENTS_A_STEP // max(spec.width, 1)))
    with emit.outer_loop(emit.ceildiv(count, at_once), parallel=True) as step:
        first = step * at_once
        last = tirx.min(first + at_once, emit.integer(count))

        def each_of_step(body: Callable[[PrimExpr], None]) -> None:
            with emit.serial(last - first) as row:
                body(first + row)

        rows(each_of_step)


def largest(flat: Buffer, row: PrimExpr, spec: SoftmaxSpec, cpu: CpuTarget) -> PrimExpr:
    """The largest of a row."""
    top = Fold(cpu.lanes, -math.inf, tirx.max)

    def visit(offset: PrimExpr, count: int, chain: int, seen: Extent) -> None:
        # An element may be seen twice: that changes no maximum.
        top.take(emit.load(flat, [row, offset], count), count, chain, 0)

    sweep(spec.width, cpu.lanes, visit)
    return top.total()


def softmax_row(
    flat: Buffer,
    powers: Buffer,
    row: PrimExpr,
    spec: SoftmaxSpec,
    cpu: CpuTarget,
    write: Write,
) -> None:
    """One row; its exponentials are kept, because the sum is known only after the last."""
    top = largest(flat, row, spec, cpu)
    total = Fold(cpu.lanes, 0.0, lambda a, b: a + b)

    def raise_(offset: PrimExpr, count: int, chain: int, seen: Extent) -> None:
        with emit.vectorized(count) as lane:
            power = vector_math.exp_flushed(emit.load(flat, [row, offset + lane]) - top)
            T.buffer_store(powers, power, [offset + lane])
        total.take(emit.load(powers, [offset], count), count, chain, seen)

    sweep(spec.width, cpu.lanes, raise_)
    share = emit.let(emit.const(1.0) / total.total())

    def finish(offset: PrimExpr, count: int, chain: int, seen: Extent) -> None:
        with emit.vectorized(count) as lane:
            write(emit.load(powers, [offset + lane]) * share, row, offset + lane)

    sweep(spec.width, cpu.lanes, finish)


def log_softmax_row(
    flat: Buffer, row: PrimExpr, spec: SoftmaxSpec, cpu: CpuTarget, write: Write
) -> None:
    """One row of logarithms."""
    top = largest(flat, row, spec, cpu)
    total = Fold(cpu.lanes, 0.0, lambda a, b: a + b)

    def add(offset: PrimExpr, count: int, chain: int, seen: Extent) -> None:
        power = emit.Register(count)
        with emit.vectorized(count) as lane:
            value = vector_math.exp_flushed(emit.load(flat, [row, offset + lane]) - top)
            T.buffer_store(power.buffer, value, [lane])
        total.take(power.get(), count, chain, seen)

    sweep(spec.width, cpu.lanes, add)
    logarithm = emit.let(vector_math.log(total.total()))

    def finish(offset: PrimExpr, count: int, chain: int, seen: Extent) -> None:
        with emit.vectorized(count) as lane:
            value = emit.load(flat, [row, offset + lane]) - top - logarithm
            write(value, row, offset + lane)

    sweep(spec.width, cpu.lanes, finish)


def norm(name: str, spec: NormSpec, cpu: CpuTarget) -> PrimFunc:
    """The kernel (x, scale?, bias?, *operands, out)."""
    parameters = [
        ("x", (*spec.lead, spec.width), "float32"),
        *([("scale", (spec.width,), "float32")] if spec.scale else []),
        *([("bias", (spec.width,), "float32")] if spec.bias else []),
        *spec.epilogue.parameters(),
        ("out", (*spec.lead, spec.width), spec.out_dtype),
    ]

    def body(x: Buffer, *rest: Buffer) -> None:
        buffers = list(rest)
        scale = buffers.pop(0) if spec.scale else None
        bias = buffers.pop(0) if spec.bias else None
        flat = emit.view(x, (emit.product(spec.lead), spec.width))
        write = writer(spec, buffers)
        over_rows(
            spec,
            cpu,
            lambda each: each(lambda row: norm_row(flat, (scale, bias), row, spec, cpu, write)),
        )

    return emit.function(name, parameters, body)


def norm_row(
    flat: Buffer,
    affine: tuple[Buffer | None, Buffer | None],
    row: PrimExpr,
    spec: NormSpec,
    cpu: CpuTarget,
    write: Write,
) -> None:
    """One row: the mean, the mean square of what differs from it, the result."""
    scale, bias = affine
    width = emit.integer(spec.width).astype("float32")
    mean = emit.let(row_sum(flat, row, spec, cpu, None) / width) if spec.centred else None
    squares = row_sum(flat, row, spec, cpu, mean, squared=True)
    variance = squares / width + emit.const(spec.epsilon)
    factor = emit.let(emit.const(1.0) / tirx.sqrt(variance))

    def finish(offset: PrimExpr, count: int, chain: int, seen: Extent) -> None:
        with emit.vectorized(count) as lane:
            column = offset + lane
            value = emit.load(flat, [row, column])
            value = (value if mean is None else value - mean) * factor
            value = value if scale is None else value * emit.load(scale, [column])
            value = value if bias is None else value + emit.load(bias, [column])
            write(value, row, column)

    sweep(spec.width, cpu.lanes, finish)


def row_sum(
    flat: Buffer,
    row: PrimExpr,
    spec: NormSpec,
    cpu: CpuTarget,
    mean: PrimExpr | None,
    *,
    squared: bool = False,
) -> PrimExpr:
    """The sum of a row less its mean, or of the squares."""
    total = Fold(cpu.lanes, 0.0, lambda a, b: a + b)

    def visit(offset: PrimExpr, count: int, chain: int, seen: Extent) -> None:
        value = emit.load(flat, [row, offset], count)
        if mean is not None:
            value = value - emit.broadcast(mean, count)
        if squared:
            value = emit.let(value)
            value = value * value
        total.take(value, count, chain, seen)

    sweep(spec.width, cpu.lanes, visit)
    return total.total()
