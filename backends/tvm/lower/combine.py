# pyright: standard
"""Combining elements along axes: how two become one, and the stages that do it to all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from leptonc.backends.tvm.binding import PrimExpr, tirx
from leptonc.backends.tvm.lower.arithmetic import add, converted, larger, multiply, smaller
from leptonc.backends.tvm.lower.broadcasting import Tensor, operand, te
from leptonc.backends.tvm.lowering import LowerCall

Index = Sequence[Any]
Element = Callable[[Index], PrimExpr]

PARTIAL, FEW = 64, 16
"""What lies along the last axis is combined in this many lanes first, where it is longer.

Rows that are no whole number of them are read in as few as one vector has, if each has a result:
the lanes of a row are combined one by one.
"""


def lowest(dtype: str) -> PrimExpr:
    """What is below, or equal to, every number of a type."""
    return tirx.const(float("-inf"), dtype) if "float" in dtype else tirx.min_value(dtype)


def highest(dtype: str) -> PrimExpr:
    """What is above, or equal to, every number of a type."""
    return tirx.const(float("inf"), dtype) if "float" in dtype else tirx.max_value(dtype)


@dataclass(frozen=True)
class Combiner:
    """How two are made one, and what no element at all gives.

    Elements may count `again` where that changes nothing.
    """

    reducer: Any
    neutral: Callable[[str], PrimExpr]
    again: bool = False


Function = Callable[..., PrimExpr]


def combiner(
    function: Function, neutral: Callable[[str], PrimExpr], name: str, *, again: bool = False
) -> Combiner:
    """A way to combine from a function of two elements and what it leaves unchanged."""
    return Combiner(te.comm_reducer(function, neutral, name=name), neutral, again)


def zero(dtype: str) -> PrimExpr:
    """What a sum starts from."""
    return tirx.const(0, dtype)


def one(dtype: str) -> PrimExpr:
    """What a product starts from."""
    return tirx.const(1, dtype)


MAX = combiner(larger, lowest, "max", again=True)
MIN = combiner(smaller, highest, "min", again=True)
PRODUCT = combiner(multiply, one, "product")
SUM = Combiner(te.sum, zero)
WRAPPING_SUM = combiner(add, zero, "sum")


class Reducer:
    """The stages over the axes of the first operand that one operation reduces."""

    def __init__(self, call: LowerCall, axes: tuple[int, ...]) -> None:
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

    def reduce(
        self, combiner: Combiner, element: Element, name: str, *, simple: bool = True
    ) -> Element:
        """The combination of `element(index)` over the axes, by the index along the others.

        Schedules know how to divide a sum into lanes where its elements are `simple`.
        """
        if not self.axes:
            stage = te.compute(self.kept_shape, lambda *index: element(index), name=name)
            return lambda index: stage(*index)
        extents = [self.shape[axis] for axis in self.axes]
        lanes = 0 if combiner is SUM and simple else self._lanes(combiner)
        if lanes:
            stage = self._in_lanes(combiner.reducer, element, name, lanes)
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

    def _lanes(self, combiner: Combiner) -> int:
        """The lanes that the last axis divides into where it is reduced; 0 for none."""
        last = len(self.shape) - 1
        extent = self.shape[last]
        known = int(extent) if isinstance(extent, tirx.IntImm) else 0
        if last not in self.axes or known <= FEW:
            return 0
        if known > PARTIAL and known % PARTIAL == 0:
            return PARTIAL
        if not combiner.again:
            return 0
        return FEW if self.kept or known <= PARTIAL else PARTIAL

    def _in_lanes(self, reducer: Any, element: Element, name: str, count: int) -> Tensor:
        steps = [self._axis(self.shape[axis], f"k{axis}") for axis in self.axes[:-1]]
        extent = int(self.shape[self.axes[-1]])
        steps.append(self._axis(self.call.index(-(-extent // count)), "step"))
        lanes = self.call.index(count)

        def partial(*index: Any) -> PrimExpr:
            *kept, lane = index
            *outer, step = (axis.var for axis in steps)
            first = step * lanes
            if extent % count:  # the last lanes lie over those before
                first = tirx.min(first, self.call.index(extent - count))
            return reducer(element(self._full(kept, [*outer, first + lane])), axis=steps)

        parts = te.compute([*self.kept_shape, lanes], partial, name=f"{name}_lanes")
        lane = self._axis(lanes, "lane")
        return te.compute(
            self.kept_shape, lambda *index: reducer(parts(*index, lane.var), axis=lane), name=name
        )
