"""What may run where the model did not run it: no fault, no effect, and little work."""

from __future__ import annotations

import math

from leptonc.ir.dims import Dim
from leptonc.ir.graph import Op, Value
from leptonc.ir.table import CONST, DIMS, Trait
from leptonc.ir.types import DType
from leptonc.passes.constants import integers

_FAULTS_ON_INTEGERS = frozenset({"div", "mod", "pow"})
"""Elementwise operations that some integers make fail, a divisor of 0 among them."""

_MOVES = frozenset({
    "concat", "depth_to_space", "expand", "flatten", "identity", "reshape", "slice",
    "space_to_depth", "split", "squeeze", "tile", "transpose", "trilu", "unsqueeze",
})  # fmt: skip
"""Moves of elements that cannot fail once their types are static, which typing has checked."""

_SIMPLE = frozenset({
    "abs", "add", "and", "cast", "clip", "equal", "greater", "greater_or_equal", "less",
    "less_or_equal", "max", "min", "mul", "neg", "not", "or", "relu", "sub", "where", "xor",
})  # fmt: skip
_WORK_OF_FUNCTION = 8
"""How many simple operations an elementwise function such as `exp` costs."""


def is_free(op: Op) -> bool:
    """True for what costs nothing wherever it stands: constants, and extents as numbers."""
    return op.definition in (CONST, DIMS)


def cannot_fail(op: Op) -> bool:
    """True where running `op` in vain changes nothing but the time that a run takes."""
    row = op.definition
    if is_free(op):
        return True
    if op.regions or row.extension is not None or row.has(Trait.EFFECT):
        return False
    values = (*op.operands, *op.results)
    if any(value.type.dtype is DType.STR for value in values):
        return False
    if row.has(Trait.ELEMENTWISE):
        risky = op.name in _FAULTS_ON_INTEGERS and not op.results[0].type.dtype.is_float
        return not risky and all(_fits(value, op.results[0]) for value in op.operands)
    if not all(value.type.is_static for value in values):
        return False
    if op.name == "gather":
        return _is_within(op)
    return op.name in _MOVES or row.has(Trait.REDUCTION) or row.has(Trait.PRODUCT)


def work_of(op: Op) -> float:
    """About how many simple operations on one element `op` costs; infinite where that is open."""
    if is_free(op):
        return 0
    made = sum(_size(value) for value in op.results)
    row = op.definition
    if op.regions or row.has(Trait.PRODUCT):
        return math.inf
    if row.has(Trait.REDUCTION):
        return _WORK_OF_FUNCTION * (made + sum(_size(value) for value in op.operands))
    return made if op.name in _SIMPLE or op.name in _MOVES else _WORK_OF_FUNCTION * made


def _fits(value: Value, result: Value) -> bool:
    """True where no run can find that an operand does not broadcast to the result."""
    shape = value.type.shape
    across = result.type.shape[result.type.rank - len(shape) :]
    return all(_is_one(a) or a == b for a, b in zip(shape, across, strict=False))


def _is_one(dim: Dim) -> bool:
    return isinstance(dim, int) and dim == 1


def _is_within(op: Op) -> bool:
    """True for a `gather` of places that are known to be there."""
    places, source = integers(op.operands[1]), op.operands[0].type
    if places is None or not source.rank:
        return False
    extent = source.extents[op.int("axis") % source.rank]
    return all(-extent <= place < extent for place in places)


def _size(value: Value) -> float:
    if not value.type.is_static:
        return math.inf
    return math.prod(value.type.extents)
