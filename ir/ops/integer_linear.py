"""Matrix products of small integers with a constant weight, summed in 32 bits."""

from __future__ import annotations

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import ceildiv
from leptonc.ir.ops.broadcasting import check_dtype
from leptonc.ir.ops.linear import matmul_shape
from leptonc.ir.table import Attr, Evaluation, Inference, Trait, define
from leptonc.ir.types import DType, TensorType

STEP_ROWS, STEP_COLUMNS = 4, 16
"""What one step of a product of bytes multiplies by, about."""
WEIGHTS = frozenset({DType.I8, DType.I16})


def _infer(call: Inference) -> TensorType:
    check_dtype(call, "x", {DType.I16, DType.U8})
    check_dtype(call, "w", WEIGHTS)
    x, w = call.types
    if w.rank != 2:
        raise LeptonError(f"integer_linear: the weight {w} should be a matrix", code="E103")
    return TensorType(DType.I32, matmul_shape("integer_linear", x.shape, w.shape))


def _product(x: Array, w: Array) -> Array:
    """The sums modulo 2^32."""
    return np.asarray(np.matmul(x.astype(np.int32), w.astype(np.int32)))


def beyond(weight: Array, most: int, folds: int = 1) -> Array:
    """True for pairs of neighbours in the depth that, where of one sign, add up to more than this.

    An unsigned byte each times the pair may add up to 255 times that sum. With more `folds`, so
    many pairs add up, each two pairs behind the one before.
    """
    depth, columns = weight.shape
    is_small = weight.dtype == np.int8
    if is_small and most >= 2 * folds * 128:
        return np.broadcast_to(False, weight.shape)
    wide = np.int16 if is_small else np.int32
    filled = np.zeros((depth + -depth % (4 * folds), columns), wide)
    filled[:depth] = weight
    pairs = filled.reshape(len(filled) // (4 * folds), folds, 2, 2, columns)
    above, below = _sums(np.maximum(pairs, 0)), _sums(np.minimum(pairs, 0))
    either = (above > most) | (below < -most)
    return np.broadcast_to(either[:, None, :, None], pairs.shape).reshape(filled.shape)[:depth]


def _sums(pairs: Array) -> Array:
    """The sums of pairs and folds, whole rows at once."""
    both = pairs[:, :, :, 0] + pairs[:, :, :, 1]
    return both[:, 0] if both.shape[1] == 1 else both.sum(1, dtype=both.dtype)


def extra_steps(weight: Array, most: int) -> float:
    """The share of steps, of four rows and some columns, that such pairs or large numbers need."""
    if not weight.size:
        return 0.0
    large = beyond(weight, most)
    if weight.dtype != np.int8:
        large = large | (weight < -128) | (weight > 127)
    elif not large.any():
        return 0.0
    depth, columns = large.shape
    filled = np.zeros((depth + -depth % STEP_ROWS, columns + -columns % STEP_COLUMNS), bool)
    filled[:depth, :columns] = large
    words = filled.view(np.uint64).reshape(len(filled) // STEP_ROWS, STEP_ROWS, -1)  # 8 at once
    rows = np.bitwise_or.reduce(words, axis=1)
    steps = rows.reshape(len(rows), -1, STEP_COLUMNS // 8).any(2)
    return float(steps.mean())


INTEGER_LINEAR = define(
    "integer_linear(x, w)",
    "Rows of integers times a weight of 8 or 16 bits, exact; sums of 32 bits, which wrap around.",
    infer=_infer, evaluate=lambda call: _product(call[0], call[1]), traits=[Trait.PRODUCT],
)  # fmt: skip


def _packed_infer(call: Inference) -> TensorType:
    check_dtype(call, "x", {DType.I16, DType.U8})
    check_dtype(call, "w", WEIGHTS)
    x, w = call.types[:2]
    together = 4 if x.dtype is DType.U8 else 2
    if w.rank != 4 or w.shape[3] != together or w.shape[1] != ceildiv(x.shape[-1], together):
        raise LeptonError(f"packed_integer_linear of {x} and {w}: the depths differ", code="E103")
    return TensorType(DType.I32, (*x.shape[:-1], call.int("columns")))


def dense_weight(call: Evaluation) -> Array:
    """A packed weight as a matrix, filled up with zeros."""
    w, extra = call[1], call.get("extra")
    panels, steps, panel, together = w.shape
    matrix = w.transpose(1, 3, 0, 2).reshape(steps * together, panels * panel).astype(np.int32)
    places, starts = call.get("places"), call.get("starts")
    if extra is not None and places is not None and starts is not None:
        for at in range(panels):
            columns = slice(at * panel, (at + 1) * panel)
            for step in range(starts[at], starts[at + 1]):
                place = int(places[step])
                matrix[place : place + together, columns] += extra[step].T
    return matrix


def _packed_evaluate(call: Evaluation) -> Array:
    x = call[0]
    return _product(x, dense_weight(call)[: x.shape[-1], : call.int("columns")])


PACKED_INTEGER_LINEAR = define(
    "packed_integer_linear(x, w, extra?, places?, starts?)",
    "`integer_linear` with the weight as [panels, steps of the depth, width, elements]. "
    "What of it is not there is in `extra` steps at `places` of the depth, by panel from `starts`. "
    "Products of `folds` steps may be added in 16 bits.",
    infer=_packed_infer, evaluate=_packed_evaluate,
    attrs={
        "columns": Attr("int", required=True), "folds": Attr("int", 1),
        "decision": Attr("str", ""),
    },
    traits=[Trait.PRODUCT],
)  # fmt: skip
