# pyright: standard
"""Lowering of searches for the position of an extreme along an axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from leptonc.backends.tvm.binding import PrimExpr, tirx
from leptonc.backends.tvm.lower.arithmetic import is_float, not_a_number, widened
from leptonc.backends.tvm.lower.broadcasting import Tensor, operand, te
from leptonc.backends.tvm.lowering import LowerCall, Rule

INDEX = "int64"


def _searched(*, highest: bool, last: bool) -> Any:
    """A reduction of (position, value) pairs; the neutral pair loses every tie."""

    def better(a: Any, b: Any) -> PrimExpr:
        """Whether the pair `a` is to be kept."""
        (i, x), (j, y) = a, b
        wins = x > y if highest else x < y
        ties, before = tirx.EQ(x, y), (i > j if last else i < j)
        if is_float(x):
            ties = tirx.Or(ties, tirx.And(not_a_number(x), not_a_number(y)))
            wins = tirx.Or(wins, tirx.And(not_a_number(x), tirx.EQ(y, y)))
        return tirx.Or(wins, tirx.And(ties, before))

    def combine(a: Any, b: Any) -> tuple[PrimExpr, PrimExpr]:
        keeps = better(a, b)
        return tirx.Select(keeps, a[0], b[0]), tirx.Select(keeps, a[1], b[1])

    def neutral(index: str, value: str) -> tuple[PrimExpr, PrimExpr]:
        position = tirx.const(-1, index) if last else tirx.max_value(index)
        return position, lowest(value) if highest else highest_of(value)

    return te.comm_reducer(combine, neutral, name="position")


def lowest(dtype: str) -> PrimExpr:
    """What is below, or equal to, every number of a type."""
    return tirx.const(float("-inf"), dtype) if "float" in dtype else tirx.min_value(dtype)


def highest_of(dtype: str) -> PrimExpr:
    """What is above, or equal to, every number of a type."""
    return tirx.const(float("inf"), dtype) if "float" in dtype else tirx.max_value(dtype)


def _position(*, highest: bool) -> Callable[[LowerCall], Tensor]:
    def rule(call: LowerCall) -> Tensor:
        x, rank = operand(call), len(operand(call).shape)
        axis = call.op.int("axis") % rank
        keeps = bool(call.op.int("keepdims"))
        search = _searched(highest=highest, last=bool(call.op.int("select_last_index")))
        along = te.reduce_axis((call.index(0), x.shape[axis]), name="k")

        def pair(*index: Any) -> Any:
            at = list(index)
            at[axis : axis + int(keeps)] = [along.var]
            return search((along.var.astype(INDEX), widened(x(*at))), axis=along)

        positions, _ = te.compute(call.shape(), pair, name=call.op.name)
        return positions

    return rule


POSITIONS: dict[str, Rule] = {
    "arg_max": _position(highest=True),
    "arg_min": _position(highest=False),
}
