"""Running sums and products along an axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.ops import contents
from leptonc.ir.ops.broadcasting import NUMBERS, check_dtype, normalized_axis
from leptonc.ir.ops.rows import widened
from leptonc.ir.table import Attr, Evaluation, Inference, OpDef, define
from leptonc.ir.types import DType, TensorType


def _infer(call: Inference) -> TensorType:
    check_dtype(call, "x", NUMBERS)
    check_dtype(call, "axis", {DType.I32, DType.I64})
    type = call[1].type
    if type.shape not in ((), (1,)):
        raise LeptonError(f"{call.definition.name}.axis is {type}, should be a scalar", code="E103")
    scanned_axis(call)
    return call[0].type


def scanned_axis(call: Inference) -> int | None:
    """The axis that a running sum or product follows; None where it is unknown at compile time."""
    known = contents.known_integers(call, "axis")
    return normalized_axis(call, known[0], call[0].type.rank) if known is not None else None


def _evaluate(call: Evaluation, scan: Callable[..., Any], neutral: int) -> Array:
    x, axis = widened(call[0]), int(call[1].reshape(()))
    if call.int("reverse"):
        x = np.flip(x, axis)
    if call.int("exclusive"):
        start = np.full(_first(x, axis), neutral, x.dtype)
        x = np.concatenate([start, x], axis).take(range(x.shape[axis]), axis)
    result = np.asarray(scan(x, axis=axis, dtype=x.dtype))
    if call.int("reverse"):
        result = np.flip(result, axis)
    return result.astype(call[0].dtype)


def _first(x: Array, axis: int) -> tuple[int, ...]:
    return tuple(1 if index == axis % x.ndim else size for index, size in enumerate(x.shape))


def _running(
    name: str, summary: str, scan: Callable[..., Any], neutral: int, onnx: str, since: int
) -> OpDef:
    return define(
        f"{name}(x, axis!)",
        summary,
        infer=_infer,
        evaluate=lambda call: _evaluate(call, scan, neutral),
        attrs={"exclusive": Attr("int", 0), "reverse": Attr("int", 0)},
        onnx=onnx,
        since=since,
    )


CUM_SUM = _running(
    "cum_sum", "The sum of all elements up to here along an axis.", np.cumsum, 0, "CumSum", 14
)
CUM_PROD = _running(
    "cum_prod", "The product of all elements up to here along an axis.", np.cumprod, 1,
    "CumProd", 26,
)  # fmt: skip
