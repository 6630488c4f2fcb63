"""keep-weights-in-bytes: weights that were integers of 8 bits are read as such."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.build import Builder
from leptonc.ir.graph import Value
from leptonc.ir.types import DType
from leptonc.passes.base import RewritePass
from leptonc.passes.contract import REASSOCIATES, Contract
from leptonc.passes.pattern import Const, Match, Var, pat
from leptonc.passes.precision.multiples import Multiples, multiples
from leptonc.passes.precision.products_of_bytes import LARGEST, SMALLEST
from leptonc.passes.rewrite import Rule, rule

FEWEST = 16_384
"""Weights with fewer numbers stay in the caches: nothing is saved."""
SHORTEST = 8
"""Rows with fewer numbers gain little beside their scale."""

x, weight, bias, table, places = Var("x"), Const("weight"), Var("bias"), Const("table"), Var("at")


@rule(pat.linear(x, weight, bias=bias.optional()))
def weights_of_a_layer(m: Match, build: Builder) -> Value:
    """A layer whose weights are small multiples of one number in each column: bytes, and scales."""
    m.fits(m.root.result.type.dtype is DType.F32 and not m.root.attrs.get("rounds"))
    matrix = _data(m, weight)
    made = _bytes(m, matrix.T if m.root.attrs["transposed"] else matrix)
    usual = bool(((made.scales >= SMALLEST) & (made.scales <= LARGEST)).all())
    m.require(usual, "a scale is no usual number")
    operands = [m[x], build.const(_narrow(made)), build.const(made.scales[None])]
    attrs = {"block_size": matrix.size // made.scales.size}
    result = build.op("linear_bytes", operands, attrs).result
    return build.add(result, m[bias]) if m.get(bias) is not None else result


@rule(pat.gather(table, places, axis=0))
def rows_of_a_table(m: Match, build: Builder) -> Value:
    """Rows looked up in a table of multiples of one number in each row: bytes, and their scale.

    Each element is what it was, to the bit.
    """
    blob = m[table].blob
    assert blob is not None
    m.fits(blob.type.dtype is DType.F32 and len(blob.type.extents) == 2)
    m.require(blob.type.extents[1] >= SHORTEST, "a scale for each row takes what bytes save")
    rows = _data(m, table)
    made = _bytes(m, rows.T)
    scales = _exact_scales(rows, made)
    m.require(scales is not None, "the multiples are not rounded alike")
    assert scales is not None
    found = build.gather(build.const(_narrow(made).T.copy()), m[places], axis=0)
    factors = build.gather(build.const(scales), m[places], axis=0)
    return build.mul(build.op("cast", [found], {"to": DType.F32}).result, factors)


def _data(m: Match, constant: Const) -> Array:
    """The numbers of a constant, where there are enough of them."""
    blob = m[constant].blob
    assert blob is not None
    m.require(blob.size >= FEWEST, f"fewer than {FEWEST} numbers stay in the caches")
    return blob.array


def _bytes(m: Match, matrix: Array) -> Multiples:
    """The columns of a matrix as multiples that are bytes; the match goes on only for such."""
    made = multiples(matrix)
    m.require(made is not None, "the numbers of a column are no small multiples of one number")
    assert made is not None
    fits = made.integers.min(initial=0) >= -128 and made.integers.max(initial=0) <= 127
    m.require(fits, "the multiples are no bytes with a sign")
    return made


def _narrow(made: Multiples) -> Array:
    return np.ascontiguousarray(made.integers.astype(np.int8))


def _exact_scales(rows: Array, made: Multiples) -> Array | None:
    """For each row the scale that gives its numbers to the bit; None where one has none."""
    whole = made.integers.T.astype(np.float32)
    scales = made.scales[:, None].copy()
    wrong = np.arange(len(rows))
    for end in (None, np.inf, -np.inf):
        tried = made.scales[wrong, None]
        if end is not None:
            tried = np.nextafter(tried, np.float32(end))
        scales[wrong] = tried
        made_again = whole[wrong] * tried
        alike = made_again.view(np.int32) == rows[wrong].view(np.int32)
        wrong = wrong[~alike.all(1)]
        if not wrong.size:
            return scales
    return None


@dataclass(frozen=True)
class KeepWeightsInBytes(RewritePass):
    """Reads weights of a quarter the size where layers and tables hold integers of 8 bits, scaled.

    Exporters write such weights as integers that are made real by constants alone, so they have
    become floats when this pass sees them: it knows them by their numbers, whatever has been folded
    into them. Few rows take the time in which memory gives the weights; many convert them once.
    """

    name: ClassVar[str] = "keep-weights-in-bytes"
    numbers: ClassVar[Contract] = REASSOCIATES
    rules: ClassVar[tuple[Rule, ...]] = (weights_of_a_layer, rows_of_a_table)
