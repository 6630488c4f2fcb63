"""merge-linear-maps: products that follow each other become one where that is less work."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from leptonc.ir.blob import Array, Blob
from leptonc.ir.build import Builder
from leptonc.ir.graph import Attribute, Op, Value
from leptonc.ir.types import DType
from leptonc.passes.base import RewritePass
from leptonc.passes.constants import array_of
from leptonc.passes.contract import REASSOCIATES, Contract, for_finite
from leptonc.passes.fusion.weights import narrowed, pads_nothing, require_own, response_to
from leptonc.passes.pattern import Const, Match, OpPattern, Var, pat
from leptonc.passes.rewrite import Rule, rule

x, indices = Var("x"), Var("indices")
first, first_bias = Const("first"), Const("first bias")
second, second_bias = Const("second"), Const("second bias")
table = Const("table")

LONGEST = 4_000_000_000
"""So many multiplications are done at compile time at most: a few seconds of them."""


def _after(name: str, inner: OpPattern) -> OpPattern:
    return pat.any_of(name)(inner, second, bias=second_bias.optional())


inner_linear = pat.linear(x, first, bias=first_bias.optional())
inner_conv = pat.conv(x, first, bias=first_bias.optional(), group=1)
looked_up = pat.gather(table, indices, axis=0)


def _require_gain(m: Match, merged: int, apart: int, spent: int) -> None:
    m.require(merged < apart, f"one product has {merged} multiplications, both have {apart}")
    m.require(spent <= LONGEST, "multiplying the weights would take long")
    for constant in (first, second):
        if constant in m.values:
            require_own(m, m[constant])


def _require_wide(m: Match) -> None:
    m.fits(m.root.result.type.dtype in (DType.F32, DType.F64))


def _matrix(op: Op, data: Array) -> Array:
    """The weight of a linear layer as inputs x outputs."""
    return data.T if op.attrs["transposed"] else data


def _offset(m: Match, row: Const) -> Array | None:
    value = m.get(row)
    data = None if value is None else array_of(value)
    return None if data is None else data.astype(np.float64)


def _constants(
    m: Match, build: Builder, data: Array, offset: Array | None, dtype: np.dtype[Any]
) -> list[Value]:
    parts = [data] if offset is None else [data, offset]
    new = [np.ascontiguousarray(narrowed(m, part, dtype)) for part in parts]
    return [build.const(Blob.of(part)) for part in new]


def _sum(one: Array | None, two: Array | None) -> Array | None:
    return one if two is None else two if one is None else one + two


@rule(_after("linear", inner_linear))
def linear_after_linear(m: Match, build: Builder) -> Value:
    """A linear layer right behind another is one layer, where its weight is smaller than both."""
    _require_wide(m)
    one = _matrix(m[inner_linear], m.blob(first).array)
    two = _matrix(m.root, m.blob(second).array)
    apart, merged = one.size + two.size, len(one) * two.shape[1]
    _require_gain(m, merged, apart, one.size * two.shape[1])
    wide = two.astype(np.float64)
    given = _offset(m, first_bias)
    with np.errstate(invalid="ignore"):
        data = one.astype(np.float64) @ wide
        offset = _sum(None if given is None else given @ wide, _offset(m, second_bias))
    new = _constants(m, build, data, offset, one.dtype)
    names = ("x", "w", "bias")[: 1 + len(new)]
    return build.op("linear", [m[x], *new], names=names).result


def _plain(op: Op) -> bool:
    """True for a convolution with windows of one element, without padding."""
    kernel = op.operands[1].type.extents[2:]
    return math.prod(kernel) == 1 and pads_nothing(op) and op.int("group") == 1


def _strides(op: Op) -> tuple[int, ...]:
    return op.ints("strides") or (1,) * (op.result.type.rank - 2)


@rule(_after("conv", inner_conv))
def small_conv_after_conv(m: Match, build: Builder) -> Value:
    """A convolution of single elements right behind another is one with it, where that is less."""
    _require_wide(m)
    op = m[inner_conv]
    m.fits(_plain(m.root))
    one, two = m.blob(first).array, m.blob(second).array[..., *(0,) * (m.root.result.type.rank - 2)]
    _require_gain(m, one.size // len(one) * len(two), one.size + two.size, one.size * len(two))
    strides = tuple(a * b for a, b in zip(_strides(op), _strides(m.root), strict=True))
    whole = strides == _strides(op) or op.str("auto_pad") in ("NOTSET", "VALID")
    m.require(whole, "the padding depends on the extents")
    steps = zip(_strides(op), _strides(m.root), m.root.result.type.shape[2:], strict=True)
    known = all(isinstance(dim, int) or 1 in (a, b) for a, b, dim in steps)
    m.require(known, "extents that are divided twice are known at run time only")
    wide = two.astype(np.float64)
    given = _offset(m, first_bias)
    with np.errstate(invalid="ignore"):
        data = np.tensordot(wide, one.astype(np.float64), 1)
        offset = _sum(None if given is None else wide @ given, _offset(m, second_bias))
    return _convolution(m, build, {**op.attrs, "strides": strides}, (data, offset))


@rule(_after("conv", inner_conv))
def conv_after_small_conv(m: Match, build: Builder) -> Value:
    """A convolution right behind one of single elements is one with it, where that is less."""
    _require_wide(m)
    op = m[inner_conv]
    m.fits(_plain(op) and set(_strides(op)) <= {1} and m.root.int("group") == 1)
    one, two = m.blob(first).array, m.blob(second).array
    one = one.reshape(one.shape[:2])
    merged = two.size // max(1, two.shape[1]) * one.shape[1]
    _require_gain(m, merged, one.size + two.size, two.size * one.shape[1])
    given = _offset(m, first_bias)
    shifts = given is not None and bool(given.any())
    m.require(not shifts or pads_nothing(m.root), "nothing is added to what is padded")
    with np.errstate(invalid="ignore"):
        wide = np.tensordot(two.astype(np.float64), one.astype(np.float64), ([1], [0]))
    response = response_to(m.root, two, given) if shifts and given is not None else None
    offset = _sum(response, _offset(m, second_bias))
    return _convolution(m, build, m.root.attrs, (np.moveaxis(wide, -1, 1), offset))


def _convolution(
    m: Match, build: Builder, attrs: dict[str, Attribute], weights: tuple[Array, Array | None]
) -> Value:
    root, dtype = m.root, m.root.result.type.dtype.numpy
    attrs = {**attrs, "kernel_shape": weights[0].shape[2:]}
    new = _constants(m, build, *weights, dtype)
    names = ("x", "w", "bias")[: 1 + len(new)]
    return build.op(root.definition, [m[x], *new], attrs, names=names).result


@rule(_after("linear", looked_up))
def linear_after_table(m: Match, build: Builder) -> Value:
    """A linear layer on rows of a table is a table of its results, where that is not larger."""
    _require_wide(m)
    rows = m.blob(table).array
    two = _matrix(m.root, m.blob(second).array)
    m.fits(rows.ndim == 2)
    _require_gain(m, len(rows) * two.shape[1], rows.size + two.size, rows.size * two.shape[1])
    require_own(m, m[table])
    given = _offset(m, second_bias)
    with np.errstate(invalid="ignore"):
        data = rows.astype(np.float64) @ two.astype(np.float64)
    whole = data if given is None else data + given
    new = build.const(Blob.of(narrowed(m, whole, rows.dtype)))
    return build.gather(new, m[indices], axis=0)


@dataclass(frozen=True)
class MergeLinearMaps(RewritePass):
    """Multiplies the weights of products that follow each other, where one is less work than both.

    That is so for a linear layer behind another that has fewer inputs or more outputs than it
    passes on, for convolutions of which one has windows of a single element, and for a layer on
    rows of a table. Infinite elements reach the result through one sum instead of two.
    """

    name: ClassVar[str] = "merge-linear-maps"
    numbers: ClassVar[Contract] = for_finite(REASSOCIATES)
    rules: ClassVar[tuple[Rule, ...]] = (
        linear_after_linear, small_conv_after_conv, conv_after_small_conv, linear_after_table,
    )  # fmt: skip
