"""What classifiers and regressors do with scores: transforms, the second class, labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.build import Builder
from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.graph import Value
from leptonc.ir.types import DType
from leptonc.onnx_scope import Call

Results: TypeAlias = "Sequence[Value | None]"
Rule: TypeAlias = Callable[[Call], Results]

TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
_ERF_INVERSE = 0.147
"""The parameter of Winitzki's approximation, by which PROBIT is defined."""
_NEAR_ZERO = 1e-7
"""SOFTMAX_ZERO leaves scores this near to zero where they are."""


@dataclass(frozen=True)
class Labels:
    """What a classifier calls its classes: numbers or words; neither where it says nothing."""

    numbers: tuple[int, ...]
    words: tuple[str, ...]

    @property
    def count(self) -> int:
        """How many classes there are."""
        return len(self.words or self.numbers)

    def table(self) -> Array:
        """The labels by class."""
        if self.words:
            return np.array(self.words, object)
        return np.array(self.numbers, np.int64)


def labels_of(call: Call, numbers: str) -> Labels:
    """The labels, taken from a classifier's attributes."""
    found = Labels(call.take(numbers, "ints", ()), call.take("classlabels_strings", "strs", ()))
    if found.numbers and found.words:
        raise LeptonError(
            f"{call.op_type} has labels of both kinds, numbers and text", call.location, code="E015"
        )
    return found


def number(build: Builder, value: float, like: Value) -> Value:
    """A number in the element type of `like`."""
    return build.const(np.array(value, like.type.dtype.numpy))


def axis(build: Builder, at: int) -> Value:
    """One axis as an operand."""
    return build.const(np.array([at], np.int64))


def transformed(call: Call, scores: Value, transform: str) -> Value:
    """The scores of each row after a post transform."""
    build = call.build
    if transform == "NONE":
        return scores
    if transform == "LOGISTIC":
        return build.sigmoid(scores)
    if transform == "SOFTMAX":
        return build.softmax(scores, axis=1)
    if transform == "SOFTMAX_ZERO":
        return _softmax_zero(build, scores)
    if transform == "PROBIT":
        return _probit(build, scores)
    raise LeptonError(
        f"post_transform of {call.op_type} is {shown(transform)}, should be in {TRANSFORMS}",
        call.location,
        code="E015",
    )


def _softmax_zero(build: Builder, scores: Value) -> Value:
    """Softmax in which scores of zero stay zero; 0.5 each where all of them are."""
    highest = build.reduce_max(scores, axis(build, 1), keepdims=1)
    near = build.less_or_equal(build.abs(scores), number(build, _NEAR_ZERO, scores))
    kept = build.mul(scores, build.exp(build.neg(highest)))
    parts = build.where(near, kept, build.exp(build.sub(scores, highest)))
    total = build.reduce_sum(parts, axis(build, 1), keepdims=1)
    nothing = build.equal(total, number(build, 0, scores))
    safe = build.where(nothing, number(build, 1, scores), total)
    return build.where(nothing, number(build, 0.5, scores), build.div(parts, safe))


def _probit(build: Builder, scores: Value) -> Value:
    """The quantiles of the normal distribution, by an approximation of the inverse of erf."""
    one, half = number(build, 1, scores), number(build, 0.5, scores)
    x = build.sub(build.mul(scores, number(build, 2, scores)), one)
    inside = build.mul(build.sub(one, x), build.add(one, x))
    log = build.log(inside)
    v = build.add(number(build, 2 / (math.pi * _ERF_INVERSE), scores), build.mul(half, log))
    v2 = build.mul(number(build, 1 / _ERF_INVERSE, scores), log)
    root = build.sqrt(build.sub(build.sqrt(build.sub(build.mul(v, v), v2)), v))
    sign = build.where(build.less(x, number(build, 0, scores)), build.neg(one), one)
    return build.mul(number(build, 1.41421356, scores), build.mul(sign, root))


def named(build: Builder, index: Value, labels: Labels) -> Value:
    """The labels of classes given by number, i64[N]."""
    if not labels.words and labels.numbers == tuple(range(labels.count)):
        return index
    return build.gather(build.const(labels.table()), index)


def best_class(build: Builder, scores: Value) -> Value:
    """The first class with the highest score of each row."""
    return build.arg_max(scores, axis=1, keepdims=0)


def as_f32(build: Builder, value: Value) -> Value:
    """Scores in the type that classifiers give them in."""
    if value.type.dtype is DType.F32:
        return value
    return build.op("cast", [value], {"to": DType.F32}).result


def argmax_classified(call: Call, scores: Value, labels: Labels, transform: str) -> Results:
    """The label of the highest score of each row, and the scores transformed."""
    build = call.build
    label = named(build, best_class(build, scores), labels)
    return [label, as_f32(build, transformed(call, scores, transform))]


def above(build: Builder, scores: Value, threshold: float, labels: Labels) -> Value:
    """The second label of each row whose only score is above the threshold, else the first.

    Without two labels they are 1 and 0.
    """
    greater = build.greater(scores, number(build, threshold, scores))
    index = build.op("cast", [build.squeeze(greater, axes=axis(build, 1))], {"to": DType.I64})
    return named(build, index.result, labels) if labels.count == 2 else index.result


def beside(build: Builder, *columns: Value) -> Value:
    """Scores in one tensor."""
    return build.op("concat", columns, {"axis": 1}).result


def of_both(call: Call, score: Value, transform: str) -> Value:
    """The scores of two classes from that of the second.

    A logistic score goes to both with opposite signs; any other is understood as a probability.
    """
    build = call.build
    if transform == "LOGISTIC":
        return build.sigmoid(beside(build, build.neg(score), score))
    both = beside(build, build.sub(number(build, 1, score), score), score)
    return transformed(call, both, transform) if transform == "PROBIT" else both
