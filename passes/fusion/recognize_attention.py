"""recognize-attention: products, softmax and masks spelled out become one operation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.blob import Blob
from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim
from leptonc.ir.graph import Value
from leptonc.ir.types import DType
from leptonc.passes.base import RewritePass
from leptonc.passes.contract import REASSOCIATES, Contract, for_finite
from leptonc.passes.fusion.attention_einsum import sum_beside_softmax
from leptonc.passes.fusion.attention_heads import (
    Operand,
    lead_of,
    narrowed,
    operand_of,
    without_copies,
)
from leptonc.passes.fusion.attention_masks import (
    hides,
    in_full_rows,
    is_triangle,
    lowest_of,
    may_hide_all,
    may_regroup,
    regrouped,
    shows_each_row,
)
from leptonc.passes.fusion.attention_rows import (
    heads_before_swap,
    heads_in_rows,
    heads_in_rows_of_lengths,
    part_of_packed,
    swap_before_regrouping,
)
from leptonc.passes.fusion.attention_scores import Mask, Scores, Weights, scores_of, weights_of
from leptonc.passes.pattern import Match, Var, pat
from leptonc.passes.rewrite import Rule, rule
from leptonc.passes.views import reshape_to

Shape = tuple[Dim, ...]

a, b = Var("a"), Var("b")

LARGE = -1e4
"""Added to a score, this hides it from a softmax that also sees others, as exporters have it."""


@dataclass(frozen=True)
class _Found:
    """Attention as it stands in the graph."""

    weights: Weights
    scores: Scores
    left: Value
    q: Operand
    k: Operand
    v: Value
    turned: bool
    """Whether the product has values before weights, both transposed."""
    lead: tuple[Dim, Dim]

    @property
    def lengths(self) -> tuple[Dim, Dim]:
        """How many queries and keys there are."""
        return self.weights.softmax.result.type.shape[-2:]  # pyright: ignore[reportReturnType]

    @property
    def scale(self) -> float:
        """All that the products are multiplied by."""
        return self.scores.scale * self.q.factor * self.k.factor


def _found_in(m: Match) -> _Found:
    """The parts of attention below the root; the rule does not apply where one is missing."""
    turned = False
    weights = weights_of(m[a])
    values = m[b]
    if weights is None:
        right = operand_of(m[b])
        swap = (*range(m[b].type.rank - 2), m[b].type.rank - 1, m[b].type.rank - 2)
        m.fits(right.perm == swap and right.factor == 1)
        weights, values, turned = weights_of(right.source), m[a], True
    m.fits(weights is not None and m.root.result.type.dtype.is_float)
    assert weights is not None
    softmax = weights.softmax
    scores = scores_of(softmax.operands[0])
    m.fits(scores.product is not None)
    assert scores.product is not None
    _require_whole(m, weights, scores)
    left, right = scores.product.operands
    same = left.type.rank == right.type.rank and values.type.rank == m.root.result.type.rank
    m.require(
        same and min(left.type.rank, values.type.rank) >= 2, "a product broadcasts its operands"
    )
    leads = {left.type.shape[:-2], right.type.shape[:-2]}
    m.require(len(leads) == 1, "queries and keys are not of the same heads")
    m.require(0 not in left.type.shape[:-2], "there are no heads")
    m.require(
        values.type.shape[:-2] == m.root.result.type.shape[:-2], "values are not of the same heads"
    )
    lead = _lead(scores, left, values)
    key = operand_of(right).swapped()
    return _Found(weights, scores, left, operand_of(left), key, values, turned, lead)


def _require_whole(m: Match, weights: Weights, scores: Scores) -> None:
    m.require(not weights.shared, "the weights are read elsewhere")
    m.require(not scores.reason, scores.reason)
    axis = weights.softmax.int("axis")
    rank = weights.softmax.result.type.rank
    m.require(axis % rank == rank - 1, "the softmax is along another axis")
    assert scores.product is not None
    region = m.root.region
    inner = (*weights.ops, *scores.ops)
    m.require(all(op.region is region for op in inner), "the parts stand in several regions")


def _lead(scores: Scores, left: Value, values: Value) -> tuple[Dim, Dim]:
    """The batch and the heads; masks tell where both are one axis."""
    if values.type.rank == 4:
        return lead_of(values)
    if left.type.rank == 3:
        for mask in scores.masks:
            if len(mask.shape) == 4:
                return mask.shape[0], mask.shape[1]
        for value in (left, values):
            lead = lead_of(value)
            if lead[1] != 1:
                return lead
    return lead_of(left)


def _require_masks(m: Match, found: _Found) -> None:
    """Go on only where all masks can be said as one that is added."""
    dtype = m.root.result.type.dtype
    shape = (*found.lead, *found.lengths)
    lowest = lowest_of(dtype)
    for mask in found.scores.masks:
        m.require(
            may_regroup(mask.value, mask.shape, shape), "the mask groups the batch in another way"
        )
        if mask.fill is None:
            continue
        fill = mask.fill * mask.factor
        safe = fill <= LARGE and shows_each_row(mask.value, where=not mask.hidden_where)
        m.require(hides(fill, lowest) or safe, "a score that is hidden would still count")


def _mask(build: Builder, found: _Found, dtype: DType) -> Value | None:
    """The sum of all masks."""
    shape = (*found.lead, *found.lengths)
    total: Value | None = None
    for mask in reversed(found.scores.masks):
        value = regrouped(build, _added(build, mask, dtype), mask.shape, shape)
        total = value if total is None else build.add(total, value)
    if total is None or dtype is not DType.F32 or found.scores.softcap:
        return total
    # runtimes have one operator for this, which does not broadcast
    return in_full_rows(build, total, *found.lengths)


def _added(build: Builder, mask: Mask, dtype: DType) -> Value:
    def number(value: float) -> Value:
        return build.const(Blob.of(np.array(value).astype(dtype.numpy)))

    if mask.fill is None:
        value = _cast(build, mask.value, dtype)
        return value if mask.factor == 1 else build.mul(value, number(mask.factor))
    yes, no = number(0.0), number(mask.fill * mask.factor)
    return build.where(mask.value, *((no, yes) if mask.hidden_where else (yes, no)))


def _cast(build: Builder, value: Value, dtype: DType) -> Value:
    """What was multiplied or added in fewer bits, in those that the softmax is taken in."""
    return value if value.type.dtype is dtype else build.cast(value, to=dtype)


def _heads(build: Builder, value: Value, lead: tuple[Dim, Dim]) -> Value:
    shape = (*lead, *value.type.shape[-2:])
    return value if value.type.shape == shape else reshape_to(build, value, shape)


def _keys_and_values(build: Builder, found: _Found) -> tuple[Value, Value]:
    """Keys and values as heads, each head once where both are repeated alike."""
    lead = found.lead
    values = operand_of(found.v).swapped() if found.turned else operand_of(found.v)
    shapes = [(*lead, *each.shape[-2:]) for each in (found.k, values)]
    once = [without_copies(each, s) for each, s in zip((found.k, values), shapes, strict=True)]
    if once[0] is not None and once[1] is not None and values.factor == 1:
        k, v = (narrowed(build, *each) for each in once if each is not None)
        if k.type.shape[1] == v.type.shape[1]:
            return k, v
    v = found.v
    if found.turned:
        v = values.made(build) if values.factor == 1 else _swap(build, v)
    return _heads(build, found.k.made(build), lead), _heads(build, v, lead)


def _swap(build: Builder, value: Value) -> Value:
    rank = value.type.rank
    return build.transpose(value, perm=(*range(rank - 2), rank - 1, rank - 2))


@rule(pat.matmul(a, b))
def attention_spelled_out(m: Match, build: Builder) -> Value:
    """A product of values with the softmax of products of queries and keys is attention.

    Masks may be added or select, factors may stand on queries, keys or scores, heads may be one
    axis with the batch, and those of keys may be copies. What is hidden is taken to count for
    nothing, as long as scores are finite.
    """
    found = _found_in(m)
    _require_masks(m, found)
    m.also += [*reversed(found.scores.ops), *reversed(found.weights.ops)]
    dtype = m.root.result.type.dtype
    k, v = _keys_and_values(build, found)
    k = _cast(build, k, dtype)
    query = _cast(build, found.left if found.q.factor == 1 else found.q.made(build), dtype)
    if found.scores.heads is not None:
        query = build.mul(query, _cast(build, found.scores.heads, dtype))
    q = _heads(build, query, found.lead)
    mask = _mask(build, found, dtype)
    is_causal = mask is not None and is_triangle(mask, *found.lengths, lowest_of(dtype))
    seen = found.weights.guarded or is_causal or not may_hide_all(mask)
    attrs = {
        "scale": found.scale, "softcap": found.scores.softcap,
        "is_causal": int(is_causal), "guarded": int(seen),
    }  # fmt: skip
    operands = [q, k, v] if mask is None or is_causal else [q, k, v, mask]
    result = build.op("attention", operands, attrs).result
    if found.turned:
        result = _swap(build, result)
    shape = m.root.result.type.shape
    return result if result.type.shape == shape else reshape_to(build, result, shape)


@dataclass(frozen=True)
class RecognizeAttention(RewritePass):
    """Recognises attention in what exporters spell out.

    Self and cross attention, masks in all spellings, causal ones, heads that share keys, heads in
    one axis with the batch and bent scores. Runs after `eliminate-common-subexpressions`, and
    before what folds the factors of scores into weights.
    """

    name: ClassVar[str] = "recognize-attention"
    numbers: ClassVar[Contract] = for_finite(REASSOCIATES)
    rules: ClassVar[tuple[Rule, ...]] = (
        sum_beside_softmax, swap_before_regrouping, part_of_packed, heads_before_swap,
        attention_spelled_out, heads_in_rows, heads_in_rows_of_lengths,
    )  # fmt: skip
