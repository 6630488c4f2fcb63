# pyright: standard
"""Lowering of the mel scale's weights, and of the largest elements of regions."""

from __future__ import annotations

from typing import Any

from tvm import te
from tvm.tirx import PrimFunc

from leptonc.backends.cpu import emit
from leptonc.backends.tvm.binding import PrimExpr, tirx
from leptonc.backends.tvm.lower.indexing import compute
from leptonc.backends.tvm.lower.opaque import Kernel, kernel
from leptonc.backends.tvm.lower.parts import cast, larger, lowest, natural
from leptonc.backends.tvm.lowering import KernelRule, LowerCall, Reason, Rule
from leptonc.backends.tvm.vector_math import log10
from leptonc.backends.tvm.vector_power import pow as power
from leptonc.ir.graph import Op
from leptonc.ir.table import Inference


def _double(value: float) -> PrimExpr:
    return tirx.const(value, "float64")


def _floor(value: PrimExpr) -> PrimExpr:
    return tirx.floor(value).astype("int64")


def _mel_weight_matrix(call: LowerCall) -> te.Tensor:
    """Rising from the left edge of a band to its center, falling to its right edge."""
    bins, length, rate = (
        call.dim(call.content(name).reshape(-1)[0])
        for name in ("num_mel_bins", "dft_length", "sample_rate")
    )

    def mel(name: str) -> PrimExpr:
        tensor = call.get(name)
        assert tensor is not None
        hertz = tensor(*[call.index(0)] * len(tensor.shape)).astype("float64")
        return log10(hertz / _double(700) + _double(1)) * _double(2595)

    def edge(at: Any) -> PrimExpr:
        low, high = mel("lower_edge_hertz"), mel("upper_edge_hertz")
        place = at.astype("float64") * ((high - low) / (bins + 2).astype("float64")) + low
        hertz = (power(_double(10), place / _double(2595)) - _double(1)) * _double(700)
        return _floor((length + 1).astype("float64") * hertz / rate.astype("float64"))

    edges: Any = te.compute([bins + 2], edge, name="edges")

    def element(row: Any, band: Any) -> PrimExpr:
        at = row.astype("int64")
        left, center, right = edges(band), edges(band + 1), edges(band + 2)
        falling = (right - at).astype("float64") / (right - center).astype("float64")
        rising = (at - left).astype("float64") / (center - left).astype("float64")
        rising = tirx.Select(left == center, _double(1), rising)
        up = tirx.Select(tirx.all(at >= left, at <= center), rising, _double(0))
        found = tirx.Select(tirx.all(at >= center, at < right), falling, up)
        return cast(found, call.dtype())

    return compute(call, element)


def _mel_reason(op: Op) -> str:
    call = Inference(op.definition, op.operands, op.operand_names, op.attrs)
    names = ("num_mel_bins", "dft_length", "sample_rate")
    missing = [name for name in names if call.content(name) is None]
    return f"{', '.join(missing)} known at run time only" if missing else ""


def _max_roi_pool(call: LowerCall, cpu: Any) -> PrimFunc:
    shape = call.shape()
    dtype = natural(call.dtype())

    def body(job: Kernel) -> None:
        result = call.op.result.type.shape
        with job.shared(result[:2], result) as position:
            roi, channel = emit.unflatten(position, tuple(shape[:2]))
            batch = _batch(job, roi)
            corners = [_corner(job, roi, number) for number in range(1, 5)]
            best = emit.Register(1, dtype)
            with emit.serial(shape[2]) as i, emit.serial(shape[3]) as j:
                rows, columns = (_span(job, corners, axis, at) for axis, at in ((0, i), (1, j)))
                best.set(lowest(dtype))
                with emit.serial(rows[1], rows[0]) as row, emit.serial(columns[1], columns[0]) as c:
                    value = emit.let(cast(job.read(0, [batch, channel, row, c]), dtype))
                    best.set(larger(best.lane(0), value))
                some = tirx.all(rows[1] > 0, columns[1] > 0)
                found = tirx.Select(some, best.lane(0), tirx.const(0, dtype))
                emit.store(job.outputs[0], cast(found, call.dtype()), [roi, channel, i, j])

    return kernel(call, cpu, body)


def _batch(job: Kernel, roi: PrimExpr) -> PrimExpr:
    """The example a region lies in, one that there is."""
    given = cast(job.read(1, [roi, job.call.index(0)]), "int64")
    last = job.call.dim(job.shape(0)[0]) - 1
    return emit.let(tirx.max(tirx.min(given, last), tirx.const(0, "int64")))


def _corner(job: Kernel, roi: PrimExpr, number: int) -> PrimExpr:
    value = cast(job.read(1, [roi, job.call.index(number)]), "float64")
    return emit.let(_floor(value * _double(job.call.known.float("spatial_scale")) + _double(0.5)))


def _span(
    job: Kernel, corners: list[PrimExpr], axis: int, at: PrimExpr
) -> tuple[PrimExpr, PrimExpr]:
    """Where the part `at` of a region starts along an axis, and how long it is."""
    pooled = job.call.known.ints("pooled_shape") or ()
    start, end = corners[1 - axis], corners[3 - axis]
    limit, zero = job.call.dim(job.shape(0)[2 + axis]), tirx.const(0, "int64")
    size = tirx.max(end - start + 1, 1).astype("float64") / _double(pooled[axis])
    low = _floor(at.astype("float64") * size) + start
    high = tirx.ceil((at + 1).astype("float64") * size).astype("int64") + start
    low, high = (tirx.min(tirx.max(edge, zero), limit) for edge in (low, high))
    first = emit.let(low)
    return first, emit.let(tirx.max(high - first, zero))


RULES: dict[str, Rule] = {"mel_weight_matrix": _mel_weight_matrix}
KERNELS: dict[str, KernelRule] = {"max_roi_pool": _max_roi_pool}
REASONS: dict[str, Reason] = {"mel_weight_matrix": _mel_reason}
