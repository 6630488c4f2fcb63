"""fold-batch-norm: normalisation by constants becomes part of the weights beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.blob import Array, Blob
from leptonc.ir.build import Builder
from leptonc.ir.graph import Op, Value
from leptonc.passes.base import RewritePass
from leptonc.passes.contract import REASSOCIATES, Contract
from leptonc.passes.fusion.weights import (
    WEIGHTED,
    affine_after,
    affine_before,
    bias,
    channel_axis,
    input_axis,
    narrowed,
    pads_nothing,
    weight,
    weighted,
    x,
)
from leptonc.passes.pattern import Const, Match, pat
from leptonc.passes.rewrite import Rule, rule

scale, offset, mean, variance = Const("scale"), Const("offset"), Const("mean"), Const("variance")
product = weighted()
norm = pat.batch_normalization(x, scale, offset, mean, variance, training_mode=0)


def _affine(m: Match, op: Op) -> tuple[Array, Array]:
    """Factor and summand of each channel."""
    gamma, beta, average, spread = (
        m.blob(hole).array.astype(np.float64) for hole in (scale, offset, mean, variance)
    )
    with np.errstate(all="ignore"):
        factor = gamma / np.sqrt(spread + op.float("epsilon"))
        summand = beta - average * factor
    finite = np.isfinite(factor).all() and np.isfinite(summand).all()
    m.require(bool(finite), "factors of the normalisation are not finite")
    return factor, summand


@rule(pat.batch_normalization(product, scale, offset, mean, variance, training_mode=0))
def norm_into_product(m: Match, build: Builder) -> Value:
    """A batch normalisation behind a product becomes part of its weight and bias."""
    op = m[product]
    m.require(channel_axis(op) == 1, "the normalisation is along another axis than the outputs")
    factor, summand = _affine(m, m.root)
    return affine_after(m, build, op, factor, summand)


@rule(pat.any_of(*WEIGHTED)(norm, weight, bias=bias.optional()))
def norm_before_product(m: Match, build: Builder) -> Value:
    """A batch normalisation before a product becomes part of its weight and bias."""
    m.require(input_axis(m.root) == 1, "the normalisation is along another axis than the inputs")
    factor, summand = _affine(m, m[norm])
    m.require(pads_nothing(m.root) or not summand.any(), "what is padded is not normalised")
    return affine_before(m, build, m.root, factor, summand if summand.any() else None)


@rule(norm)
def norm_to_scale(m: Match, build: Builder) -> Value:
    """A batch normalisation by itself is a product and a sum per channel."""
    m.fits(len(m.root.results) == 1)
    m.require(not _will_fold(m.root), "it is folded into the product behind it")
    factor, summand = _affine(m, m.root)
    shape = (-1, *(1,) * (m[x].type.rank - 2)) if m[x].type.rank > 1 else (-1,)
    dtype = m[x].type.dtype.numpy
    factors, summands = (narrowed(m, part.reshape(shape), dtype) for part in (factor, summand))
    scaled = build.mul(m[x], build.const(Blob.of(factors))) if (factors != 1).any() else m[x]
    if not summands.any():
        return scaled
    return build.add(scaled, build.const(Blob.of(summands)))


def _will_fold(op: Op) -> bool:
    """True where `norm_before_product` still has its turn."""
    reader = op.results[0].only_user
    return (
        reader is not None
        and reader.name in WEIGHTED
        and reader.operands[0] is op.results[0]
        and input_axis(reader) == 1
        and pads_nothing(reader)
        and all(value.blob is not None for value in reader.operands[1:])
    )


@dataclass(frozen=True)
class FoldBatchNorm(RewritePass):
    """Turns batch normalisation by constants into weights and biases.

    Behind a convolution, transposed convolution or linear layer it is folded into their weights.
    Before one it is too, where no padding is read or the normalisation adds nothing. Elsewhere it
    becomes one multiplication and one addition per channel.
    """

    name: ClassVar[str] = "fold-batch-norm"
    numbers: ClassVar[Contract] = REASSOCIATES
    rules: ClassVar[tuple[Rule, ...]] = (norm_into_product, norm_before_product, norm_to_scale)
