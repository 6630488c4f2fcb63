"""What follows for the result of one operation, whether it computes integers or floats."""

from __future__ import annotations

from leptonc.ir.graph import Op, Value
from leptonc.ir.types import DType
from leptonc.passes.shapes import float_limits
from leptonc.passes.shapes.decisions import of_result
from leptonc.passes.shapes.float_limits import FloatFacts, Limits
from leptonc.passes.shapes.interval import Facts, Known, anything, within
from leptonc.passes.shapes.interval_rules import TRANSFER


def is_tracked(value: Value) -> bool:
    """True for integers and truths, of which limits are known."""
    dtype = value.type.dtype
    return dtype is DType.BOOL or (dtype.is_integer and not dtype.is_narrow)


def computed(op: Op, facts: Facts, floats: FloatFacts) -> Known:
    """What is known of integers that `op` computes."""
    type = op.results[0].type
    if op.name == "cast" and op.operands[0].type.dtype.is_float and type.dtype is not DType.BOOL:
        limits = floats(op.operands[0])
        return anything(type) if limits is None else within(*float_limits.to_integers(limits), type)
    return of_result(op, facts, TRANSFER)


def computed_floats(op: Op, facts: Facts, floats: FloatFacts) -> Limits | None:
    """Limits of floats that `op` computes."""
    if op.name != "cast":
        return float_limits.limits_of_result(op, floats)
    (source,) = op.operands
    if is_tracked(source):
        return float_limits.from_integers(facts(source))
    limits = floats(source)
    return None if limits is None else float_limits.rounded(*limits)
