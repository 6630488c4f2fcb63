"""Random operators, made of numbers that a seed gives.

A node with a seed gives the same numbers at every run; one without gives others at each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.graph import Attribute, Value
from leptonc.ir.types import DType
from leptonc.onnx_scope import Call
from leptonc.onnx_tensor import dtype_of

Rule: TypeAlias = Callable[[Call], "Sequence[Value]"]


def _seed(call: Call) -> Value:
    """The bits of the attribute `seed`, or a number that no other run has."""
    given = call.take("seed", "float")
    if given is None:
        return call.build.op("entropy", []).result
    return call.build.const(np.array(int(np.float32(given).view(np.uint32)), np.int64))


def _dtype(call: Call, default: DType) -> DType:
    given = call.take("dtype", "int")
    return default if given is None else dtype_of(given, "attribute 'dtype'")


def _random(row: str, parameters: Mapping[str, float], *, like: bool) -> Rule:
    """Numbers of a shape that is given, or that of an operand."""

    def rule(call: Call) -> Sequence[Value]:
        if like:
            shape = call.build.shape(call.required(0))
        else:
            extents = call.take("shape", "ints")
            if extents is None:
                raise LeptonError(f"attribute 'shape' of {call.op_type} is missing", code="E015")
            shape = call.build.const(np.array(extents, np.int64))
        default = call.required(0).type.dtype if like else DType.F32
        attrs: dict[str, Attribute] = {"dtype": _dtype(call, default)}
        for name, value in parameters.items():
            attrs[name] = call.take(name, "float", value)
        return [call.build.op(row, [_seed(call), shape], attrs).result]

    return rule


def _uniform(call: Call, like: Value, dtype: DType) -> Value:
    shape = call.build.shape(like)
    return call.build.op("random_uniform", [_seed(call), shape], {"dtype": dtype}).result


def _bernoulli(call: Call) -> Sequence[Value]:
    """1 where a number from 0 to before 1 lies below the probability."""
    x = call.required(0)
    made = _dtype(call, x.type.dtype)
    wide = DType.F64 if x.type.dtype is DType.F64 else DType.F32
    hit = call.build.less(_uniform(call, x, wide), _as(call, x, wide))
    return [_as(call, hit, made)]


def _as(call: Call, value: Value, dtype: DType) -> Value:
    return value if value.type.dtype is dtype else call.build.cast(value, to=dtype)


def _row(call: Call, *numbers: int) -> Value:
    return call.build.const(np.array(numbers, np.int64))


def _multinomial(call: Call) -> Sequence[Value]:
    """How many of the classes but the last end before a number, of their running sum."""
    build, x = call.build, call.required(0)
    made = _dtype(call, DType.I32)
    count = call.take("sample_size", "int", 1)
    if x.type.rank != 2 or count < 1 or made not in (DType.I32, DType.I64):
        raise LeptonError(
            f"Multinomial of {x.type} with {count} samples of {made}: should be of "
            "[batch,classes], with at least 1 sample of i32 or i64",
            code="E103",
        )
    x = _as(call, x, DType.F64 if x.type.dtype is DType.F64 else DType.F32)
    ends = build.cum_sum(build.softmax(x), build.const(np.array(1, np.int64)))
    whole = build.slice(ends, _row(call, -1), _row(call, 1 << 62), axes=_row(call, 1))
    inner = build.slice(ends, _row(call, 0), _row(call, -1), axes=_row(call, 1))
    batch = build.shape(x, end=1)
    shape = build.concat(batch, _row(call, count), axis=0)
    attrs: dict[str, Attribute] = {"dtype": x.type.dtype}
    drawn = build.op("random_uniform", [_seed(call), shape], attrs).result
    drawn = build.unsqueeze(build.mul(drawn, whole), _row(call, 2))
    passed = build.less_or_equal(build.unsqueeze(inner, _row(call, 1)), drawn)
    return [build.reduce_sum(_as(call, passed, made), axes=_row(call, 2), keepdims=0)]


def training_dropout(call: Call) -> Sequence[Value] | None:
    """Dropout that is, or may be, training; None for one that is known not to be.

    With a seed, the numbers are those that ONNX's reference draws.
    """
    training = call.operand(2)
    blob = None if training is None else training.blob
    if training is None or (blob is not None and not blob.array.any()):
        return None
    build, x, seed = call.build, call.required(0), call.take("seed", "int")
    if x.type.dtype.is_narrow:
        return None
    wide = DType.F64 if x.type.dtype is DType.F64 else DType.F32
    ratio = call.operand(1)
    ratio = build.const(np.array(0.5, wide.numpy)) if ratio is None else _as(call, ratio, wide)
    ratio, training = (build.reshape(value, _row(call)) for value in (ratio, training))
    if seed is None:
        drawn = _uniform(call, x, DType.F64)
    else:
        attrs: dict[str, Attribute] = {"dtype": DType.F64, "generator": "mt19937"}
        number = build.const(np.array(seed, np.int64))
        drawn = build.op("random_uniform", [number, build.shape(x)], attrs).result
    one, zero = (build.const(np.array(number, wide.numpy)) for number in (1, 0))
    ratio = build.where(training, ratio, zero)
    mask = build.greater_or_equal(drawn, _as(call, ratio, DType.F64))
    scaled = build.div(_as(call, x, wide), build.sub(one, ratio))
    kept = build.where(mask, scaled, zero)
    return [_as(call, kept, x.type.dtype), mask]


_UNIFORM: Mapping[str, float] = MappingProxyType({"low": 0.0, "high": 1.0})
_NORMAL: Mapping[str, float] = MappingProxyType({"mean": 0.0, "scale": 1.0})

RANDOM: Mapping[tuple[str, str], Rule] = MappingProxyType({
    ("", "Bernoulli"): _bernoulli,
    ("", "Multinomial"): _multinomial,
    ("", "RandomNormal"): _random("random_normal", _NORMAL, like=False),
    ("", "RandomNormalLike"): _random("random_normal", _NORMAL, like=True),
    ("", "RandomUniform"): _random("random_uniform", _UNIFORM, like=False),
    ("", "RandomUniformLike"): _random("random_uniform", _UNIFORM, like=True),
})  # fmt: skip
"""The random operators by domain and name."""
