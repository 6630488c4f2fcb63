"""The steps of optimisers (ai.onnx.preview.training), made of arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.graph import Value
from leptonc.ir.types import DType
from leptonc.onnx_scope import Call

Rule: TypeAlias = Callable[[Call], "Sequence[Value]"]
DOMAIN = "ai.onnx.preview.training"


def _tensors(call: Call, kinds: int) -> list[tuple[Value, ...]]:
    """For each tensor that is optimised: itself, its gradient, and what is known of the past."""
    given = call.operands[2:]
    if not given or len(given) % kinds:
        raise LeptonError(
            f"{call.op_type} has {len(given)} tensors, should have {kinds} for each optimised one",
            code="E014",
        )
    count = len(given) // kinds
    return [
        tuple(call.required(2 + kind * count + index) for kind in range(kinds))
        for index in range(count)
    ]


def _number(call: Call, value: float, like: Value) -> Value:
    return call.build.const(np.array(value, like.type.dtype.numpy))


def _times(call: Call, factor: float, value: Value) -> Value:
    return call.build.mul(_number(call, factor, value), value)


def _regularized(call: Call, x: Value, gradient: Value, factor: float) -> Value:
    return call.build.add(_times(call, factor, x), gradient) if factor else gradient


def _by_kind(results: Sequence[Sequence[Value]]) -> list[Value]:
    """All first results, then all second ones."""
    return [value for kind in zip(*results, strict=True) for value in kind]


def _adagrad(call: Call) -> Sequence[Value]:
    build = call.build
    rate, step = call.required(0), call.required(1)
    decay, epsilon = call.take("decay_factor", "float", 0.0), call.take("epsilon", "float", 0.0)
    norm = call.take("norm_coefficient", "float", 0.0)
    slowed = _times(call, decay, build.cast(step, to=rate.type.dtype))
    rate = build.div(rate, build.add(_number(call, 1, rate), slowed))
    results: list[list[Value]] = []
    for x, gradient, squares in _tensors(call, 3):
        gradient = _regularized(call, x, gradient, norm)
        squares = build.add(squares, build.mul(gradient, gradient))
        deviation = build.add(build.sqrt(squares), _number(call, epsilon, x))
        way = build.div(build.mul(_like(call, rate, x), gradient), deviation)
        results.append([build.sub(x, way), squares])
    return _by_kind(results)


def _like(call: Call, value: Value, other: Value) -> Value:
    """`value` in the element type of `other`."""
    same = value.type.dtype is other.type.dtype
    return value if same else call.build.cast(value, to=other.type.dtype)


def _adam(call: Call) -> Sequence[Value]:
    build = call.build
    rate, step = call.required(0), call.required(1)
    alpha, beta = call.take("alpha", "float", 0.9), call.take("beta", "float", 0.999)
    epsilon = call.take("epsilon", "float", float(np.float32(1e-6)))
    norm = call.take("norm_coefficient", "float", 0.0)
    post = call.take("norm_coefficient_post", "float", 0.0)
    rate = _adjusted(call, rate, step, alpha, beta)
    results: list[list[Value]] = []
    for x, gradient, mean, squares in _tensors(call, 4):
        gradient = _regularized(call, x, gradient, norm)
        mean = build.add(_times(call, alpha, mean), _times(call, 1 - alpha, gradient))
        square = build.mul(gradient, gradient)
        squares = build.add(_times(call, beta, squares), _times(call, 1 - beta, square))
        deviation = build.add(build.sqrt(squares), _number(call, epsilon, x))
        way = build.div(build.mul(_like(call, rate, x), mean), deviation)
        results.append([_times(call, 1 - post, build.sub(x, way)), mean, squares])
    return _by_kind(results)


def _adjusted(call: Call, rate: Value, step: Value, alpha: float, beta: float) -> Value:
    """The rate, larger while the averages still hold little."""
    build = call.build
    times, one = build.cast(step, to=DType.F64), np.array(1.0)
    rest = [
        build.sub(build.const(one), build.pow(build.const(np.array(base)), times))
        for base in (alpha, beta)
    ]
    factor = build.div(build.sqrt(rest[1]), rest[0])
    later = build.greater(step, build.const(np.array(0, step.type.dtype.numpy)))
    factor = build.where(later, factor, build.const(one))
    return build.mul(rate, build.cast(factor, to=rate.type.dtype))


def _momentum(call: Call) -> Sequence[Value]:
    build = call.build
    rate, step = call.required(0), call.required(1)
    alpha, beta, norm = (_required(call, name) for name in ("alpha", "beta", "norm_coefficient"))
    mode = call.take("mode", "str", "")
    if mode not in ("standard", "nesterov"):
        raise LeptonError(
            f"Momentum.mode is {shown(mode)}, should be standard or nesterov", code="E108"
        )
    later = build.greater(step, build.const(np.array(0, step.type.dtype.numpy)))
    results: list[list[Value]] = []
    for x, gradient, speed in _tensors(call, 3):
        gradient = _regularized(call, x, gradient, norm)
        weight = build.where(later, _number(call, beta, x), _number(call, 1, x))
        speed = build.add(_times(call, alpha, speed), build.mul(weight, gradient))
        way = speed
        if mode == "nesterov":
            way = build.add(gradient, _times(call, alpha, speed))
        results.append([build.sub(x, build.mul(_like(call, rate, x), way)), speed])
    return _by_kind(results)


def _required(call: Call, name: str) -> float:
    value = call.take(name, "float")
    if value is None:
        raise LeptonError(f"attribute {shown(name)} of {call.op_type} is missing", code="E015")
    return value


TRAINING: Mapping[tuple[str, str], Rule] = MappingProxyType({
    (DOMAIN, "Adagrad"): _adagrad,
    (DOMAIN, "Adam"): _adam,
    (DOMAIN, "Momentum"): _momentum,
})  # fmt: skip
"""The optimisers by domain and name."""
