"""Reductions over axes, and positions of extremes."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim
from leptonc.ir.graph import Content
from leptonc.ir.ops import contents
from leptonc.ir.ops.broadcasting import FLOATS, NUMBERS, check_dtype, normalized_axis
from leptonc.ir.ops.rows import fit, widened
from leptonc.ir.table import Attr, Contents, Evaluation, Inference, OpDef, Trait, define
from leptonc.ir.types import DType, TensorType

Axes = tuple[int, ...]
Combine = Callable[[Array, Axes], Any]
"""A reduction over axes that keeps them with extent 1, in a type wide enough to compute in."""

_ATTRS = {"keepdims": Attr("int", 1), "noop_with_empty_axes": Attr("int", 0)}
_AXES_TYPES = frozenset({DType.I64, DType.I32})


def reduced_axes(call: Inference) -> Axes | None:
    """The axes that a reduction combines, ascending; None where only run time knows them."""
    rank = call[0].type.rank
    if call.get("axes") is None:
        return _all_or_none(call.int("noop_with_empty_axes"), rank)
    axes = contents.known_integers(call, "axes")
    if axes is None:
        return None
    if not axes:
        return _all_or_none(call.int("noop_with_empty_axes"), rank)
    found = sorted(normalized_axis(call, axis, rank) for axis in axes)
    if len(set(found)) != len(found):
        raise LeptonError(
            f"{call.definition.name} names an axis twice: {', '.join(map(str, axes))}", code="E107"
        )
    return tuple(found)


def _all_or_none(noop: int, rank: int) -> Axes:
    return () if noop else tuple(range(rank))


def reduced_shape(shape: tuple[Dim, ...], axes: Axes, keepdims: bool) -> tuple[Dim, ...]:
    """`shape` after `axes` are combined."""
    if keepdims:
        return tuple(1 if axis in axes else dim for axis, dim in enumerate(shape))
    return tuple(dim for axis, dim in enumerate(shape) if axis not in axes)


def _infer(call: Inference, dtypes: Collection[DType]) -> TensorType:
    check_dtype(call, call.names[0], dtypes)
    check_dtype(call, "axes", _AXES_TYPES)
    type = call[0].type
    axes = reduced_axes(call)
    if axes is not None:
        return type.with_shape(*reduced_shape(type.shape, axes, bool(call.int("keepdims"))))
    rank = type.rank
    if not call.int("keepdims"):
        count = _axis_count(call) or len(_all_or_none(call.int("noop_with_empty_axes"), rank))
        rank = max(rank - count, 0)
    return type.with_shape(*(call.unknown(axis) for axis in range(rank)))


def _axis_count(call: Inference) -> int:
    """How many axes there are, where only run time knows which."""
    type = call.type("axes")
    assert type is not None
    if type.rank == 0:
        return 1
    if not isinstance(type.shape[0], int):
        raise LeptonError(
            f"{call.definition.name} does not know how many axes it reduces",
            notes=["make the axes a constant, or keep the dimensions with keepdims"],
            code="E109",
        )
    return type.shape[0]


def _evaluate(call: Evaluation, combine: Combine) -> Array:
    x, given = call[0], call.get("axes")
    listed = given.reshape(-1) if given is not None else ()
    axes = tuple(int(axis) % max(x.ndim, 1) for axis in listed)
    if not axes:
        axes = _all_or_none(call.int("noop_with_empty_axes"), x.ndim)
    result = np.asarray(combine(widened(x), axes))
    if not call.int("keepdims"):
        result = np.squeeze(result, axes)
    return result.astype(x.dtype)


def _reduction(
    name: str, summary: str, combine: Combine, *, onnx: str, since: int = 18,
    dtypes: Collection[DType] = NUMBERS, content: Contents | None = None,
) -> OpDef:  # fmt: skip
    return define(
        f"{name}(x, axes?!)",
        summary,
        infer=lambda call: _infer(call, dtypes),
        evaluate=lambda call: _evaluate(call, combine),
        content=_reduced_content(content) if content is not None else None,
        attrs=_ATTRS,
        traits=(Trait.REDUCTION,),
        onnx=onnx,
        since=since,
    )


def _reduced_content(content: Contents) -> Contents:
    def of_the_operand(call: Inference) -> Content | None:
        known = content(call)
        return None if known is None else fit(known, call[0].type.dtype)

    return of_the_operand


# -- what is combined; an empty set gives the neutral element ------------------------------------


def _sum(x: Array, axes: Axes) -> Any:
    return np.sum(x, axes, x.dtype, keepdims=True)


def _mean(x: Array, axes: Axes) -> Any:
    count = int(np.prod([x.shape[axis] for axis in axes], dtype=np.int64))
    total = _sum(x, axes)
    if x.dtype.kind == "f":
        return total / x.dtype.type(count)
    quotient: Array = np.abs(total) // max(count, 1)
    return np.where(total < 0, -quotient, quotient) if x.dtype.kind == "i" else quotient


def _max(x: Array, axes: Axes) -> Any:
    return np.maximum.reduce(x, axes, keepdims=True, initial=limits(x.dtype)[0])


def _min(x: Array, axes: Axes) -> Any:
    return np.minimum.reduce(x, axes, keepdims=True, initial=limits(x.dtype)[1])


def limits(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """What an empty maximum and an empty minimum are: the lowest and the highest value."""
    if dtype.kind == "b":
        return False, True
    if dtype.kind == "f":
        return -np.inf, np.inf
    return np.iinfo(dtype).min, np.iinfo(dtype).max


def _product(x: Array, axes: Axes) -> Any:
    return np.prod(x, axes, x.dtype, keepdims=True)


def _l1(x: Array, axes: Axes) -> Any:
    return _sum(np.abs(x), axes)


def _l2(x: Array, axes: Axes) -> Any:
    wide = x.astype(np.float64) if x.dtype.kind in "iu" else x
    return np.sqrt(_sum(wide * wide, axes))


def _sum_square(x: Array, axes: Axes) -> Any:
    return _sum(x * x, axes)


def _log_sum(x: Array, axes: Axes) -> Any:
    return np.log(_sum(x, axes))


def _log_sum_exp(x: Array, axes: Axes) -> Any:
    highest = _max(x, axes)
    shift = np.asarray(np.where(np.isfinite(highest), highest, 0), x.dtype)
    return np.log(_sum(np.exp(x - shift), axes)) + shift


REDUCE_SUM = _reduction(
    "reduce_sum", "The sum over axes.", _sum,
    content=contents.reduced(contents.sum_of), onnx="ReduceSum", since=13,
)  # fmt: skip
REDUCE_MEAN = _reduction(
    "reduce_mean", "The mean over axes; integers round towards zero.", _mean, onnx="ReduceMean"
)
REDUCE_MAX = _reduction(
    "reduce_max", "The largest over axes; NaN if one is.", _max,
    dtypes=NUMBERS | {DType.BOOL}, content=contents.reduced(contents.highest_of),
    onnx="ReduceMax", since=20,
)  # fmt: skip
REDUCE_MIN = _reduction(
    "reduce_min", "The smallest over axes; NaN if one is.", _min,
    dtypes=NUMBERS | {DType.BOOL}, content=contents.reduced(contents.lowest_of),
    onnx="ReduceMin", since=20,
)  # fmt: skip
REDUCE_PROD = _reduction(
    "reduce_prod", "The product over axes.", _product,
    content=contents.reduced(contents.product_of), onnx="ReduceProd",
)  # fmt: skip
REDUCE_L1 = _reduction("reduce_l1", "The sum of absolute values over axes.", _l1, onnx="ReduceL1")
REDUCE_L2 = _reduction(
    "reduce_l2", "The square root of the sum of squares over axes.", _l2, onnx="ReduceL2"
)
REDUCE_SUM_SQUARE = _reduction(
    "reduce_sum_square", "The sum of squares over axes.", _sum_square, onnx="ReduceSumSquare"
)
REDUCE_LOG_SUM = _reduction(
    "reduce_log_sum", "The logarithm of the sum over axes.", _log_sum,
    dtypes=FLOATS, onnx="ReduceLogSum", since=28,
)  # fmt: skip
REDUCE_LOG_SUM_EXP = _reduction(
    "reduce_log_sum_exp", "The logarithm of the sum of exponentials over axes.", _log_sum_exp,
    dtypes=FLOATS, onnx="ReduceLogSumExp", since=28,
)  # fmt: skip

# -- positions of extremes ----------------------------------------------------------------------


def _position_infer(call: Inference) -> TensorType:
    check_dtype(call, "x", NUMBERS)
    type = call[0].type
    axis = normalized_axis(call, call.int("axis"), type.rank)
    if type.shape[axis] == 0:
        raise LeptonError(
            f"{call.definition.name} of {type} has nothing to choose from on axis {axis}",
            code="E103",
        )
    shape = reduced_shape(type.shape, (axis,), bool(call.int("keepdims")))
    return TensorType(DType.I64, shape)


def _position(call: Evaluation, find: Callable[..., Any]) -> Array:
    x, axis = widened(call[0]), call.int("axis")
    last = bool(call.int("select_last_index"))
    found = np.asarray(find(np.flip(x, axis) if last else x, axis=axis, keepdims=True))
    if last:
        found = x.shape[axis] - 1 - found
    found = found.astype(np.int64)
    return found if call.int("keepdims") else np.squeeze(found, axis)


def _extreme(name: str, summary: str, find: Callable[..., Any], onnx: str) -> OpDef:
    return define(
        f"{name}(x)",
        summary,
        infer=_position_infer,
        evaluate=lambda call: _position(call, find),
        attrs={
            "axis": Attr("int", 0), "keepdims": Attr("int", 1), "select_last_index": Attr("int", 0)
        },
        traits=(Trait.REDUCTION,),
        onnx=onnx,
        since=13,
    )  # fmt: skip


ARG_MAX = _extreme(
    "arg_max", "Where the largest is on an axis, or the first NaN.", np.argmax, "ArgMax"
)
ARG_MIN = _extreme(
    "arg_min", "Where the smallest is on an axis, or the first NaN.", np.argmin, "ArgMin"
)
