"""Linear models and the operators that prepare features, in ONNX's own operators."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.graph import Value
from leptonc.ir.types import DType
from leptonc.onnx_ml_scores import (
    Results,
    Rule,
    above,
    argmax_classified,
    as_f32,
    axis,
    beside,
    labels_of,
    number,
    of_both,
    transformed,
)
from leptonc.onnx_scope import Call


def real(call: Call, index: int = 0) -> Value:
    """An operand as numbers to compute with: of f64 where it is that, else of f32."""
    x = call.required(index)
    if x.type.dtype in (DType.F32, DType.F64):
        return x
    return call.build.op("cast", [x], {"to": DType.F32}).result


def features(call: Call, x: Value) -> int:
    """The number of features, which has to be known."""
    extent = x.type.shape[-1] if x.type.rank else 1
    if isinstance(extent, int):
        return extent
    raise LeptonError(
        f"{call.op_type} of {x.type}, should have a known number of features",
        call.location,
        notes=["give the extent a size (--dim), or declare it in the model"],
        code="E103",
    )


def matrix(call: Call, x: Value) -> Value:
    """An operand of rank 2: one row where it has rank 1."""
    if x.type.rank == 1:
        return call.build.unsqueeze(x, axis(call.build, 0))
    if x.type.rank != 2:
        raise LeptonError(
            f"{call.op_type} of {x.type}, should be of rank 2", call.location, code="E103"
        )
    return x


def constant(call: Call, x: Value, values: Array) -> Value:
    """Numbers in the element type of `x`."""
    return call.build.const(values.astype(x.type.dtype.numpy))


def _scores(call: Call, x: Value, targets: int) -> Value:
    """The rows of `x` times the coefficients, one column each target, and the intercepts."""
    weights = np.array(call.take("coefficients", "floats", ()), np.float32)
    shifts = np.array(call.take("intercepts", "floats", ()), np.float32)
    count = features(call, x)
    if len(weights) != targets * count or len(shifts) not in (0, targets):
        raise LeptonError(
            f"{call.op_type} has {len(weights)} coefficients and {len(shifts)} intercepts for "
            f"{targets} targets of {count} features",
            call.location,
            code="E015",
        )
    w = constant(call, x, np.ascontiguousarray(weights.reshape(targets, count).T))
    product = call.build.matmul(x, w)
    return call.build.add(product, constant(call, x, shifts)) if len(shifts) else product


def _linear_regressor(call: Call) -> Results:
    x, targets = matrix(call, real(call)), call.take("targets", "int", 1)
    scores = _scores(call, x, targets)
    transform = call.take("post_transform", "str", "NONE")
    return [as_f32(call.build, transformed(call, scores, transform))]


def _linear_classifier(call: Call) -> Results:
    x, labels = matrix(call, real(call)), labels_of(call, "classlabels_ints")
    call.take("multi_class", "int")
    transform = call.take("post_transform", "str", "NONE")
    kind, coefficients = call.attributes.get("coefficients", ("floats", ()))
    count = features(call, x)
    targets = len(coefficients) // count if kind == "floats" and count else labels.count
    scores = _scores(call, x, max(targets, 1))
    if targets != 1:
        if labels.count != targets:
            raise LeptonError(
                f"{call.op_type} has {labels.count} labels for {targets} classes",
                call.location,
                code="E015",
            )
        return argmax_classified(call, scores, labels, transform)
    both = of_both(call, scores, transform) if labels.count == 2 else None
    result = transformed(call, scores, transform) if both is None else both
    return [above(call.build, scores, 0, labels), as_f32(call.build, result)]


def _scaler(call: Call) -> Results:
    x, build = real(call), call.build
    count = features(call, x)
    for name, function in (("offset", build.sub), ("scale", build.mul)):
        values = _each_feature(call, name, call.take(name, "floats", ()), count)
        if values is not None:
            x = function(x, constant(call, x, values))
    return [as_f32(build, x)]


def _each_feature(call: Call, name: str, values: tuple[float, ...], count: int) -> Array | None:
    if values and len(values) not in (1, count):
        raise LeptonError(
            f"{name} of {call.op_type} has {len(values)} numbers for {count} features",
            call.location,
            code="E015",
        )
    return np.array(values) if values else None


def _normalizer(call: Call) -> Results:
    """Rows divided by their norm; what has the norm 0 stays as it is."""
    build, x = call.build, real(call)
    if x.type.rank not in (1, 2):
        matrix(call, x)
    norm, last = call.take("norm", "str", "MAX"), axis(build, x.type.rank - 1)
    if norm == "MAX":
        size = build.reduce_max(x, last, keepdims=1)
    elif norm == "L1":
        size = build.reduce_l1(x, last, keepdims=1)
    elif norm == "L2":
        size = build.sqrt(build.reduce_sum_square(x, last, keepdims=1))
    else:
        raise LeptonError(
            f"norm of Normalizer is {shown(norm)}, should be MAX, L1 or L2",
            call.location,
            code="E015",
        )
    nothing = build.equal(size, number(build, 0, x))
    by = build.where(nothing, number(build, 1, x), size)
    return [as_f32(build, build.div(x, by))]


def _imputer(call: Call) -> Results:
    """Numbers that stand for missing ones replaced."""
    build, x = call.build, call.required(0)
    kinds = {"floats": ("float", "floats", 0.0), "int64s": ("int", "ints", 0)}
    given = {
        suffix: (
            call.take(f"replaced_value_{suffix[:-1]}", one, default),
            call.take(f"imputed_value_{suffix}", many, ()),
        )
        for suffix, (one, many, default) in kinds.items()
    }
    missing, values = given["floats" if x.type.dtype.is_float else "int64s"]
    if not values:
        other = given["int64s" if x.type.dtype.is_float else "floats"]
        raise LeptonError(
            f"Imputer of {x.type.dtype} has no values of that kind"
            f"{', but of the other' if other[1] else ''}",
            call.location,
            code="E015",
        )
    found = _each_feature(call, "imputed_value", values, features(call, x))
    assert found is not None
    is_missing = build.equal(x, number(build, missing, x))
    if isinstance(missing, float) and math.isnan(missing):
        is_missing = build.is_nan(x)
    return [build.where(is_missing, constant(call, x, found), x)]


def _binarizer(call: Call) -> Results:
    build, x = call.build, call.required(0)
    threshold: float = call.take("threshold", "float", 0.0)
    wide = x
    if not x.type.dtype.is_float:
        wide = build.op("cast", [x], {"to": DType.F64}).result
    is_above = build.greater(wide, number(build, threshold, wide))
    return [build.op("cast", [is_above], {"to": x.type.dtype}).result]


def _array_feature_extractor(call: Call) -> Results:
    build, x, index = call.build, call.required(0), call.required(1)
    flat = build.reshape(index, build.const(np.array([-1], np.int64)))
    if x.type.rank == 0:
        raise LeptonError("ArrayFeatureExtractor of a scalar", call.location, code="E103")
    found = build.gather(x, flat, axis=x.type.rank - 1)
    return [build.unsqueeze(found, axis(build, 0)) if x.type.rank == 1 else found]


def _feature_vectorizer(call: Call) -> Results:
    """Features beside each other, cut or filled up with zeros to the widths asked for."""
    build, widths = call.build, call.take("inputdimensions", "ints", ())
    parts: list[Value] = []
    for index in range(len(call.operands)):
        x = as_f32(build, real(call, index))
        if x.type.rank == 1:
            x = build.unsqueeze(x, axis(build, 1))
        x = matrix(call, x)
        have, width = features(call, x), widths[index] if index < len(widths) else None
        if width is not None and width < have:
            x = build.slice(x, axis(build, 0), axis(build, width), axes=axis(build, 1))
        elif width is not None and width > have:
            x = build.pad(x, build.const(np.array([0, 0, 0, width - have], np.int64)))
        parts.append(x)
    return [beside(build, *parts)]


LINEAR: Mapping[str, Rule] = MappingProxyType({
    "LinearRegressor": _linear_regressor,
    "LinearClassifier": _linear_classifier,
    "Scaler": _scaler,
    "Normalizer": _normalizer,
    "Imputer": _imputer,
    "Binarizer": _binarizer,
    "ArrayFeatureExtractor": _array_feature_extractor,
    "FeatureVectorizer": _feature_vectorizer,
})  # fmt: skip
"""Operators by name, and what takes them apart."""
