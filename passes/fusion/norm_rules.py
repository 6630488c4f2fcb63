"""Rules of `recognize-layer-norm` about what stands behind a normalisation and around it."""

from __future__ import annotations

import numpy as np

from leptonc.ir.blob import Array, Blob
from leptonc.ir.build import Builder
from leptonc.ir.graph import Op, Value
from leptonc.passes.cleanup.movement_rules import permutation
from leptonc.passes.constants import array_of, uniform
from leptonc.passes.fusion.norm_making import aligned
from leptonc.passes.pattern import Const, Match, Var, pat
from leptonc.passes.rewrite import rule
from leptonc.passes.views import reshape_to

x, scale, addend = Var("x"), Var("scale"), Var("addend")

norm = pat.any_of("layer_normalization", "rms_normalization")(x, Const("ones"))
layer_norm = pat.layer_normalization(x, scale)


def _inner(op: Op) -> tuple[object, ...]:
    axis = op.int("axis")
    return op.operands[0].type.shape[axis:]


def _require_row(m: Match, op: Op, row: Value, what: str) -> None:
    """Go on only where `row` has the normalised extents, after any extents of 1."""
    inner, shape = _inner(op), row.type.shape
    lead = len(shape) - len(inner)
    one_row = lead >= 0 and shape[lead:] == inner and all(dim == 1 for dim in shape[:lead])
    m.require(one_row and len(shape) <= op.results[0].type.rank, f"the {what} is not one row")
    m.fits(row.type.dtype is op.results[0].type.dtype)


def _flat(build: Builder, op: Op, row: Value) -> Value:
    rank = -op.int("axis") if op.int("axis") < 0 else op.operands[0].type.rank - op.int("axis")
    shape = row.type.shape
    return row if len(shape) == rank else reshape_to(build, row, shape[len(shape) - rank :])


@rule(pat.mul(norm, scale))
def factor_into_norm(m: Match, build: Builder) -> Value:
    """What a normalisation without a scale is multiplied by is its scale."""
    op = m[norm]
    number = uniform(op.operands[1])
    m.require(number is not None, "the normalisation has a scale")
    _require_row(m, op, m[scale], "factor")
    row = _flat(build, op, m[scale])
    if number != 1:
        row = build.mul(row, op.operands[1])
    return build.op(op.definition, [m[x], row], op.attrs).results[0]


@rule(pat.add(layer_norm, addend))
def summand_into_norm(m: Match, build: Builder) -> Value:
    """What is added to a layer normalisation without a bias is its bias."""
    op = m[layer_norm]
    _require_row(m, op, m[addend], "summand")
    names = (*op.operand_names, "bias")
    operands = [*op.operands, _flat(build, op, m[addend])]
    return build.op(op.definition, operands, op.attrs, names=names).results[0]


any_norm = pat.any_of(
    "layer_normalization", "rms_normalization", "instance_normalization", "group_normalization"
)(...)
turned = pat.transpose(any_norm)
constant = Const("constant")


def _axes_with_scales(op: Op) -> list[int]:
    """The axes along which a scale of the normalisation may differ."""
    rank = op.results[0].type.rank
    by_row = op.name in ("layer_normalization", "rms_normalization")
    return list(range(op.int("axis") % rank, rank)) if by_row else [1]


@rule(pat.any_of("mul", "add")(turned, constant))
def constant_before_transpose(m: Match, build: Builder) -> Value:
    """A scale or bias behind a normalisation and a transpose is taken before the transpose."""
    op, order = m[any_norm], permutation(m[turned])
    rank = op.results[0].type.rank
    m.fits(m.root.result.type == m[turned].result.type and len(order) == rank)
    data = array_of(m[constant])
    assert data is not None
    data = aligned(data, rank).transpose(np.argsort(order))
    wide = [axis for axis, extent in enumerate(data.shape) if extent != 1]
    m.require(set(wide) <= set(_axes_with_scales(op)), "the constant differs along other axes")
    moved = build.const(Blob.of(np.ascontiguousarray(data)))
    changed = build.op(m.root.definition, [op.results[0], moved]).result
    return build.transpose(changed, perm=order)


factor, summand = Const("factor"), Const("summand")
channel_norm = pat.any_of("instance_normalization", "group_normalization")(x, factor, summand)


