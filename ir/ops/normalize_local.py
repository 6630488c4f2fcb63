"""Normalisations without weights: over nearby channels, by a norm, by mean and variance."""

from __future__ import annotations

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.ops.broadcasting import FLOATS, check_dtype, normalized_axis
from leptonc.ir.ops.extents import natural
from leptonc.ir.table import Attr, Evaluation, Inference, Trait, define
from leptonc.ir.types import TensorType

MVN_EPSILON = 1e-9
"""What mean-variance normalisation adds to the deviation."""


def lrn_reach(size: int) -> tuple[int, int]:
    """How many channels before and behind a channel its window has."""
    return (size - 1) // 2, size // 2


def _lrn_infer(call: Inference) -> TensorType:
    check_dtype(call, "x", FLOATS)
    x, size = call.types[0], call.int("size")
    if x.rank < 2:
        raise LeptonError(f"lrn of {x}: it has no axis of channels", code="E103")
    if size < 1:
        raise LeptonError(f"lrn.size is {size}, should be at least 1", code="E108")
    return x


def _lrn_evaluate(call: Evaluation) -> Array:
    x = call[0].astype(natural(call[0].dtype))
    size, channels = call.int("size"), call[0].shape[1]
    before, behind = lrn_reach(size)
    squares = np.pad(x * x, [(0, 0), (before, behind), *[(0, 0)] * (x.ndim - 2)])
    total = np.zeros_like(x)
    for offset in range(before + behind + 1):
        total += squares[:, offset : offset + channels]
    base = call.float("bias") + call.float("alpha") / size * total
    return (x / base ** call.float("beta")).astype(call[0].dtype)


LRN = define(
    "lrn(x)", "Each element divided by a power of the mean square of neighbouring channels.",
    infer=_lrn_infer, evaluate=_lrn_evaluate,
    attrs={
        "alpha": Attr("float", float(np.float32(1e-4))), "beta": Attr("float", 0.75),
        "bias": Attr("float", 1.0), "size": Attr("int", required=True),
    },
    traits=[Trait.REDUCTION], onnx="LRN",
)  # fmt: skip


def _lp_infer(call: Inference) -> TensorType:
    check_dtype(call, "x", FLOATS)
    normalized_axis(call, call.int("axis"), call.types[0].rank)
    if call.int("p") not in (1, 2):
        raise LeptonError(f"lp_normalization.p is {call.int('p')}, should be 1 or 2", code="E108")
    return call.types[0]


def _lp_evaluate(call: Evaluation) -> Array:
    x, axis = call[0].astype(natural(call[0].dtype)), call.int("axis")
    size = np.abs(x) if call.int("p") == 1 else x * x
    norm = size.sum(axis=axis, keepdims=True)
    norm = norm if call.int("p") == 1 else np.sqrt(norm)
    with np.errstate(invalid="ignore", divide="ignore"):
        quotient: Array = np.where(norm == 0, 0, x / norm)
    return quotient.astype(call[0].dtype)


LP_NORMALIZATION = define(
    "lp_normalization(x)", "Divided by the Lp norm along one axis; zeros stay zeros.",
    infer=_lp_infer, evaluate=_lp_evaluate, attrs={"axis": Attr("int", -1), "p": Attr("int", 2)},
    traits=[Trait.REDUCTION], onnx="LpNormalization",
)  # fmt: skip


def _mvn_infer(call: Inference) -> TensorType:
    check_dtype(call, "x", FLOATS)
    for axis in call.ints("axes") or ():
        normalized_axis(call, axis, call.types[0].rank)
    return call.types[0]


def _mvn_evaluate(call: Evaluation) -> Array:
    x = call[0].astype(natural(call[0].dtype))
    axes = tuple(axis % x.ndim for axis in call.ints("axes") or ())
    count = x.dtype.type(np.prod([x.shape[axis] for axis in axes]))
    with np.errstate(invalid="ignore", divide="ignore"):
        centred = x - x.sum(axis=axes, keepdims=True) / count
        deviation = np.sqrt((centred * centred).sum(axis=axes, keepdims=True) / count)
        return (centred / (deviation + x.dtype.type(MVN_EPSILON))).astype(call[0].dtype)


MEAN_VARIANCE_NORMALIZATION = define(
    "mean_variance_normalization(x)", "Mean 0 and deviation 1 over `axes`.",
    infer=_mvn_infer, evaluate=_mvn_evaluate, attrs={"axes": Attr("ints", (0, 2, 3))},
    traits=[Trait.REDUCTION], onnx="MeanVarianceNormalization", since=9,
)  # fmt: skip
