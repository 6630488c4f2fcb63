"""fold-transpose: products and changes of layout do what transposes beside them do."""

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
from leptonc.passes.views import reshape_to

x, y = Var("x"), Var("y")
turned = pat.transpose(y).shared()


def _rest(m: Match, op: Op) -> tuple[int, ...]:
    """The order of axes that is left once the product swaps the last two."""
    order = permutation(op)
    m.fits(op.result.type.rank >= 2 and m[x].type.dtype.is_float)
    m.require(order[-2] == len(order) - 1, "another axis than the next to last is contiguous")
    rest = (*order[:-2], order[-1], order[-2])
    alone = op.result.use_count == 1 or rest == tuple(range(len(rest)))
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


to_first = pat.transpose(x)
blocked = pat.unpack_channels(x)
flattened = pat.reshape(blocked, Var("extents"))


@rule(pat.pack_channels(to_first))
def pack_channels_last(m: Match, build: Builder) -> Value:
    """Channels that lie last are cut into blocks where they are; then whole blocks move."""
    rank, lanes = m[x].type.rank, m.root.int("lanes")
    m.fits(permutation(m[to_first]) == (0, rank - 1, *range(1, rank - 1)))
    channels = m[x].type.shape[-1]
    m.require(isinstance(channels, int) and channels % lanes == 0, "the last block is not full")
    assert isinstance(channels, int)
    cut = reshape_to(build, m[x], (*m[x].type.shape[:-1], channels // lanes, lanes))
    return build.transpose(cut, perm=(0, rank - 1, *range(1, rank - 1), rank))


@rule(pat.transpose(blocked))
def unpack_channels_last(m: Match, build: Builder) -> Value:
    """Whole blocks of channels move to the end, where they lie one behind the other."""
    rank = m.root.result.type.rank
    m.fits(permutation(m.root) == (0, *range(2, rank), 1))
    blocks, lanes = m[x].type.shape[1], m[x].type.shape[-1]
    full = blocks * lanes == m[blocked].int("channels")
    m.require(full, "the last block is not full")
    moved = build.transpose(m[x], perm=(0, *range(2, rank), 1, rank))
    return reshape_to(build, moved, m.root.result.type.shape)


@rule(pat.transpose(flattened))
def unpack_flattened_channels_last(m: Match, build: Builder) -> Value:
    """As without a reshape between, where it leaves channels as they are."""
    plain, rank = m[flattened].result.type.shape, m.root.result.type.rank
    m.fits(rank >= 3 and permutation(m.root) == (0, *range(2, rank), 1))
    m.require(plain[:2] == m[blocked].result.type.shape[:2], "channels are reshaped, too")
    blocks, lanes = m[x].type.shape[1], m[x].type.shape[-1]
    m.require(blocks * lanes == m[blocked].int("channels"), "the last block is not full")
    last = m[x].type.rank - 1
    moved = build.transpose(m[x], perm=(0, *range(2, last), 1, last))
    return reshape_to(build, moved, m.root.result.type.shape)


@dataclass(frozen=True)
class FoldTranspose(RewritePass):
    """Folds transposes into the matrix products and changes of layout that they stand beside.

    Products read operands whose last two axes are swapped as they are. What is left of a transpose
    keeps the contiguous axis last, so that it copies whole rows.
    """

    name: ClassVar[str] = "fold-transpose"
    numbers: ClassVar[Contract] = REASSOCIATES
    rules: ClassVar[tuple[Rule, ...]] = (
        _right(pat.matmul(x, turned), "transpose-into-matmul"),
        _right(_product("transB", x, turned), "transpose-into-fused-matmul"),
        _left(pat.matmul(turned, x), "left-transpose-into-matmul"),
        _left(_product("transA", turned, x), "left-transpose-into-fused-matmul"),
        pack_channels_last,
        unpack_channels_last,
        unpack_flattened_channels_last,
    )
