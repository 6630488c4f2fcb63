# pyright: standard
"""Lowering of reductions over axes; with them positions of extremes, and running sums."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from leptonc.backends.tvm.binding import PrimExpr, tirx
from leptonc.backends.tvm.lower.arithmetic import (
    constant,
    is_float,
    larger,
    let,
    magnitude,
    multiply,
    smaller,
    widened,
)
from leptonc.backends.tvm.lower.broadcasting import Tensor, operand, te
from leptonc.backends.tvm.lower.combine import (
    MAX,
    MIN,
    PRODUCT,
    SUM,
    WRAPPING_SUM,
    Combiner,
    Index,
    Reducer,
    combiner,
    one,
    zero,
)
from leptonc.backends.tvm.lower.division import divide
from leptonc.backends.tvm.lower.elementwise import unsupported_type
from leptonc.backends.tvm.lower.positions import POSITIONS
from leptonc.backends.tvm.lower.scan import SCANS
from leptonc.backends.tvm.lowering import KernelRule, LowerCall, Reason, Rule
from leptonc.backends.tvm.vector_math import LARGEST, absolute, exp, log
from leptonc.backends.tvm.vector_power import sqrt
from leptonc.ir.graph import Op
from leptonc.ir.ops.reduce import reduced_axes
from leptonc.ir.table import Inference

OF_TRUTHS = {
    "reduce_max": combiner(larger, zero, "any", again=True),
    "reduce_min": combiner(smaller, one, "all", again=True),
}


def _sum(x: PrimExpr) -> Combiner:
    return SUM if is_float(x) else WRAPPING_SUM


@dataclass(frozen=True)
class Reduction:
    """What is done to each element, how two are combined, and what is done to the result.

    `finish` also gets how many elements were combined, in the type of what they are combined to.
    """

    combiner: Callable[[PrimExpr], Combiner]
    start: Callable[[PrimExpr], PrimExpr] = lambda x: x
    finish: Callable[[PrimExpr, PrimExpr], PrimExpr] | None = None


def _square(x: PrimExpr) -> PrimExpr:
    return multiply(x, x)


def _wide_square(x: PrimExpr) -> PrimExpr:
    return _square(x if is_float(x) else x.astype("float64"))


def _truth(x: PrimExpr) -> PrimExpr:
    return x.astype("int8") if str(x.ty) == "bool" else x


REDUCTIONS: dict[str, Reduction] = {
    "reduce_sum": Reduction(_sum),
    "reduce_mean": Reduction(_sum, finish=divide),
    "reduce_max": Reduction(lambda _: MAX, _truth),
    "reduce_min": Reduction(lambda _: MIN, _truth),
    "reduce_prod": Reduction(lambda _: PRODUCT),
    "reduce_l1": Reduction(_sum, magnitude),
    "reduce_l2": Reduction(_sum, _wide_square, lambda total, _: sqrt(total)),
    "reduce_sum_square": Reduction(_sum, _square),
    "reduce_log_sum": Reduction(_sum, finish=lambda total, _: log(total)),
}


def _stages(call: LowerCall) -> Reducer:
    axes = reduced_axes(call.known)
    assert axes is not None
    return Reducer(call, axes)


def _reduce(call: LowerCall) -> Tensor:
    reduction, stages, x = REDUCTIONS[call.op.name], _stages(call), operand(call)

    def element(index: Index) -> PrimExpr:
        return reduction.start(widened(x(*index)))

    sample = reduction.start(widened(tirx.Var("x", str(x.dtype))))
    is_truth = str(x.dtype) == "bool"
    way = OF_TRUTHS[call.op.name] if is_truth else reduction.combiner(sample)
    total = stages.reduce(way, element, f"{call.op.name}_total")

    def finished(index: Index) -> PrimExpr:
        value = total(index)
        if reduction.finish is None:
            return value
        return reduction.finish(value, stages.count(str(sample.ty)))

    return stages.result(finished)


def _log_sum_exp(call: LowerCall) -> Tensor:
    """The largest element is taken out first, so that no exponential overflows."""
    stages, x = _stages(call), operand(call)
    top = stages.reduce(MAX, lambda index: widened(x(*index)), "largest")

    def shift_of(*index: Any) -> PrimExpr:
        def finite(value: PrimExpr) -> PrimExpr:
            bounded = absolute(value) <= constant(_largest_finite(value), value)
            return tirx.Select(bounded, value, constant(0, value))

        return let(top(index), finite)

    shift = te.compute(stages.kept_shape, shift_of, name="shift")

    def element(index: Index) -> PrimExpr:
        kept = [index[axis] for axis in stages.kept]
        return exp(widened(x(*index)) - shift(*kept))

    total = stages.reduce(SUM, element, "exponentials", simple=False)
    return stages.result(lambda index: log(total(index)) + shift(*index))


def _largest_finite(x: PrimExpr) -> float:
    return LARGEST if str(x.ty) == "float32" else 1.7976931348623157e308


def _axes_reason(op: Op) -> str:
    call = Inference(op.definition, op.operands, op.operand_names, op.attrs)
    if reduced_axes(call) is None:
        return "the axes are not known at compile time"
    return unsupported_type(op)


RULES: dict[str, Rule] = {
    **dict.fromkeys(REDUCTIONS, _reduce),
    "reduce_log_sum_exp": _log_sum_exp,
    **POSITIONS,
}
KERNELS: dict[str, KernelRule] = dict(SCANS)
REASONS: dict[str, Reason] = {
    **dict.fromkeys([*REDUCTIONS, "reduce_log_sum_exp"], _axes_reason),
    **dict.fromkeys(POSITIONS, unsupported_type),
    **dict.fromkeys(SCANS, unsupported_type),
}
