"""recognize-lookups: products with rows of zeros and a one are lookups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.blob import Blob
from leptonc.ir.build import Builder
from leptonc.ir.graph import Value
from leptonc.ir.types import DType
from leptonc.passes.base import RewritePass
from leptonc.passes.constants import array_of, integers
from leptonc.passes.contract import REASSOCIATES, Contract
from leptonc.passes.pattern import Const, Match, Var, pat
from leptonc.passes.rewrite import Rule, rule
from leptonc.passes.views import reshape_to

x, places, w, bias = Var("x"), Const("places"), Const("w"), Const("bias")


@rule(pat.linear(pat.cast(pat.equal(x, places)), w, bias=bias.optional()))
def product_to_lookup(m: Match, build: Builder) -> Value:
    """A product of a weight and rows that tell where a number is, is the weight's row there."""
    index, row = m[x].type, m[places].type
    m.fits(index.dtype.is_integer and row.rank > 0 and index.rank >= row.rank)
    m.fits(index.shape[-1] == 1 and row.extents[:-1] == (1,) * (row.rank - 1))
    count = row.extents[-1]
    m.require(integers(m[places]) == tuple(range(count)), "the places are not counted from zero")
    weight = array_of(m[w])
    assert weight is not None
    m.require(bool(np.isfinite(weight).all()), "the weight has infinite elements")
    rows = weight.T if m.root.int("transposed") else weight
    # what is at none of the places gets the row behind them
    table = np.concatenate([rows, np.zeros_like(rows[:1])])
    if m.get(bias) is not None:
        added = array_of(m[bias])
        assert added is not None
        table = table + added
    m.fits(table.shape == (count + 1, *m.root.result.type.shape[-1:]))
    zero, end = (build.const(Blob.of(np.array(n, np.int64))) for n in (0, count))
    at = build.cast(reshape_to(build, m[x], index.shape[:-1]), to=DType.I64)
    inside = getattr(build, "and")(build.greater_or_equal(at, zero), build.less(at, end))
    data = build.const(Blob.of(table.astype(weight.dtype, copy=False)))
    return build.gather(data, build.where(inside, at, end), axis=0)


@dataclass(frozen=True)
class RecognizeLookups(RewritePass):
    """Reads rows of a weight instead of multiplying it by rows of zeros and a one.

    For targets whose kernels compute the places beside the lookup; as nodes of ONNX these are more
    than the product has.
    """

    name: ClassVar[str] = "recognize-lookups"
    numbers: ClassVar[Contract] = REASSOCIATES
    rules: ClassVar[tuple[Rule, ...]] = (product_to_lookup,)
