"""recognize-integer-products: layers of bytes made real are products of the bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from leptonc.ir.build import Builder
from leptonc.ir.graph import Value
from leptonc.passes.base import RewritePass
from leptonc.passes.contract import REASSOCIATES, Contract
from leptonc.passes.pattern import Match, pat
from leptonc.passes.precision.products_of_bytes import (
    bias,
    build_scaled,
    point,
    real,
    scaled,
    weight,
    x,
)
from leptonc.passes.precision.windows_of_bytes import quantised_windows, windows_of_bytes
from leptonc.passes.rewrite import Rule, rule


@rule(pat.linear(real, weight, bias=bias.optional()))
def products_of_bytes(m: Match, build: Builder) -> Value:
    """A layer of bytes made real, whose weights were bytes: sums of products of bytes, then scaled.

    The weights are known by their numbers: those of a column are small multiples of one number,
    whatever of scales and normalisations has been folded into it.
    """
    blob = m[weight].blob
    assert blob is not None
    weights = scaled(m, blob.array.T if m.root.attrs["transposed"] else blob.array)
    return build_scaled(m, build, m[x], m.get(point), weights)


@dataclass(frozen=True)
class RecognizeIntegerProducts(RewritePass):
    """Computes layers of quantised numbers and signals in integers, with scales behind the sums.

    That is nearer to what was meant than floats: sums are exact, and rounded once. It is for
    targets that multiply integers faster; `keep-integers` chooses how.
    """

    name: ClassVar[str] = "recognize-integer-products"
    numbers: ClassVar[Contract] = REASSOCIATES
    rules: ClassVar[tuple[Rule, ...]] = (products_of_bytes, windows_of_bytes, quantised_windows)
