"""Support vector machines: kernels of rows and support vectors, then products with constants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from types import MappingProxyType

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.graph import Value
from leptonc.onnx_ml_linear import constant, features, matrix, real
from leptonc.onnx_ml_scores import (
    Labels,
    Results,
    Rule,
    as_f32,
    axis,
    beside,
    best_class,
    labels_of,
    named,
    number,
    of_both,
    transformed,
)
from leptonc.onnx_scope import Call

LARGEST_POWER = 8
"""Polynomials up to this degree are products; beyond it they are powers."""


@dataclass(frozen=True)
class Machine:
    """What the attributes of both operators say."""

    kind: str
    gamma: float
    shift: float
    degree: float
    coefficients: Array
    vectors: Array
    rho: Array


def _wrong(call: Call, what: str) -> LeptonError:
    return LeptonError(f"{call.op_type}: {what}", call.location, code="E015")


def _machine(call: Call) -> Machine:
    parameters: tuple[float, ...] = call.take("kernel_params", "floats", ()) or (0.0, 0.0, 0.0)
    if len(parameters) != 3:
        raise _wrong(call, f"kernel_params has {len(parameters)} numbers, should have 3")
    kind = call.take("kernel_type", "str", "LINEAR")
    if kind not in ("LINEAR", "POLY", "RBF", "SIGMOID"):
        raise _wrong(call, f"kernel_type is {shown(kind)}, should be LINEAR, POLY, RBF or SIGMOID")
    coefficients, vectors, rho = (
        np.array(call.take(name, "floats", ()), np.float32)
        for name in ("coefficients", "support_vectors", "rho")
    )
    if not len(rho):
        raise _wrong(call, "rho is missing")
    gamma, shift, degree = parameters
    return Machine(kind, gamma, shift, degree, coefficients, vectors, rho)


def _similarity(call: Call, x: Value, machine: Machine, vectors: Array) -> Value:
    """The kernel of each row and each support vector, [N, vectors]."""
    build = call.build
    if machine.kind == "RBF":
        apart = build.sub(build.unsqueeze(x, axis(build, 1)), constant(call, x, vectors[None]))
        squares = build.reduce_sum_square(apart, axis(build, 2), keepdims=0)
        return build.exp(build.mul(squares, number(build, -machine.gamma, x)))
    product = build.matmul(x, constant(call, x, np.ascontiguousarray(vectors.T)))
    if machine.kind == "LINEAR":
        return product
    scaled = build.mul(product, number(build, machine.gamma, x))
    scaled = build.add(scaled, number(build, machine.shift, x))
    return build.tanh(scaled) if machine.kind == "SIGMOID" else _power(call, scaled, machine.degree)


def _power(call: Call, x: Value, degree: float) -> Value:
    if degree != int(degree) or not 1 <= degree <= LARGEST_POWER:
        return call.build.pow(x, number(call.build, degree, x))
    result = x
    for _ in range(int(degree) - 1):
        result = call.build.mul(result, x)
    return result


def _support(call: Call, machine: Machine, count: int, width: int) -> Array:
    if len(machine.vectors) != count * width:
        raise _wrong(
            call, f"{count} support vectors of {width} features have {len(machine.vectors)} numbers"
        )
    return machine.vectors.reshape(count, width)


def _regressor(call: Call) -> Results:
    build, x = call.build, matrix(call, real(call))
    machine, supports = _machine(call), call.take("n_supports", "int", 0)
    one_class = call.take("one_class", "int", 0)
    transform = call.take("post_transform", "str", "NONE")
    if call.take("n_targets", "int", 1) != 1:
        raise _wrong(call, "n_targets should be 1")
    width = features(call, x)
    count = supports or width
    if len(machine.coefficients) != count:
        raise _wrong(call, f"{count} coefficients are needed, got {len(machine.coefficients)}")
    if supports:
        x = _similarity(call, x, machine, _support(call, machine, supports, width))
    scores = build.matmul(x, constant(call, x, machine.coefficients.reshape(count, 1)))
    scores = build.add(scores, constant(call, x, machine.rho[:1]))
    if one_class:
        one = number(build, 1, scores)
        inside = build.greater(scores, number(build, 0, scores))
        return [as_f32(build, build.where(inside, one, build.neg(one)))]
    return [as_f32(build, transformed(call, scores, transform))]


def _classifier(call: Call) -> Results:
    x, labels = matrix(call, real(call)), labels_of(call, "classlabels_ints")
    machine = _machine(call)
    transform = call.take("post_transform", "str", "NONE")
    members = np.array(call.take("vectors_per_class", "ints", ()), np.int64)
    slopes = [np.array(call.take(f"prob_{which}", "floats", ()), np.float32) for which in "ab"]
    if not members.sum():
        return _without_vectors(call, x, machine, labels, transform)
    classes = labels.count
    if len(members) != classes or classes < 2 or (members < 0).any():
        raise _wrong(call, f"{classes} classes have {len(members)} groups of vectors")
    scores = _pair_scores(call, x, machine, members)
    votes = _votes(call, scores, classes)
    label = named(call.build, best_class(call.build, votes), labels)
    if len(slopes[0]):
        scores = _probabilities(call, scores, slopes, classes)
        return [label, as_f32(call.build, transformed(call, scores, transform))]
    if classes > 2:
        return [label, as_f32(call.build, transformed(call, scores, transform))]
    if transform == "NONE":
        both = beside(call.build, call.build.neg(scores), scores)
    else:
        both = of_both(call, scores, transform)
    return [label, as_f32(call.build, both)]


def _without_vectors(
    call: Call, x: Value, machine: Machine, labels: Labels, transform: str
) -> Results:
    """The form of liblinear: coefficients for each class."""
    build, classes, width = call.build, max(labels.count, 1), features(call, x)
    if len(machine.coefficients) != classes * width:
        raise _wrong(
            call, f"{len(machine.coefficients)} coefficients of {classes} classes, {width} features"
        )
    weights = np.ascontiguousarray(machine.coefficients.reshape(classes, width).T)
    scores = build.add(
        build.matmul(x, constant(call, x, weights)), constant(call, x, machine.rho[:1])
    )
    best = best_class(build, scores)
    if classes == 2 and len(machine.rho) == 1 and (machine.coefficients >= 0).all():
        highest = build.reduce_max(scores, axis(build, 1), keepdims=0)
        high = build.greater_or_equal(highest, number(build, 0.5, scores))
        best = build.where(high, build.const(np.array(1, np.int64)), best)
    label = named(build, best, labels)
    return [label, as_f32(build, transformed(call, scores, transform))]


def _pair_scores(call: Call, x: Value, machine: Machine, members: Array) -> Value:
    """For each pair of classes how much a row is of the first of them, [N, pairs]."""
    build, total, classes = call.build, int(members.sum()), len(members)
    vectors = _support(call, machine, total, features(call, x))
    pairs = list(combinations(range(classes), 2))
    if len(machine.coefficients) != (classes - 1) * total or len(machine.rho) != len(pairs):
        raise _wrong(
            call,
            f"{total} vectors of {classes} classes have {len(machine.coefficients)} coefficients "
            f"and {len(machine.rho)} entries of rho",
        )
    by_vector = machine.coefficients.reshape(classes - 1, total)
    ends = np.cumsum(members)
    weights = np.zeros((total, len(pairs)), np.float32)
    for column, (a, b) in enumerate(pairs):
        of_a, of_b = (slice(ends[c] - members[c], ends[c]) for c in (a, b))
        weights[of_a, column] = by_vector[b - 1, of_a]
        weights[of_b, column] = by_vector[a, of_b]
    likeness = _similarity(call, x, machine, vectors)
    product = build.matmul(likeness, constant(call, x, weights))
    return build.add(product, constant(call, x, machine.rho))


def _votes(call: Call, scores: Value, classes: int) -> Value:
    """How many other classes each class beats, [N, classes]."""
    build, pairs = call.build, list(combinations(range(classes), 2))
    won = np.zeros((len(pairs), classes))
    for row, (a, b) in enumerate(pairs):
        won[row, a], won[row, b] = 1, -1
    zero, one = number(build, 0, scores), number(build, 1, scores)
    first = build.where(build.greater(scores, zero), one, zero)
    counted = build.matmul(first, constant(call, scores, won))
    return build.add(counted, constant(call, scores, np.arange(classes, dtype=np.float64)))


def _probabilities(call: Call, scores: Value, slopes: list[Array], classes: int) -> Value:
    """The probability of each class from those within each pair, [N, classes]."""
    build = call.build
    if any(len(numbers) != classes * (classes - 1) // 2 for numbers in slopes):
        raise _wrong(call, "prob_a and prob_b should have one number for each pair of classes")
    a, b = (constant(call, scores, numbers) for numbers in slopes)
    within = build.sigmoid(build.neg(build.add(build.mul(scores, a), b)))
    low, high = number(build, 1e-7, scores), number(build, 1 - 1e-7, scores)
    return build.coupled_probabilities(build.clip(within, low, high), classes=classes)


SVM: Mapping[str, Rule] = MappingProxyType({
    "SVMClassifier": _classifier,
    "SVMRegressor": _regressor,
})  # fmt: skip
"""Operators by name, and what takes them apart."""
