"""A row that makes probabilities of classes from probabilities within pairs of them."""

from __future__ import annotations

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.ops.broadcasting import check_dtype
from leptonc.ir.table import Attr, Evaluation, Inference, define
from leptonc.ir.types import DType, TensorType

ROUNDS = 100
"""The fewest rounds after which the search is given up."""
TOLERANCE = 0.005
"""The search ends where no class is off by this much, divided by their number."""


def _infer(call: Inference) -> TensorType:
    check_dtype(call, "pairs", [DType.F32, DType.F64])
    type, classes = call[0].type, call.int("classes")
    if classes < 2 or type.rank != 2 or type.shape[1] != classes * (classes - 1) // 2:
        raise LeptonError(
            f"coupled_probabilities: pairs are {type}, should be one for each pair of "
            f"{classes} classes",
            code="E103",
        )
    return type.with_shape(type.shape[0], classes)


def pair_matrix(pairs: Array, classes: int) -> Array:
    """Element (a, b) is the probability of a where it is a or b; the diagonal is 0."""
    matrix = np.zeros((classes, classes), pairs.dtype)
    first, second = np.triu_indices(classes, 1)
    matrix[first, second] = pairs
    matrix[second, first] = 1 - pairs
    return matrix


def _coupled(pairs: Array, classes: int) -> Array:
    r = pair_matrix(pairs, classes)
    q = -r * r.T
    np.fill_diagonal(q, (r**2).sum(0))
    p = np.full(classes, 1 / classes, r.dtype)
    for _ in range(max(ROUNDS, classes)):
        qp = q @ p
        pqp = p @ qp
        if np.abs(qp - pqp).max() < TOLERANCE / classes:
            break
        for t in range(classes):
            diff = (pqp - qp[t]) / q[t, t]
            p[t] += diff
            pqp = (pqp + diff * (diff * q[t, t] + 2 * qp[t])) / (1 + diff) / (1 + diff)
            qp = (qp + diff * q[t]) / (1 + diff)
            p = p / (1 + diff)
    return p


def _evaluate(call: Evaluation) -> Array:
    classes = call.int("classes")
    rows = [_coupled(pairs, classes) for pairs in call[0]]
    return np.array(rows, call[0].dtype).reshape(len(call[0]), classes)


define(
    "coupled_probabilities(pairs)",
    "The probabilities of classes that fit those within each pair of them best, as libsvm finds "
    "them (Wu, Lin and Weng, 2004).",
    infer=_infer,
    evaluate=_evaluate,
    attrs={"classes": Attr("int", required=True)},
)
