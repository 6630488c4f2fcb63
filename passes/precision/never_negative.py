"""Values that are never below zero, by what computes them."""

from __future__ import annotations

from leptonc.ir.graph import Value
from leptonc.passes.cleanup.limit_rules import clip_limits

FROM_ZERO = frozenset({"abs", "exp", "hard_sigmoid", "relu", "sigmoid", "softmax"})
"""Operations that give nothing below zero."""
KEEPS = frozenset({
    "average_pool", "flatten", "global_average_pool", "identity", "max_pool", "reshape", "slice",
    "squeeze", "transpose", "unsqueeze",
})  # fmt: skip
"""Operations that give nothing below zero where their operand has nothing below it."""
FURTHEST = 8
"""So many operations are looked at."""


def is_never_negative(value: Value) -> bool:
    """True where no element can be below zero; it may be not-a-number."""
    for _ in range(FURTHEST):
        op = value.producer
        if op is None:
            return False
        if op.name in FROM_ZERO:
            return True
        if op.name == "clip":
            limits = clip_limits(op)
            return limits is not None and limits[0] >= 0
        if op.name not in KEEPS:
            return False
        value = op.operands[0]
    return False
