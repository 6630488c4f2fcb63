"""simplify: operations that do nothing, undo each other, or have a simpler form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from leptonc.passes.base import RewritePass
from leptonc.passes.cleanup import (
    arithmetic_rules,
    border_rules,
    cast_rules,
    choice_rules,
    constant_rules,
    gather_rules,
    limit_rules,
    logic_rules,
    movement_rules,
    quantize_rules,
    reduction_rules,
    requantize_rules,
    selection_rules,
    sign_rules,
    slice_rules,
    stack_rules,
)
from leptonc.passes.contract import EXACT, Contract
from leptonc.passes.rewrite import Rule


@dataclass(frozen=True)
class Simplify(RewritePass):
    """Removes operations that change nothing and merges those that undo or repeat each other.

    Every rule keeps every bit of the results, so `x + 0.0` stays (it turns -0.0 into 0.0) while
    `x - 0.0` goes. Rules that may change a rounding or the sign of a zero are in `reduce-strength`.
    """

    name: ClassVar[str] = "simplify"
    numbers: ClassVar[Contract] = EXACT
    rules: ClassVar[tuple[Rule, ...]] = (
        *arithmetic_rules.RULES, *logic_rules.RULES, *choice_rules.RULES, *limit_rules.RULES,
        *sign_rules.RULES, *constant_rules.RULES, *cast_rules.RULES, *movement_rules.RULES,
        *slice_rules.RULES, *gather_rules.RULES, *border_rules.RULES, *reduction_rules.RULES,
        *stack_rules.RULES, *quantize_rules.RULES, *requantize_rules.RULES, *selection_rules.RULES,
    )  # fmt: skip
