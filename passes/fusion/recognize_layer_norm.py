"""recognize-layer-norm: normalisation spelled out becomes one operation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from leptonc.ir.blob import Blob
from leptonc.ir.build import Builder
from leptonc.ir.graph import Op, Value
from leptonc.passes.base import RewritePass
from leptonc.passes.constants import integers, uniform
from leptonc.passes.contract import REASSOCIATES, Contract
from leptonc.passes.pattern import Const, Match, OpPattern, Var, pat
from leptonc.passes.rewrite import Rule, rule

x, scale, addend = Var("x"), Var("scale"), Var("addend")
epsilon = Const("epsilon")

average = pat.reduce_mean(x, Var("axes").optional(), keepdims=1).shared()
centered = pat.sub(x, average)
variance = pat.reduce_mean(pat.mul(centered, centered), Var("axes").optional(), keepdims=1)
deviation = pat.sqrt(pat.add(variance, epsilon))

mean_square = pat.reduce_mean(pat.mul(x, x), Var("axes").optional(), keepdims=1)
magnitude = pat.sqrt(pat.add(mean_square, epsilon))


def _first_axis(m: Match, *means: Op) -> int:
    """The axis from which on all of `means` go; the rule does not apply to other axes."""
    rank = m[x].type.rank
    starts: set[int] = set()
    for op in means:
        axes = integers(op.operand("axes"))
        m.require(axes is not None, "the axes of the mean are not known")
        along = sorted(axis % rank for axis in axes or ())
        m.require(bool(along) and along == list(range(along[0], rank)), "the axes are not the last")
        starts.add(along[0])
    m.require(len(starts) == 1, "mean and variance are along different axes")
    (start,) = starts
    inner = m[x].type.shape[start:]
    m.require(all(isinstance(dim, int) for dim in inner), "the extents are known at run time only")
    return start


def _normalized(m: Match, build: Builder, name: str, start: int) -> Value:
    number = uniform(m[epsilon])
    m.require(number is not None, "epsilon differs among the elements")
    inner = m[x].type.with_shape(*m[x].type.shape[start:])
    ones = build.const(Blob.splat(1.0, inner))
    attrs = {"axis": start - m[x].type.rank, "epsilon": float(number or 0.0)}
    return build.op(name, [m[x], ones], attrs).results[0]


def _layer_norm(pattern: OpPattern, name: str) -> Rule:
    @rule(pattern)
    def body(m: Match, build: Builder) -> Value:
        """Deviations from the mean over their root mean square are a layer normalisation."""
        start = _first_axis(m, m[average], m[variance])
        m.require(uniform(m[epsilon]) is not None, "epsilon differs among the elements")
        return _normalized(m, build, "layer_normalization", start)

    return Rule(name, body.pattern, body.body, body.doc)


def _rms_norm(pattern: OpPattern, name: str) -> Rule:
    @rule(pattern)
    def body(m: Match, build: Builder) -> Value:
        """A tensor over its root mean square is a root mean square normalisation."""
        start = _first_axis(m, m[mean_square])
        m.require(uniform(m[epsilon]) is not None, "epsilon differs among the elements")
        return _normalized(m, build, "rms_normalization", start)

    return Rule(name, body.pattern, body.body, body.doc)


norm = pat.any_of("layer_normalization", "rms_normalization")(x, Const("ones"))
layer_norm = pat.layer_normalization(x, scale)


def _inner(op: Op) -> tuple[object, ...]:
    axis = op.int("axis")
    return op.operands[0].type.shape[axis:]


@rule(pat.mul(norm, scale))
def factor_into_norm(m: Match, build: Builder) -> Value:
    """What a normalisation without a scale is multiplied by is its scale."""
    op = m[norm]
    m.require(uniform(op.operands[1]) == 1, "the normalisation has a scale")
    m.require(m[scale].type.shape == _inner(op), "the factor is not one row")
    return build.op(op.definition, [m[x], m[scale]], op.attrs).results[0]


@rule(pat.add(layer_norm, addend))
def summand_into_norm(m: Match, build: Builder) -> Value:
    """What is added to a layer normalisation without a bias is its bias."""
    op = m[layer_norm]
    m.require(m[addend].type.shape == _inner(op), "the summand is not one row")
    names = (*op.operand_names, "bias")
    return build.op(op.definition, [*op.operands, m[addend]], op.attrs, names=names).results[0]


@dataclass(frozen=True)
class RecognizeLayerNorm(RewritePass):
    """Recognises layer and root mean square normalisation in what exporters spell out.

    Runs after `reduce-strength`, which leaves one spelling of squares, roots and reciprocals, and
    after `eliminate-common-subexpressions`, which merges the two differences from the mean.
    """

    name: ClassVar[str] = "recognize-layer-norm"
    numbers: ClassVar[Contract] = REASSOCIATES
    rules: ClassVar[tuple[Rule, ...]] = (
        _layer_norm(pat.div(centered, deviation), "layer-norm-by-division"),
        _layer_norm(pat.mul(centered, pat.reciprocal(deviation)), "layer-norm-by-reciprocal"),
        _rms_norm(pat.div(x, magnitude), "rms-norm-by-division"),
        _rms_norm(pat.mul(x, pat.reciprocal(magnitude)), "rms-norm-by-reciprocal"),
        factor_into_norm,
        summand_into_norm,
    )
