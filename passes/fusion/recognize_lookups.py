"""recognize-lookups: products with rows of zeros and a one are lookups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.blob import Array, Blob
from leptonc.ir.build import Builder
from leptonc.ir.graph import Value
from leptonc.ir.types import DType
from leptonc.passes.base import RewritePass
from leptonc.passes.constants import array_of, integers
from leptonc.passes.contract import REASSOCIATES, Contract
from leptonc.passes.pattern import Const, Match, OpPattern, Var, pat
from leptonc.passes.rewrite import Rule, rule
from leptonc.passes.views import reshape_to

x, places, w, bias = Var("x"), Const("places"), Const("w"), Const("bias")
hot = pat.one_hot(x, Const("depth"), Const("values"))

LARGEST_TWICE = 1 << 20
"""Weights with more elements than this are not written twice."""


def _rows(m: Match, count: int) -> Array:
    """The weight, one row for each place, with the bias added, if all of it is finite."""
    weight = array_of(m[w])
    assert weight is not None
    m.fits(weight.ndim == 2)
    m.require(bool(np.isfinite(weight).all()), "the weight has infinite elements")
    rows = weight.T if m.root.name == "linear" and m.root.int("transposed") else weight
    m.fits(len(rows) == count and rows.shape[-1:] == m.root.result.type.shape[-1:])
    return rows


def _with_bias(m: Match, rows: Array) -> Blob:
    added = array_of(m[bias]) if m.get(bias) is not None else None
    return Blob.of((rows if added is None else rows + added).astype(rows.dtype, copy=False))


def _look_up(m: Match, build: Builder, index: Value, rows: Array, limits: tuple[int, int]) -> Value:
    """The rows at the indices, those outside of the limits taken for the nearer limit."""
    if index.type.dtype not in (DType.I32, DType.I64):
        index = build.cast(index, to=DType.I64)
    ends = [build.const(np.array(end, index.type.dtype.numpy)) for end in limits]
    index = build.clip(index, min=ends[0], max=ends[1])
    return build.gather(build.const(_with_bias(m, rows)), index, axis=0)


def _by_comparison(product: OpPattern, name: str) -> Rule:
    @rule(product)
    def body(m: Match, build: Builder) -> Value:
        """A product of a weight and rows that tell where a number is, is the weight's row there."""
        index, row = m[x].type, m[places].type
        m.fits(index.dtype.is_integer and row.rank > 0 and index.rank >= row.rank)
        m.fits(index.shape[-1] == 1 and row.extents[:-1] == (1,) * (row.rank - 1))
        count = row.extents[-1]
        m.require(
            integers(m[places]) == tuple(range(count)), "the places are not counted from zero"
        )
        rows = _rows(m, count)
        # what is at none of the places gets the row behind them, which is also the last one
        table = np.concatenate([rows, np.zeros_like(rows[:1], shape=(1, rows.shape[1]))])
        return _look_up(m, build, reshape_to(build, m[x], index.shape[:-1]), table, (-1, count))

    return Rule(name, body.pattern, body.body, body.doc)


def _by_index(product: OpPattern, name: str) -> Rule:
    @rule(product)
    def body(m: Match, build: Builder) -> Value:
        """A product of a weight and one-hot rows is the weight's rows at the indices."""
        one_hot = next(op for op in m.ops.values() if op.name == "one_hot")
        index, depth, values = one_hot.operands
        m.fits(index.type.dtype.is_integer and one_hot.int("axis") in (-1, index.type.rank))
        count = integers(depth)
        pair = array_of(values)
        m.fits(pair is not None and count is not None)
        assert pair is not None
        assert count is not None
        m.require(pair.tolist() == [0, 1], "the rows are not made of zeros and ones")
        rows = _rows(m, count[0])
        m.require(rows.size <= LARGEST_TWICE, "the weight is large")
        # indices count from the end too; what is at none of the places gets zeros
        zeros = np.zeros_like(rows, shape=(2, rows.shape[1]))
        table = np.concatenate([rows, zeros, rows])
        return _look_up(m, build, index, table, (-count[0] - 1, count[0]))

    return Rule(name, body.pattern, body.body, body.doc)


compared = pat.cast(pat.equal(x, places))


@dataclass(frozen=True)
class RecognizeLookups(RewritePass):
    """Reads rows of a weight instead of multiplying it by rows of zeros and a one.

    What is at none of the places gets a row of zeros that the weight is extended by: two
    operations are left, a `clip` of the indices, which goes away where their limits are known, and
    the `gather`.
    """

    name: ClassVar[str] = "recognize-lookups"
    numbers: ClassVar[Contract] = REASSOCIATES
    rules: ClassVar[tuple[Rule, ...]] = (
        _by_comparison(pat.linear(compared, w, bias=bias.optional()), "product-to-lookup"),
        _by_comparison(pat.matmul(compared, w), "matrix-product-to-lookup"),
        _by_index(pat.linear(hot, w, bias=bias.optional()), "one-hot-to-lookup"),
        _by_index(pat.matmul(hot, w), "one-hot-product-to-lookup"),
    )