def _per_channel(m: Match, value: Value, count: int) -> Array:
    """One number for each channel; the rule does not apply where `value` differs elsewhere."""
    rank = m.root.result.type.rank
    data = array_of(value)
    m.fits(data is not None and m.root.result.type == m[channel_norm].result.type)
    assert data is not None
    data = aligned(data, rank)
    wide = [axis for axis, extent in enumerate(data.shape) if extent != 1]
    m.require(set(wide) <= {1}, "the constant differs along other axes than the channels")
    return np.broadcast_to(data.reshape(-1), (count,)).astype(np.float64)


def _rescaled(m: Match, build: Builder, scale: Array, shift: Array) -> Value:
    op = m[channel_norm]
    dtype = m[factor].type.dtype.numpy
    rows = [build.const(Blob.of(row.astype(dtype))) for row in (scale, shift)]
    return build.op(op.definition, [m[x], *rows], op.attrs).result


def _rows(m: Match) -> tuple[Array, Array]:
    return m.blob(factor).array.astype(np.float64), m.blob(summand).array.astype(np.float64)


@rule(pat.mul(channel_norm, constant))
def factor_into_channels(m: Match, build: Builder) -> Value:
    """What the channels of a normalisation are multiplied by is part of its scale."""
    scale, shift = _rows(m)
    times = _per_channel(m, m[constant], scale.size)
    return _rescaled(m, build, scale * times, shift * times)


@rule(pat.add(channel_norm, constant))
def summand_into_channels(m: Match, build: Builder) -> Value:
    """What is added to the channels of a normalisation is part of its bias."""
    scale, shift = _rows(m)
    return _rescaled(m, build, scale, shift + _per_channel(m, m[constant], scale.size))


merged = pat.reshape(x, Var("extents"))
grouped = pat.instance_normalization(merged, factor, summand)


@rule(pat.reshape(grouped, Var("outer extents")))
def groups_by_reshapes(m: Match, build: Builder) -> Value:
    """An instance normalisation of channels merged into groups is a group normalisation."""
    scale, shift = _rows(m)
    return _grouped(m, build, m[merged].result, m[grouped].float("epsilon"), scale, shift)


grouped_row = pat.layer_normalization(merged, factor)


@rule(pat.reshape(grouped_row, Var("outer extents")))
def groups_as_rows(m: Match, build: Builder) -> Value:
    """A layer normalisation of channels merged into groups is a group normalisation."""
    number, op = uniform(m[factor]), m[grouped_row]
    rank = m[merged].result.type.rank
    m.fits(rank == 3 and op.int("axis") % rank == 2 and not any(v.is_used for v in op.results[1:]))
    m.require(number is not None, "the normalisation has a scale")
    groups = m[merged].result.type.shape[1]
    m.fits(isinstance(groups, int))
    rows = np.full(groups if isinstance(groups, int) else 0, number or 0.0)
    return _grouped(m, build, m[merged].result, op.float("epsilon"), rows, 0 * rows)


def _grouped(
    m: Match, build: Builder, inner: Value, epsilon: float, scale: Array, shift: Array
) -> Value:
    type = m[x].type
    m.fits(type == m.root.result.type and type.rank >= 3 and inner.type.rank >= 3)
    m.fits(type.dtype.value != "f64")
    channels, groups = type.shape[1], inner.type.shape[1]
    known = isinstance(channels, int) and isinstance(groups, int)
    m.require(known, "the numbers of channels and groups are not known")
    assert isinstance(channels, int)
    assert isinstance(groups, int)
    m.require(type.shape[0] == inner.type.shape[0], "examples are merged too")
    m.fits(0 < groups <= channels and channels % groups == 0)
    rows = [np.repeat(row, channels // groups).astype(type.dtype.numpy) for row in (scale, shift)]
    constants = [build.const(Blob.of(row)) for row in rows]
    if groups == channels:
        return build.instance_normalization(m[x], *constants, epsilon=epsilon)
    return build.group_normalization(m[x], *constants, epsilon=epsilon, num_groups=groups)


RULES = (
    factor_into_norm, summand_into_norm, constant_before_transpose, factor_into_channels,
    summand_into_channels, groups_by_reshapes, groups_as_rows,
)  # fmt: skip
