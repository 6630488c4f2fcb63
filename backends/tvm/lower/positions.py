# pyright: standard
"""Lowering of searches for the position of an extreme along an axis."""

from __future__ import annotations

from typing import Any

from leptonc.backends.tvm.binding import PrimExpr, tirx
from leptonc.backends.tvm.lower.arithmetic import is_float, not_a_number, widened
from leptonc.backends.tvm.lower.broadcasting import Tensor, operand, te
from leptonc.backends.tvm.lower.combine import MAX, MIN, Combiner, Index, Reducer
from leptonc.backends.tvm.lowering import LowerCall, Rule


def _position(extreme: Combiner) -> Rule:
    def rule(call: LowerCall) -> Tensor:
        """The extreme first, then the first or last place where it stands: both in vectors."""
        x, last = operand(call), bool(call.op.int("select_last_index"))
        axis = call.op.int("axis") % len(x.shape)
        stages = Reducer(call, (axis,))
        best = stages.reduce(extreme, lambda index: widened(x(*index)), "best")
        held = te.compute(stages.kept_shape, lambda *index: best(index), name="held")
        dtype = "int32" if isinstance(x.shape[axis], tirx.IntImm) else "int64"
        nowhere = tirx.const(-1, dtype) if last else tirx.max_value(dtype)

        def place(index: Index) -> PrimExpr:
            kept = held(*(at for number, at in enumerate(index) if number != axis))
            found = _stands(widened(x(*index)), kept)
            return tirx.Select(found, index[axis].astype(dtype), nowhere)

        return stages.result(stages.reduce(MAX if last else MIN, place, "position"))

    return rule


def _stands(x: Any, best: Any) -> PrimExpr:
    """Whether an element is the extreme, which not-a-number is where there is one."""
    same = tirx.EQ(x, best)
    if not is_float(x):
        return same
    return tirx.Or(same, tirx.And(not_a_number(x), not_a_number(best)))


POSITIONS: dict[str, Rule] = {"arg_max": _position(MAX), "arg_min": _position(MIN)}
