"""spell-rare-attention: attention stays one operation where a target's kernel takes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from leptonc.ir.build import Builder
from leptonc.ir.graph import Op, Value
from leptonc.ir.ops.attention import head_shapes
from leptonc.ir.types import DType
from leptonc.passes.base import RewritePass
from leptonc.passes.contract import REASSOCIATES, Contract, for_finite
from leptonc.passes.fusion.spell_attention import attention_apart, k, mask, q, rotary_apart, v
from leptonc.passes.pattern import Match, Var, pat
from leptonc.passes.rewrite import Rule, rule

extents = Var("extents")


def _reason(op: Op) -> str:
    """Why no kernel takes the attention as it is; empty where one does."""
    if op.result.type.dtype is not DType.F32:
        return "it is not of f32"
    if op.float("softcap"):
        return "its scores are capped"
    shapes = head_shapes(
        [value.type.shape for value in op.operands[:3]],
        op.int("q_num_heads"),
        op.int("kv_num_heads"),
    )
    heads, groups, keys = shapes[0][1], shapes[1][1], shapes[1][2]
    fixed = (heads, groups, shapes[0][3], shapes[2][3])
    if not all(isinstance(extent, int) and extent for extent in fixed) or keys == 0:
        return "its heads or their widths are open, or there are none"
    return ""


@rule(pat.attention(q, k, v, mask=mask.optional()))
def rare_attention_apart(m: Match, build: Builder) -> Value | Sequence[Value]:
    """Attention that no kernel takes is two products with a softmax between them."""
    m.require(bool(_reason(m.root)), "a kernel computes it as it is")
    return attention_apart.body(m, build)


@rule(pat.attention(q, k, v, mask=pat.expand(mask, extents).shared()))
def mask_before_repeating(m: Match, build: Builder) -> Value:
    """A mask that was repeated for all scores is read as it was before."""
    m.require(not _reason(m.root), "the attention is to be taken apart")
    return build.op(
        m.root.definition,
        [m[q], m[k], m[v], m[mask]],
        m.root.attrs,
        names=("q", "k", "v", "mask"),
    ).result


@dataclass(frozen=True)
class SpellRareAttention(RewritePass):
    """Leaves attention of f32 as it is, for targets with a kernel for it, and takes others apart.

    Such a kernel needs the numbers of heads and their widths; lengths may be open. Rotary
    embeddings are taken apart as well.
    """

    name: ClassVar[str] = "spell-rare-attention"
    numbers: ClassVar[Contract] = for_finite(REASSOCIATES)
    rules: ClassVar[tuple[Rule, ...]] = (rare_attention_apart, mask_before_repeating, rotary_apart)
