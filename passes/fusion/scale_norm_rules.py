"""Rules of `fold-scale` about normalisations and tables with constants of their own."""

from __future__ import annotations

import numpy as np

from leptonc.ir.blob import Array, Blob
from leptonc.ir.build import Builder
from leptonc.ir.graph import Op, Value
from leptonc.passes.constants import array_of
from leptonc.passes.fusion.weights import multiplied, narrowed, per_channel, require_own, x
from leptonc.passes.pattern import Const, Match, Var, pat
from leptonc.passes.rewrite import rule

c, scale, offset, table = Const("c"), Const("scale"), Const("offset"), Const("table")
indices = Var("indices")
layer = pat.layer_normalization(x, scale, bias=offset.optional())
root_mean = pat.rms_normalization(x, scale)
channels = pat.any_of("instance_normalization", "group_normalization")(x, scale, offset)


def _trailing(m: Match, op: Op) -> Array:
    """The constant in f64, one number for each place of the normalised axes."""
    m.require(m.root.result.type == op.results[0].type, "the constant broadcasts the normalisation")
    found = array_of(m[c])
    assert found is not None
    m.fits(op.results[0].type.dtype.is_float)
    axis, rank = op.int("axis") % max(1, op.results[0].type.rank), op.results[0].type.rank
    whole = found.reshape((1,) * (rank - found.ndim) + found.shape).astype(np.float64)
    same = set(whole.shape[:axis]) <= {1}
    m.require(same, "the constant differs along other axes than the normalised ones")
    m.require(bool(np.isfinite(whole).all()), "the constant is not finite")
    return whole.reshape(whole.shape[axis:])


def _joined(m: Match, given: Array, wide: Array) -> tuple[int, ...]:
    """The shape of both together, where the one that is there can take it."""
    m.fits(given.ndim <= wide.ndim)
    return np.broadcast_shapes(given.shape, wide.shape)


@rule(pat.mul(layer, c))
def factor_into_layer_norm(m: Match, build: Builder) -> Value:
    """A factor behind a layer normalisation becomes part of its scale and bias."""
    op = m[layer]
    m.fits(not any(value.is_used for value in op.results[1:]))
    wide, data = _trailing(m, op), m.blob(scale).array
    shape = _joined(m, data, wide)
    new = multiplied(m, np.broadcast_to(data, shape), wide)
    row = m.get(offset)
    if row is None:
        return _layer(build, op, m[x], new, None)
    summand = m.blob(offset).array
    m.fits(summand.ndim <= wide.ndim)
    with np.errstate(invalid="ignore"):
        shifted = summand.astype(np.float64) * wide
    changed = narrowed(m, shifted, data.dtype)
    return _layer(build, op, m[x], new, changed)


@rule(pat.add(layer, c))
def summand_into_layer_norm(m: Match, build: Builder) -> Value:
    """A summand behind a layer normalisation becomes its bias."""
    op = m[layer]
    m.fits(not any(value.is_used for value in op.results[1:]))
    wide, row = _trailing(m, op), m.get(offset)
    if row is not None:
        given = m.blob(offset).array
        m.fits(given.ndim <= wide.ndim)
        wide = given.astype(np.float64) + wide
    data = m.blob(scale).array
    extents = op.results[0].type.shape[op.int("axis") % op.results[0].type.rank :]
    m.fits(all(isinstance(extent, int) for extent in extents))
    full = np.broadcast_to(wide, tuple(extent for extent in extents if isinstance(extent, int)))
    return _layer(build, op, m[x], m[scale], narrowed(m, full, data.dtype))


def _layer(build: Builder, op: Op, source: Value, data: Array | Value, row: Array | None) -> Value:
    gamma = data if isinstance(data, Value) else build.const(Blob.of(data))
    operands = [source, gamma]
    if row is not None:
        operands.append(build.const(Blob.of(np.ascontiguousarray(row))))
    return build.op(op.definition, operands, op.attrs).results[0]


@rule(pat.mul(root_mean, c))
def factor_into_rms_norm(m: Match, build: Builder) -> Value:
    """A factor behind a normalisation by the root mean square becomes part of its scale."""
    op = m[root_mean]
    wide, data = _trailing(m, op), m.blob(scale).array
    new = multiplied(m, np.broadcast_to(data, _joined(m, data, wide)), wide)
    return build.op(op.definition, [m[x], build.const(Blob.of(new))], op.attrs).result


def _channel_rule_operands(m: Match) -> Array:
    m.require(
        m.root.result.type == m[channels].result.type, "the constant broadcasts the normalisation"
    )
    return per_channel(m, m[c], m[channels].result, 1)


@rule(pat.mul(channels, c))
def factor_into_channel_norm(m: Match, build: Builder) -> Value:
    """A factor per channel behind an instance or group normalisation becomes part of its scale."""
    factor, op = _channel_rule_operands(m), m[channels]
    gamma = multiplied(m, m.blob(scale).array, factor)
    with np.errstate(invalid="ignore"):
        shifted = m.blob(offset).array.astype(np.float64) * factor
    beta = narrowed(m, shifted, gamma.dtype)
    constants = [build.const(Blob.of(data)) for data in (gamma, beta)]
    return build.op(op.definition, [m[x], *constants], op.attrs).result


@rule(pat.add(channels, c))
def summand_into_channel_norm(m: Match, build: Builder) -> Value:
    """A summand per channel behind an instance or group normalisation becomes part of its bias."""
    summand, op = _channel_rule_operands(m), m[channels]
    given = m.blob(offset).array
    beta = build.const(Blob.of(narrowed(m, given.astype(np.float64) + summand, given.dtype)))
    return build.op(op.definition, [m[x], m[scale], beta], op.attrs).result


looked_up = pat.gather(table, indices, axis=0)


def _row(m: Match) -> Array:
    """The constant in f64, which does not differ among the rows of the table."""
    op, data = m[looked_up], m.blob(table).array
    found = array_of(m[c])
    assert found is not None
    m.fits(op.results[0].type.dtype.is_float and data.size > 0)
    m.require(m.root.result.type == op.results[0].type, "the constant broadcasts the rows")
    require_own(m, m[table])
    columns = data.ndim - 1
    whole = found.reshape((1,) * max(0, columns - found.ndim) + found.shape).astype(np.float64)
    same = set(whole.shape[: whole.ndim - columns]) <= {1}
    m.require(same, "the constant differs among the rows")
    m.require(bool(np.isfinite(whole).all()), "the constant is not finite")
    return whole.reshape(whole.shape[whole.ndim - columns :])


@rule(pat.mul(looked_up, c))
def factor_into_table(m: Match, build: Builder) -> Value:
    """A factor behind a look-up becomes part of the table."""
    data = multiplied(m, m.blob(table).array, _row(m))
    return build.gather(build.const(Blob.of(data)), m[indices], axis=0)


@rule(pat.add(looked_up, c))
def summand_into_table(m: Match, build: Builder) -> Value:
    """A summand behind a look-up becomes part of the table."""
    data = m.blob(table).array
    m.require(data.size <= 1 << 24, "the table is large")
    new = narrowed(m, data.astype(np.float64) + _row(m), data.dtype)
    return build.gather(build.const(Blob.of(new)), m[indices], axis=0)
