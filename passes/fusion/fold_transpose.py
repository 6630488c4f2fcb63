"""fold-transpose: matrix products read operands that lie transposed in memory as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from leptonc.ir.build import Builder
from leptonc.ir.graph import Op, Value
from leptonc.passes.base import RewritePass
from leptonc.passes.cleanup.movement_rules import permutation
from leptonc.passes.contract import REASSOCIATES, Contract
from leptonc.passes.pattern import Match, OpPattern, Var, pat
from leptonc.passes.rewrite import Rule, rule

x, y = Var("x"), Var("y")
turned = pat.transpose(y).shared()


def _rest(m: Match, op: Op) -> tuple[int, ...]:
    """The order of axes that is left once the product swaps the last two."""
    order = permutation(op)
    m.fits(op.result.type.rank >= 2 and m[x].type.dtype.is_float)
    m.require(order[-2] == len(order) - 1, "another axis than the next to last is contiguous")
    rest = (*order[:-2], order[-1], order[-2])
    alone = len(op.result.uses) == 1 or rest == tuple(range(len(rest)))
    m.require(alone, "something else reads the transposed tensor")
    return rest


def _moved(build: Builder, value: Value, order: tuple[int, ...]) -> Value:
    if order == tuple(range(len(order))):
        return value
    return build.transpose(value, perm=order)


def _right(pattern: OpPattern, name: str) -> Rule:
    @rule(pattern)
    def body(m: Match, build: Builder) -> Value:
        """A product whose second matrix is transposed reads it by rows."""
        op, rest = m.root, _rest(m, m[turned])
        operands = [m[x], _moved(build, m[y], rest)]
        transposed_left = op.attrs.get("transA", 0)
        attrs = {"transA": transposed_left, "transB": 1, "alpha": op.attrs.get("alpha", 1.0)}
        return build.op("fused_matmul", operands, attrs).result

    return Rule(name, body.pattern, body.body, body.doc)


def _left(pattern: OpPattern, name: str) -> Rule:
    @rule(pattern)
    def body(m: Match, build: Builder) -> Value:
        """A product whose first matrix is transposed reads it by columns."""
        op, rest = m.root, _rest(m, m[turned])
        m.require(rest == tuple(range(len(rest))), "the transpose moves other axes too")
        attrs = {
            "transA": 1,
            "transB": op.attrs.get("transB", 0),
            "alpha": op.attrs.get("alpha", 1.0),
        }
        return build.op("fused_matmul", [m[y], m[x]], attrs).result

    return Rule(name, body.pattern, body.body, body.doc)


def _product(transposed: str, *operands: Var | OpPattern) -> OpPattern:
    plain = {transposed: 0, "transBatchA": 0, "transBatchB": 0}
    return pat.fused_matmul(*operands, **plain)


@dataclass(frozen=True)
class FoldTranspose(RewritePass):
    """Folds transposes of the last two axes into the matrix products that read them.

    What is left of the transpose keeps the contiguous axis last, so that it copies whole rows.
    """

    name: ClassVar[str] = "fold-transpose"
    numbers: ClassVar[Contract] = REASSOCIATES
    rules: ClassVar[tuple[Rule, ...]] = (
        _right(pat.matmul(x, turned), "transpose-into-matmul"),
        _right(_product("transB", x, turned), "transpose-into-fused-matmul"),
        _left(pat.matmul(turned, x), "left-transpose-into-matmul"),
        _left(_product("transA", turned, x), "left-transpose-into-fused-matmul"),
    )
