# pyright: standard
"""Lowering of reductions over axes; with them positions of extremes, and running sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from leptonc.backends.tvm.binding import PrimExpr, tirx
from leptonc.backends.tvm.lower.arithmetic import (
    add,
    constant,
    converted,
    is_float,
    larger,
    let,
    magnitude,
    multiply,
    smaller,
    widened,
)
from leptonc.backends.tvm.lower.broadcasting import Tensor, operand, te
from leptonc.backends.tvm.lower.division import divide
from leptonc.backends.tvm.lower.elementwise import unsupported_type
from leptonc.backends.tvm.lower.positions import POSITIONS, highest_of, lowest
from leptonc.backends.tvm.lower.scan import SCANS
from leptonc.backends.tvm.lowering import KernelRule, LowerCall, Reason, Rule
from leptonc.backends.tvm.vector_math import LARGEST, absolute, exp, log
from leptonc.backends.tvm.vector_power import sqrt
from leptonc.ir.graph import Op
from leptonc.ir.ops.reduce import reduced_axes
from leptonc.ir.table import Inference

Index = Sequence[Any]
Element = Callable[[Index], PrimExpr]

PARTIAL = 64
"""Extremes along the last axis are found in this many lanes first, where it is longer."""


@dataclass(frozen=True)
class Combiner:
    """How two are made one, and what no element at all gives."""

    reducer: Any
    neutral: Callable[[str], PrimExpr]


Function = Callable[..., PrimExpr]


def _combiner(function: Function, neutral: Callable[[str], PrimExpr], name: str) -> Combiner:
    return Combiner(te.comm_reducer(function, neutral, name=name), neutral)


def _zero(dtype: str) -> PrimExpr:
    return tirx.const(0, dtype)


def _one(dtype: str) -> PrimExpr:
    return tirx.const(1, dtype)


MAX = _combiner(larger, lowest, "max")
MIN = _combiner(smaller, highest_of, "min")
PRODUCT = _combiner(multiply, _one, "product")
SUM = Combiner(te.sum, _zero)
WRAPPING_SUM = _combiner(add, _zero, "sum")
OF_TRUTHS = {
    "reduce_max": _combiner(larger, _zero, "any"),
    "reduce_min": _combiner(smaller, _one, "all"),
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


class _Reducer:
    """The stages over the axes that one operation reduces."""

    def __init__(self, call: LowerCall) -> None:
        axes = reduced_axes(call.known)
        assert axes is not None
        self.call, self.axes, self.shape = call, axes, operand(call).shape
        self.kept = [axis for axis in range(len(self.shape)) if axis not in axes]
        self.kept_shape = [self.shape[axis] for axis in self.kept]

    def count(self, dtype: str) -> PrimExpr:
        """How many elements are combined into one."""
        count: Any = self.call.index(1)
        for axis in self.axes:
            count = count * self.shape[axis]
        return count.astype(dtype)

    def kept_index(self, index: Sequence[PrimExpr]) -> list[PrimExpr]:
        """The index along the axes that are kept, from one of the result."""
        if not self.call.op.int("keepdims"):
            return list(index)
        return [index[axis] for axis in self.kept]

    def reduce(self, combiner: Combiner, element: Element, name: str) -> Element:
        """The combination of `element(index)` over the axes, by the index along the others."""
        if not self.axes:
            stage = te.compute(self.kept_shape, lambda *index: element(index), name=name)
            return lambda index: stage(*index)
        extents = [self.shape[axis] for axis in self.axes]
        if combiner is not SUM and self._divides():
            stage = self._in_lanes(combiner.reducer, element, name)
        else:
            stage = self._at_once(combiner.reducer, element, name)
        neutral = combiner.neutral(str(stage.dtype))
        if any(isinstance(extent, tirx.IntImm) and int(extent) == 0 for extent in extents):
            return lambda index: neutral
        if all(isinstance(extent, tirx.IntImm) for extent in extents):
            return lambda index: stage(*index)
        # a loop without steps does not even store where it starts from
        empty = self.count("int64") < tirx.const(1, "int64")
        return lambda index: tirx.Select(empty, neutral, stage(*index))

    def _at_once(self, reducer: Any, element: Element, name: str) -> Tensor:
        along = [self._axis(self.shape[axis], f"k{axis}") for axis in self.axes]

        def combined(*index: Any) -> PrimExpr:
            return reducer(element(self._full(index, [axis.var for axis in along])), axis=along)

        return te.compute(self.kept_shape, combined, name=name)

    def result(self, element: Element) -> Tensor:
        """The last stage: `element` of an index along the axes that are kept."""
        call, dtype = self.call, self.call.dtype()
        return te.compute(
            call.shape(), lambda *index: converted(element(self.kept_index(index)), dtype),
            name=call.op.name,
        )  # fmt: skip

    def _axis(self, extent: Any, name: str) -> Any:
        return te.reduce_axis((self.call.index(0), extent), name=name)

    def _full(self, index: Sequence[Any], reduced: Sequence[Any]) -> list[Any]:
        full: list[Any] = [None] * len(self.shape)
        for axis, at in zip(self.kept, index, strict=True):
            full[axis] = at
        for axis, at in zip(self.axes, reduced, strict=True):
            full[axis] = at
        return full

    def _divides(self) -> bool:
        """True where the last axis is reduced and divides into lanes; schedules do that to sums."""
        last = len(self.shape) - 1
        extent = self.shape[last]
        known = isinstance(extent, tirx.IntImm) and int(extent)
        return last in self.axes and bool(known) and known > PARTIAL and known % PARTIAL == 0

    def _in_lanes(self, reducer: Any, element: Element, name: str) -> Tensor:
        steps = [self._axis(self.shape[axis], f"k{axis}") for axis in self.axes[:-1]]
        extent = int(self.shape[self.axes[-1]]) // PARTIAL
        steps.append(self._axis(self.call.index(extent), "step"))
        lanes = self.call.index(PARTIAL)

        def partial(*index: Any) -> PrimExpr:
            *kept, lane = index
            *outer, step = (axis.var for axis in steps)
            return reducer(element(self._full(kept, [*outer, step * lanes + lane])), axis=steps)

        parts = te.compute([*self.kept_shape, lanes], partial, name=f"{name}_lanes")
        lane = self._axis(lanes, "lane")
        return te.compute(
            self.kept_shape, lambda *index: reducer(parts(*index, lane.var), axis=lane), name=name
        )


def _reduce(call: LowerCall) -> Tensor:
    reduction, stages, x = REDUCTIONS[call.op.name], _Reducer(call), operand(call)

    def element(index: Index) -> PrimExpr:
        return reduction.start(widened(x(*index)))

    sample = reduction.start(widened(tirx.Var("x", str(x.dtype))))
    is_truth = str(x.dtype) == "bool"
    combiner = OF_TRUTHS[call.op.name] if is_truth else reduction.combiner(sample)
    total = stages.reduce(combiner, element, f"{call.op.name}_total")

    def finished(index: Index) -> PrimExpr:
        value = total(index)
        if reduction.finish is None:
            return value
        return reduction.finish(value, stages.count(str(sample.ty)))

    return stages.result(finished)


def _log_sum_exp(call: LowerCall) -> Tensor:
    """The largest element is taken out first, so that no exponential overflows."""
    stages, x = _Reducer(call), operand(call)
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

    total = stages.reduce(SUM, element, "exponentials")
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
