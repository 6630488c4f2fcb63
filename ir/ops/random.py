"""Rows of random numbers: made from a seed alone, so that only `entropy` has an effect.

Number `i` of a tensor is a function of the seed and of `i` (SplitMix64, whose states are counted
through), so that it depends neither on threads nor on the order in which numbers are made.
"""

from __future__ import annotations

import math
import secrets

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.ops.broadcasting import FLOATS
from leptonc.ir.ops.extents import natural
from leptonc.ir.ops.movement import wanted_extents
from leptonc.ir.table import Attr, Evaluation, Inference, Trait, define
from leptonc.ir.types import DType, TensorType

GAMMA = 0x9E3779B97F4A7C15
"""The distance of two states."""
MIXERS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
"""How a state becomes a number: exclusive or with itself shifted, then a product."""
LAST_SHIFT = 31
GENERATORS = ("splitmix64", "mt19937")

ENTROPY = define(
    "entropy()",
    "A number that is another one at every run: the seed of what is given none.",
    infer=lambda call: TensorType(DType.I64, ()),
    evaluate=lambda call: np.array(secrets.randbits(63), np.int64),
    traits=[Trait.EFFECT],
)


def mixed(state: Array) -> Array:
    """The random bits of states of type uint64."""
    for shift, factor in MIXERS:
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
    return state ^ (state >> np.uint64(LAST_SHIFT))


def words(seed: Array, count: int) -> Array:
    """The first `count` random 64 bits of a seed."""
    with np.errstate(over="ignore"):
        start = mixed(seed.reshape(1).astype(np.int64).view(np.uint64) + np.uint64(GAMMA))
        return mixed(start + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(GAMMA))


def _infer(call: Inference) -> TensorType:
    dtype, seed = call.dtype("dtype"), call[0].type
    if seed.dtype is not DType.I64 or seed.shape not in ((), (1,)):
        raise LeptonError(f"{call.definition.name}: seed is {seed}, should be one i64", code="E103")
    if dtype not in FLOATS:
        raise LeptonError(f"{call.definition.name} of {dtype} is not defined", code="E102")
    if call.attrs.get("generator", GENERATORS[0]) not in GENERATORS:
        raise LeptonError(
            f"{call.definition.name}.generator is {call.attrs['generator']!r}, "
            f"should be {' or '.join(GENERATORS)}",
            code="E108",
        )
    return TensorType(dtype, tuple(wanted_extents(call, "shape")))


def _shape(call: Evaluation) -> tuple[int, ...]:
    return tuple(int(extent) for extent in call[1])


def _fractions(bits: Array, dtype: np.dtype[np.floating]) -> Array:
    """Numbers from 0 to before 1, of as many bits as `dtype` has."""
    kept = 53 if dtype == np.float64 else 24
    return (bits >> np.uint64(64 - kept)).astype(dtype) * dtype.type(2.0**-kept)


def _uniform(call: Evaluation) -> Array:
    shape, made = _shape(call), call.dtype("dtype").numpy
    wide = natural(made)
    count = math.prod(shape)
    if call.attrs["generator"] == "mt19937":
        seed = int(call[0].reshape(())) & 0xFFFFFFFF
        unit = np.random.RandomState(seed).uniform(0, 1, count).astype(wide)
    else:
        unit = _fractions(words(call[0], count), wide)
    low, high = wide.type(call.float("low")), wide.type(call.float("high"))
    return (unit * (high - low) + low).astype(made).reshape(shape)


_RANGE: dict[str, Attr] = {"dtype": Attr("dtype", DType.F32)}

RANDOM_UNIFORM = define(
    "random_uniform(seed, shape!)",
    "Numbers spread evenly from `low` to before `high`; the generator mt19937 gives those of "
    "numpy's and ONNX's reference, one after the other.",
    infer=_infer,
    evaluate=_uniform,
    attrs={
        **_RANGE,
        "low": Attr("float", 0.0),
        "high": Attr("float", 1.0),
        "generator": Attr("str", GENERATORS[0]),
    },
)


def _normal(call: Evaluation) -> Array:
    """By the method of Box and Muller: a radius and an angle, of which the cosine is taken."""
    shape, made = _shape(call), call.dtype("dtype").numpy
    wide, count = natural(made), math.prod(shape)
    if wide == np.float64:
        pairs = words(call[0], 2 * count).reshape(count, 2)
        radius, angle = pairs[:, 0], pairs[:, 1]
    else:
        radius = words(call[0], count)
        angle = radius << np.uint64(32)
    unit = np.minimum(_fractions(radius, wide) + wide.type(LEAST[wide.name]), wide.type(1))
    turn = _fractions(angle, wide) * wide.type(2 * math.pi)
    numbers = np.sqrt(np.log(unit) * wide.type(-2)) * np.cos(turn)
    mean, scale = wide.type(call.float("mean")), wide.type(call.float("scale"))
    return (numbers * scale + mean).astype(made).reshape(shape)


LEAST = {"float32": 2.0**-25, "float64": 2.0**-54}
"""What is added to fractions that a logarithm is taken of."""

RANDOM_NORMAL = define(
    "random_normal(seed, shape!)",
    "Numbers distributed normally, around `mean` with the standard deviation `scale`.",
    infer=_infer,
    evaluate=_normal,
    attrs={**_RANGE, "mean": Attr("float", 0.0), "scale": Attr("float", 1.0)},
)
