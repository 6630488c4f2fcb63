"""widen-attention: weights that are a softmax of narrow numbers are kept in f32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from leptonc.ir.build import Builder
from leptonc.ir.graph import Value
from leptonc.ir.types import DType
from leptonc.passes.base import RewritePass
from leptonc.passes.contract import REASSOCIATES, Contract
from leptonc.passes.pattern import Match, Var, pat
from leptonc.passes.rewrite import Rule, rule

scores, values = Var("scores"), Var("values")
weights = pat.softmax(scores)


@rule(pat.matmul(weights, values))
def wide_weights(m: Match, build: Builder) -> Value:
    """A product with a softmax of f16 or bf16 is computed in f32, and rounded once."""
    dtype = m.root.result.type.dtype
    m.fits(dtype in (DType.F16, DType.BF16))
    wide = build.cast(m[scores], to=DType.F32)
    shares = build.op(m[weights].definition, [wide], m[weights].attrs).result
    product = build.matmul(shares, build.cast(m[values], to=DType.F32))
    return build.cast(product, to=dtype)


@dataclass(frozen=True)
class WidenAttention(RewritePass):
    """Keeps the weights of attention in f32 between the softmax and the product of narrow numbers.

    Kernels compute both in f32 anyhow: what goes is the rounding between them, and the product
    becomes one that has a kernel of its own.
    """

    name: ClassVar[str] = "widen-attention"
    numbers: ClassVar[Contract] = REASSOCIATES
    rules: ClassVar[tuple[Rule, ...]] = (wide_weights,)
