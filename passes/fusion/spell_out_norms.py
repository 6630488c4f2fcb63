"""spell-out-norms: normalisation between transposes is computed where the data lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.blob import Array, Blob
from leptonc.ir.build import Builder
from leptonc.ir.graph import Value
from leptonc.passes.base import RewritePass
from leptonc.passes.cleanup.movement_rules import permutation
from leptonc.passes.constants import array_of
from leptonc.passes.contract import REASSOCIATES, Contract
from leptonc.passes.fusion.norm_making import aligned
from leptonc.passes.pattern import Const, Match, Var, pat
from leptonc.passes.rewrite import Rule, rule

x, scale, bias = Var("x"), Const("scale"), Const("bias")
turned = pat.transpose(x)
norm = pat.any_of("layer_normalization", "rms_normalization")(turned, scale, bias.optional())


@rule(pat.transpose(norm))
def norm_between_transposes(m: Match, build: Builder) -> Value:
    """A normalisation between a transpose and its inverse goes over the axes before both."""
    op, order = m[norm], permutation(m[turned])
    rank = len(order)
    m.fits(rank >= 3 and op.results[0].type.dtype.value == "f32")
    m.fits(not any(value.is_used for value in op.results[1:]))
    m.require(permutation(m.root) == tuple(np.argsort(order)), "the transposes are no inverses")
    axes = sorted(order[op.int("axis") % rank :])
    m.require(axes[-1] != rank - 1, "the last axis is among those to normalise")
    wide = [_before(m, m[hole], order) for hole in (scale, bias) if m.get(hole) is not None]
    along = build.const(Blob.of(np.array(axes)))
    source = m[x]
    if op.name == "layer_normalization":
        source = build.sub(source, build.reduce_mean(source, axes=along))
    square = build.reduce_mean(build.mul(source, source), axes=along)
    epsilon = build.const(Blob.of(np.array(op.float("epsilon"), np.float32)))
    result = build.div(source, build.sqrt(build.add(square, epsilon)))
    result = build.mul(result, build.const(Blob.of(wide[0])))
    return build.add(result, build.const(Blob.of(wide[1]))) if len(wide) > 1 else result


def _before(m: Match, value: Value, order: tuple[int, ...]) -> Array:
    """A constant as it broadcasts to the tensor before the transpose."""
    data = array_of(value)
    assert data is not None
    m.fits(value.type.dtype.value == "f32")
    return np.ascontiguousarray(aligned(data, len(order)).transpose(np.argsort(order)))


@dataclass(frozen=True)
class SpellOutNorms(RewritePass):
    """Computes normalisations over other axes than the last without moving the data.

    For targets whose kernels reduce over any axes: the two transposes take longer than that
    (96 x 56 x 56 numbers over the channels, 440 to 230 us). In ONNX they stay, since onnxruntime
    1.32 is faster with them (1040 to 650 us).
    """

    name: ClassVar[str] = "spell-out-norms"
    numbers: ClassVar[Contract] = REASSOCIATES
    rules: ClassVar[tuple[Rule, ...]] = (norm_between_transposes,)
