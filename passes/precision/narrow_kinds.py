"""Which operations give the same integers in 32 bits, and which of their operands these are."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from leptonc.ir.dims import substitute, symbols
from leptonc.ir.graph import Op, Value
from leptonc.ir.types import DType

WIDE = frozenset({DType.I64, DType.U64})
"""Element types that are computed in 32 bits where that is the same."""

NARROW = DType.I32

OPEN = 64
"""What an extent counts as that only run time tells."""

_ARITHMETIC = frozenset({
    "abs", "add", "bitwise_and", "bitwise_or", "bitwise_xor", "clip", "div", "max", "min", "mod",
    "mul", "neg", "sign", "sub", "where",
})  # fmt: skip
_COMPARISONS = frozenset({"equal", "greater", "greater_or_equal", "less", "less_or_equal"})
_MOVES = frozenset({
    "concat", "expand", "flatten", "gather", "gather_elements", "gather_nd", "identity", "reshape",
    "slice", "squeeze", "tile", "transpose", "unsqueeze",
})  # fmt: skip
_REDUCTIONS = frozenset({"cum_sum", "reduce_max", "reduce_min", "reduce_sum"})
_PLACES = frozenset({"arg_max", "arg_min"})
_MADE = frozenset({"constant_of_shape", "range"})
_INDEXED = frozenset({"gather", "gather_elements", "gather_nd"})
_FLOATS = frozenset({DType.F32, DType.F64})
_EXACT = _FLOATS | {DType.BOOL, DType.I8, DType.I16, DType.I32, DType.U8, DType.U16, DType.U32}
"""Element types that a conversion from 32 bits gives the same in."""

UNGUARDED = frozenset({"div", "mod"})
"""Operations that must not meet numbers that are not theirs, not even where nobody looks."""

Fits = Callable[[Value], bool]
"""Tells whether all elements of a value are integers of 32 bits."""


@dataclass(frozen=True)
class Unit:
    """An operation that can read 32 bits in some slots; `gives` where its result is such too.

    `work` is how many elements it computes, those that it only moves not counted.
    """

    op: Op
    slots: tuple[int, ...]
    gives: bool
    work: int


def unit_of(op: Op, fits: Fits) -> Unit | None:
    """How `op` takes part; None where it does not, or could not in 32 bits."""
    if len(op.results) != 1 or op.results[0].content is not None:
        return None
    name, result = op.name, op.results[0]
    wide = [slot for slot, value in enumerate(op.operands) if value.type.dtype in WIDE]
    gives = result.type.dtype in WIDE
    if name == "cast":
        return _cast(op, fits)
    if name in _COMPARISONS or name in _PLACES:
        fine = bool(wide) and all(fits(op.operands[slot]) for slot in wide)
        return Unit(op, tuple(wide), False, elements(op.operands[0])) if fine else None
    if name in _INDEXED:
        return _indexed(op, fits)
    if not gives or not fits(result):
        return None
    if name in _MOVES or name in _REDUCTIONS:
        wide = wide if name == "concat" else [0]
    elif name not in _ARITHMETIC and name not in _MADE:
        return None
    elif name == "constant_of_shape":
        wide = []
    if not all(fits(op.operands[slot]) for slot in wide):
        return None
    work = elements(op.operands[0]) if name in _REDUCTIONS else elements(result)
    return Unit(op, tuple(wide), True, 0 if name in _MOVES else work)


def _cast(op: Op, fits: Fits) -> Unit | None:
    (source,), to = op.operands, op.result.type.dtype
    if source.type.dtype in WIDE:
        if not fits(source) or (to in WIDE and not fits(op.result)):
            return None
        return Unit(op, (0,), to in WIDE, elements(source)) if to in WIDE | _EXACT else None
    if to not in WIDE or not fits(op.result):
        return None
    fine = source.type.dtype in _EXACT
    return Unit(op, (), True, elements(source)) if fine else None


def _indexed(op: Op, fits: Fits) -> Unit | None:
    """Places may be of either width; what is gathered stays what it is."""
    gives = op.result.type.dtype in WIDE and fits(op.result) and fits(op.operands[0])
    slots = [0] if gives else []
    if op.operands[1].type.dtype in WIDE and fits(op.operands[1]):
        slots.append(1)
    return Unit(op, tuple(slots), gives, 0) if slots else None


def elements(value: Value) -> int:
    """How many elements a value has, open extents counted as `OPEN`."""
    count = 1
    for dim in value.type.shape:
        known = substitute(dim, dict.fromkeys(symbols(dim), OPEN))
        count *= max(known, 0) if isinstance(known, int) else OPEN
    return min(count, math.floor(2**60))
