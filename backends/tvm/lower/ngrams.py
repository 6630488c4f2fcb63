# pyright: standard
"""Lowering of counted n-grams: each window of a row is looked up among all by halving."""

from __future__ import annotations

from typing import Any

from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.tvm.binding import PrimExpr, tirx
from leptonc.backends.tvm.lower.opaque import Kernel, kernel
from leptonc.backends.tvm.lowering import LowerCall


def count_ngrams(call: LowerCall, cpu: Any) -> PrimFunc:
    """The kernel: rows are shared by the threads."""
    length = int(str(call.op.operands[1].type.shape[1]))
    width, skips = call.op.int("width"), call.op.int("skips") if length > 1 else 0

    def body(job: Kernel) -> None:
        lead = job.shape(0)[:-1]
        extent = call.dim(job.shape(0)[-1])
        with job.shared(lead, job.shape(0)) as row:
            head = [row] if lead else []
            with emit.serial(width) as at:
                emit.store(job.outputs[0], tirx.const(0, "int64"), [*head, at])
            for step in range(1, skips + 2):
                windows = tirx.max(extent - (length - 1) * step, tirx.const(0, "int64"))
                with emit.serial(windows) as start:
                    _count(job, head, [start + step * i for i in range(length)])

    return kernel(call, cpu, body)


def _count(job: Kernel, head: list[Any], places: list[PrimExpr]) -> None:
    """Add one where the n-gram at `places` counts, if it is among those that do."""
    zero = tirx.const(0, "int64")
    low, high = emit.Register(1, "int64"), emit.Register(1, "int64")
    window = [emit.let(job.read(0, [*head, at]).astype("int64")) for at in places]
    low.set(zero)
    high.set(job.call.dim(job.shape(1)[0]))
    total = job.call.dim(job.shape(1)[0])
    with T.While(low.lane(0) < high.lane(0)):
        middle = emit.let(tirx.floordiv(low.lane(0) + high.lane(0), 2))
        with T.If(_is_below(job, middle, window)):
            with T.Then():
                low.set(middle + 1)
            with T.Else():
                high.set(middle)
    found = emit.let(low.lane(0))
    with T.If(found < total), T.Then(), T.If(_is_equal(job, found, window)), T.Then():
        place = [*head, emit.let(job.read(2, [found]))]
        emit.store(job.outputs[0], emit.load(job.outputs[0], place) + 1, place)


def _is_below(job: Kernel, gram: PrimExpr, window: list[PrimExpr]) -> PrimExpr:
    """Whether a gram stands before the window, as words stand in a dictionary."""
    below: PrimExpr = tirx.const(0, "bool")
    for at, value in reversed(list(enumerate(window))):
        element = job.read(1, [gram, job.call.index(at)])
        below = tirx.any(element < value, tirx.all(element == value, below))
    return below


def _is_equal(job: Kernel, gram: PrimExpr, window: list[PrimExpr]) -> PrimExpr:
    return tirx.all(
        *(job.read(1, [gram, job.call.index(at)]) == value for at, value in enumerate(window))
    )
