"""Rules of `fold-scale` about products of two tensors, and about chains of constants."""

from __future__ import annotations

import numpy as np

from leptonc.ir.blob import Array, Blob
from leptonc.ir.build import Builder
from leptonc.ir.graph import Value
from leptonc.ir.types import DType
from leptonc.passes.constants import array_of, uniform
from leptonc.passes.fusion.weights import multiplied, narrowed, require_own, x
from leptonc.passes.pattern import Const, Match, OpPattern, Var, pat
from leptonc.passes.rewrite import Rule, rule

y = Var("y")
c, inner, middle, matrix = Const("c"), Const("inner"), Const("middle"), Const("matrix")
scaled = pat.mul(x, c)


def _factor_behind(pattern: OpPattern, side: int, name: str) -> Rule:
    @rule(pattern)
    def body(m: Match, build: Builder) -> Value:
        """One factor of an operand of a matrix product is applied to the product instead."""
        m.fits(uniform(m[c]) is not None and m[x].type.dtype in (DType.F32, DType.F64))
        m.fits(m[y].blob is None)
        number = np.full((), uniform(m[c]), m[x].type.dtype.numpy)
        m.require(bool(np.isfinite(number)), "the constant is not finite")
        m.require(m[scaled].result.type == m[x].type, "the constant broadcasts the operand")
        operands = [m[x], m[y]] if side == 0 else [m[y], m[x]]
        result = build.op(m.root.definition, operands, m.root.attrs).result
        return build.mul(result, build.const(Blob.of(number)))

    return Rule(name, body.pattern, body.body, body.doc)


PRODUCTS = pat.any_of("matmul", "fused_matmul")
factor_behind_left = _factor_behind(PRODUCTS(scaled, y), 0, "factor-behind-left-operand")
factor_behind_right = _factor_behind(PRODUCTS(y, scaled), 1, "factor-behind-right-operand")


def _into_matrix(product: OpPattern, root: OpPattern, side: int, name: str) -> Rule:
    @rule(root)
    def body(m: Match, build: Builder) -> Value:
        """A factor beside a product with constant matrices becomes part of them."""
        value = m[product].result if root is not product else m[x]
        data = _matrices(m)
        if root is product:
            m.require(m[scaled].result.type == m[x].type, "the constant broadcasts the operand")
        else:
            m.require(m.root.result.type == value.type, "the constant broadcasts the product")
        along = -2 if side == 1 else -1
        factor = _factor(m, value, along)
        factor = np.swapaxes(factor, -1, -2) if root is product else factor
        new = build.const(Blob.of(multiplied(m, data, _fitting(m, factor, data))))
        return build.matmul(*((m[x], new) if side == 1 else (new, m[x])))

    return Rule(name, body.pattern, body.body, body.doc)


def _matrices(m: Match) -> Array:
    data = m.blob(matrix).array
    m.fits(m[x].type.dtype.is_float and data.ndim >= 2 and m[x].type.rank >= 2)
    require_own(m, m[matrix])
    return data


def _factor(m: Match, value: Value, along: int) -> Array:
    """The constant in f64, with the rank of `value` and the same `along` an axis of it."""
    found = array_of(m[c])
    assert found is not None
    wide = found.astype(np.float64)
    m.require(bool(np.isfinite(wide).all()), "the constant is not finite")
    whole = wide.reshape((1,) * (value.type.rank - wide.ndim) + wide.shape)
    m.require(whole.shape[along] == 1, "the constant differs along an axis that is summed over")
    return whole


def _fitting(m: Match, factor: Array, data: Array) -> Array:
    """`factor` without axes that the matrices do not have, along which it must not differ."""
    extra = max(0, factor.ndim - data.ndim)
    trimmed = factor.reshape(factor.shape[extra:]) if set(factor.shape[:extra]) <= {1} else factor
    shapes = zip(trimmed.shape[::-1], data.shape[::-1], strict=False)
    fits = trimmed.ndim <= data.ndim and all(have in (1, want) for have, want in shapes)
    m.require(fits, "the constant differs along axes that the matrices do not have")
    return trimmed


right, left = pat.matmul(x, matrix), pat.matmul(matrix, x)
scaled_right, scaled_left = pat.matmul(scaled, matrix), pat.matmul(matrix, scaled)
factor_into_right = _into_matrix(right, pat.mul(right, c), 1, "factor-into-right-matrices")
factor_into_left = _into_matrix(left, pat.mul(left, c), 0, "factor-into-left-matrices")
factor_before_right = _into_matrix(scaled_right, scaled_right, 1, "factor-before-right-matrices")
factor_before_left = _into_matrix(scaled_left, scaled_left, 0, "factor-before-left-matrices")


@rule(pat.mul(pat.mul(x, inner), c))
def merge_factors(m: Match, build: Builder) -> Value:
    """Two constant factors are one."""
    _require_same_type(m)
    number = _product(m, inner, c)
    return build.mul(m[x], build.const(Blob.of(number)))


@rule(pat.mul(pat.add(pat.mul(x, inner), middle), c))
def merge_factor_and_sum(m: Match, build: Builder) -> Value:
    """A factor behind a factor and a summand is part of both."""
    _require_same_type(m)
    factor, summand = _product(m, inner, c), _product(m, middle, c)
    return build.add(build.mul(m[x], build.const(Blob.of(factor))), build.const(Blob.of(summand)))


@rule(pat.add(pat.add(x, inner), c))
def merge_summands(m: Match, build: Builder) -> Value:
    """Two constant summands are one, unless they cancel."""
    _require_same_type(m)
    first, second = _pair(m, inner, c)
    total = first + second
    kept = np.abs(total) >= 1e-3 * np.maximum(np.abs(first), np.abs(second))
    m.require(bool(kept.all()), "the summands cancel")
    return build.add(m[x], build.const(Blob.of(narrowed(m, total, m[x].type.dtype.numpy))))


def _require_same_type(m: Match) -> None:
    m.fits(m[x].type.dtype.is_float)
    m.require(m.root.result.type == m[x].type, "a constant broadcasts the other operand")


def _pair(m: Match, first: Const, second: Const) -> tuple[Array, Array]:
    arrays = m.blob(first).array, m.blob(second).array
    shape = np.broadcast_shapes(arrays[0].shape, arrays[1].shape)
    size = int(np.prod(shape, dtype=object))
    m.require(size <= max(arrays[0].size, arrays[1].size), "together they are a larger constant")
    return arrays[0].astype(np.float64), arrays[1].astype(np.float64)


def _product(m: Match, first: Const, second: Const) -> Array:
    """Two constants multiplied, where no element is or becomes too large or too small."""
    dtype = m[x].type.dtype.numpy
    one, two = _pair(m, first, second)
    with np.errstate(all="ignore"):
        number = (one * two).astype(dtype)
    size = np.abs(number.astype(np.float64))
    low, high = (6.2e-5, 6e4) if m[x].type.dtype is DType.F16 else (1e-30, 1e30)
    sized = (size > low) & (size < high)
    m.require(bool(sized.all()), "the product is too large or too small")
    return number
