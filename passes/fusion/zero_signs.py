"""Where the sign of a zero matters: what divides by it tells the infinities apart."""

from __future__ import annotations

from leptonc.ir.graph import Op, Value
from leptonc.passes.pattern import Match

HOPS = 4
"""Through how many operations a sign is followed."""
MOST = 64
"""How many readers are looked at; with more the sign counts as seen."""

FORGETS = frozenset({
    "exp", "cos", "cosh", "abs", "sigmoid", "softmax", "log", "is_nan",
    "equal", "less", "less_or_equal", "greater", "greater_or_equal",
})  # fmt: skip
"""Operations whose result is the same for both zeros."""


def require_sign_unseen(m: Match) -> None:
    """Go on only where nothing divides by the root's result, or by what keeps its zeros' signs."""
    m.require(not _is_seen(m.root.result), "something divides by it, which sees the sign of a zero")


def _is_seen(value: Value) -> bool:
    looked = 0
    layer = [value]
    for _ in range(HOPS):
        following: list[Value] = []
        for each in layer:
            for use in each.uses:
                looked += 1
                if looked > MOST or _divides(use.op, each):
                    return True
                if use.op.name not in FORGETS:
                    following += use.op.results
        layer = following
    return False


def _divides(op: Op, value: Value) -> bool:
    if op.name == "div":
        return op.operands[1] is value
    return op.name in ("reciprocal", "pow", "bit_cast")
