"""fold-pad: zeros around a tensor become the padding of the convolution that reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from leptonc.ir.build import Builder
from leptonc.ir.graph import Value
from leptonc.passes.base import RewritePass
from leptonc.passes.constants import integers, uniform
from leptonc.passes.contract import REASSOCIATES, Contract
from leptonc.passes.pattern import Match, Var, pat
from leptonc.passes.rewrite import Rule, rule

x, amounts, number, axes = Var("x"), Var("amounts"), Var("number"), Var("axes")
weight, bias = Var("weight"), Var("bias")
padded = pat.pad(x, amounts, number.optional(), axes.optional(), mode="constant")


def _extra_pads(m: Match) -> tuple[int, ...]:
    """What the pad adds to the spatial axes, as a convolution spells it."""
    around = integers(m[amounts])
    m.require(around is not None, "how much is padded is not known")
    rank = m[x].type.rank
    given = integers(m[axes]) if m.get(axes) is not None else tuple(range(rank))
    m.require(given is not None, "which axes are padded is not known")
    assert around is not None
    assert given is not None
    before, after = [0] * rank, [0] * rank
    for index, axis in enumerate(given):
        before[axis], after[axis] = around[index], around[index + len(given)]
    outer = (*before[:2], *after[:2])
    m.require(not any(outer), "batch or channels are padded")
    extra = (*before[2:], *after[2:])
    m.require(min(extra) >= 0, "the pad cuts off")
    return extra


def _pads(m: Match, extra: tuple[int, ...]) -> tuple[int, ...]:
    old = m.root.ints("pads") or (0,) * len(extra)
    return tuple(a + b for a, b in zip(old, extra, strict=True))


@rule(pat.conv(padded, weight, bias=bias.optional()))
def pad_into_conv(m: Match, build: Builder) -> Value:
    """Zeros around the input of a convolution become its padding."""
    fill = uniform(m[number]) if m.get(number) is not None else 0.0
    m.require(fill == 0, "the padding is not zero")
    m.require(m.root.str("auto_pad") in ("NOTSET", "VALID"), "the padding depends on the extents")
    attrs = {**m.root.attrs, "pads": _pads(m, _extra_pads(m)), "auto_pad": "NOTSET"}
    operands = [m[x], *m.root.operands[1:]]
    return build.op(m.root.definition, operands, attrs, names=m.root.operand_names).result


@rule(pat.average_pool(padded, count_include_pad=1, ceil_mode=0))
def pad_into_average(m: Match, build: Builder) -> Value:
    """Zeros around the input of an average that counts its padding become padding."""
    fill = uniform(m[number]) if m.get(number) is not None else 0.0
    m.require(fill == 0, "the padding is not zero")
    m.require(m.root.str("auto_pad") in ("NOTSET", "VALID"), "the padding depends on the extents")
    attrs = {**m.root.attrs, "pads": _pads(m, _extra_pads(m)), "auto_pad": "NOTSET"}
    return build.op(m.root.definition, [m[x]], attrs).result


@rule(pat.max_pool(padded, ceil_mode=0))
def pad_into_maximum(m: Match, build: Builder) -> Value:
    """Minus infinity around the input of a maximum is what its own padding is."""
    m.fits(len(m.root.results) == 1)
    fill = uniform(m[number]) if m.get(number) is not None else 0.0
    m.require(fill == float("-inf"), "the padding is not minus infinity")
    m.require(m.root.str("auto_pad") in ("NOTSET", "VALID"), "the padding depends on the extents")
    attrs = {**m.root.attrs, "pads": _pads(m, _extra_pads(m)), "auto_pad": "NOTSET"}
    types = [m.root.result.type]  # without the places of the maxima
    return build.op(m.root.definition, [m[x]], attrs, result_types=types).result


@dataclass(frozen=True)
class FoldPad(RewritePass):
    """Folds pads of the neutral number into the convolution or pool that alone reads them."""

    name: ClassVar[str] = "fold-pad"
    numbers: ClassVar[Contract] = REASSOCIATES
    rules: ClassVar[tuple[Rule, ...]] = (pad_into_conv, pad_into_average, pad_into_maximum)
