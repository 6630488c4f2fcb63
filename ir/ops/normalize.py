"""Normalisations over channels, groups, rows and windows of channels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim
from leptonc.ir.ops.broadcasting import (
    FLOATS,
    check_dtype,
    check_same_dtype,
    normalized_axis,
    shown_shape,
)  # fmt: skip
from leptonc.ir.ops.conv import check_channel_vector, check_divisible
from leptonc.ir.ops.extents import broadcasts_to, natural
from leptonc.ir.table import Attr, Evaluation, Inference, Trait, define
from leptonc.ir.types import DType, TensorType

EPSILON = float(np.float32(1e-5))
"""What ONNX means by 1e-5."""
STASH_DTYPES = {1: DType.F32, 10: DType.F16, 11: DType.F64, 16: DType.BF16}


def per_channel(vector: Array, like: Array) -> Array:
    """One number for each channel, shaped to broadcast over `like` and of its type."""
    return vector.reshape(-1, *(1,) * max(like.ndim - 2, 0)).astype(like.dtype)


def standardized(x: Array, axes: Sequence[int], epsilon: float) -> tuple[Array, Array, Array]:
    """`x` with mean 0 and variance 1 over `axes`, its mean and its inverse deviation."""
    axes = tuple(axes)
    count = x.dtype.type(np.prod([x.shape[axis] for axis in axes]))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = x.sum(axis=axes, keepdims=True) / count
        centred = x - mean
        variance = (centred * centred).sum(axis=axes, keepdims=True) / count
        inverse = 1 / np.sqrt(variance + x.dtype.type(epsilon))
    return centred * inverse, mean, inverse


def _channels(call: Inference) -> Dim:
    x = call.types[0]
    if x.rank == 0:
        raise LeptonError(f"{call.definition.name} of {x}: a scalar has no channels", code="E103")
    return x.shape[1] if x.rank > 1 else 1


def _batch_infer(call: Inference) -> list[TensorType]:
    for name in ("x", "scale", "mean"):
        check_dtype(call, name, FLOATS)
    check_same_dtype(call, "scale", "bias")
    check_same_dtype(call, "mean", "var")
    for name in ("scale", "bias", "mean", "var"):
        check_channel_vector(call, name, _channels(call))
    return [call.types[0], *(call.types[3:] if call.int("training_mode") else ())]


def _batch_evaluate(call: Evaluation) -> list[Array]:
    x = call[0].astype(natural(call[0].dtype))
    scale, bias, mean, var = (per_channel(item, x) for item in call.items[1:])
    running: list[Array] = []
    if call.int("training_mode"):
        axes = tuple(axis for axis in range(x.ndim) if axis != 1)
        count, momentum = x.size // max(call[1].size, 1), call.float("momentum")
        with np.errstate(invalid="ignore", divide="ignore"):
            seen = x.sum(axis=axes, keepdims=True)[0] / x.dtype.type(count)
            spread = ((x - seen) ** 2).sum(axis=axes, keepdims=True)[0] / x.dtype.type(count)
        for old, new, like in ((mean, seen, call[3]), (var, spread, call[4])):
            running.append(
                (old * momentum + new * (1 - momentum)).reshape(like.shape).astype(like.dtype)
            )
        mean, var = seen, spread
    y = scale * (x - mean) / np.sqrt(var + x.dtype.type(call.float("epsilon"))) + bias
    return [y.astype(call[0].dtype), *running]


BATCH_NORMALIZATION = define(
    "batch_normalization(x, scale, bias, mean, var)",
    "Each channel standardised by given statistics; in training by its own, which then update "
    "the given ones.",
    infer=_batch_infer,
    evaluate=_batch_evaluate,
    attrs={
        "epsilon": Attr("float", EPSILON),
        "momentum": Attr("float", float(np.float32(0.9))),
        "training_mode": Attr("int", 0),
    },
    onnx="BatchNormalization",
    since=14,
)


def _channelwise_infer(call: Inference) -> TensorType:
    check_dtype(call, "x", FLOATS)
    check_same_dtype(call, "x", "scale", "bias")
    channels = _channels(call)
    check_channel_vector(call, "scale", channels)
    check_channel_vector(call, "bias", channels)
    return call.types[0]


def _instance_evaluate(call: Evaluation) -> Array:
    x = call[0].astype(natural(call[0].dtype))
    y, _, _ = standardized(x, range(2, x.ndim), call.float("epsilon"))
    return (y * per_channel(call[1], x) + per_channel(call[2], x)).astype(call[0].dtype)


INSTANCE_NORMALIZATION = define(
    "instance_normalization(x, scale, bias)",
    "Each channel of each example standardised over space.",
    infer=_channelwise_infer,
    evaluate=_instance_evaluate,
    attrs={"epsilon": Attr("float", EPSILON)},
    traits=[Trait.REDUCTION],
    onnx="InstanceNormalization",
    since=6,
)


def _group_infer(call: Inference) -> TensorType:
    groups = call.int("num_groups")
    if groups < 1:
        raise LeptonError(
            f"group_normalization.num_groups is {groups}, should be at least 1", code="E108"
        )
    type = _channelwise_infer(call)
    check_divisible(call, "channels", _channels(call), groups)
    return type


def _group_evaluate(call: Evaluation) -> Array:
    x = call[0].astype(natural(call[0].dtype))
    grouped = x.reshape(
        x.shape[0], call.int("num_groups"), x.shape[1] // call.int("num_groups"), *x.shape[2:]
    )
    y, _, _ = standardized(grouped, range(2, grouped.ndim), call.float("epsilon"))
    return (y.reshape(x.shape) * per_channel(call[1], x) + per_channel(call[2], x)).astype(
        call[0].dtype
    )


GROUP_NORMALIZATION = define(
    "group_normalization(x, scale, bias)",
    "Each group of channels of each example standardised.",
    infer=_group_infer,
    evaluate=_group_evaluate,
    attrs={
        "epsilon": Attr("float", EPSILON),
        "num_groups": Attr("int", required=True),
        "stash_type": Attr("int", 1),
    },
    traits=[Trait.REDUCTION],
    onnx="GroupNormalization",
    since=21,
)


def trailing_axes(call: Inference, names: Sequence[str]) -> tuple[int, TensorType]:
    """The first normalised axis and the statistics' type; E103 where a scale does not fit."""
    x = call.types[0]
    axis = normalized_axis(call, call.int("axis"), x.rank)
    for name in names:
        type = call.type(name)
        if type is not None and not broadcasts_to(type.shape, x.shape):
            raise LeptonError(
                f"{call.definition.name}: {name} {type} does not broadcast to "
                f"{shown_shape(x.shape)}",
                code="E103",
            )
    stash = call.int("stash_type")
    if stash not in STASH_DTYPES:
        raise LeptonError(
            f"{call.definition.name}.stash_type is {stash}, should be one of "
            f"{', '.join(map(str, STASH_DTYPES))}",
            code="E108",
        )
    return axis, TensorType(STASH_DTYPES[stash], (*x.shape[:axis], *(1,) * (x.rank - axis)))


def _layer_infer(call: Inference) -> list[TensorType]:
    check_dtype(call, "x", FLOATS)
    check_same_dtype(call, "x", "scale", "bias")
    _, statistics = trailing_axes(call, ("scale", "bias"))
    return [call.types[0], statistics, statistics]


def _layer_evaluate(call: Evaluation) -> list[Array]:
    x = call[0].astype(natural(call[0].dtype))
    axis, bias = call.int("axis") % x.ndim, call.get("bias")
    y, mean, inverse = standardized(x, range(axis, x.ndim), call.float("epsilon"))
    y = y * call[1].astype(x.dtype)
    y = y if bias is None else y + bias.astype(x.dtype)
    stash = STASH_DTYPES[call.int("stash_type")].numpy
    return [y.astype(call[0].dtype), mean.astype(stash), inverse.astype(stash)]


LAYER_NORMALIZATION = define(
    "layer_normalization(x, scale, bias?)",
    "The axes from `axis` on standardised, scaled and shifted; also the mean and the inverse "
    "deviation.",
    infer=_layer_infer,
    evaluate=_layer_evaluate,
    attrs={
        "axis": Attr("int", -1),
        "epsilon": Attr("float", EPSILON),
        "stash_type": Attr("int", 1),
    },
    traits=[Trait.REDUCTION],
    onnx="LayerNormalization",
)


def _rms_infer(call: Inference) -> TensorType:
    check_dtype(call, "x", FLOATS)
    check_dtype(call, "scale", FLOATS)
    trailing_axes(call, ("scale",))
    return call.types[0].with_dtype(call.types[1].dtype)


def inverse_rms(x: Array, axes: Sequence[int], epsilon: float) -> Array:
    """One over the root of the mean square over `axes`."""
    axes = tuple(axes)
    count = x.dtype.type(np.prod([x.shape[axis] for axis in axes]))
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1 / np.sqrt((x * x).sum(axis=axes, keepdims=True) / count + x.dtype.type(epsilon))


def _rms_evaluate(call: Evaluation) -> Array:
    x = call[0].astype(natural(call[0].dtype))
    axis = call.int("axis") % x.ndim
    y = x * inverse_rms(x, range(axis, x.ndim), call.float("epsilon"))
    return (y * call[1].astype(x.dtype)).astype(call[1].dtype)


RMS_NORMALIZATION = define(
    "rms_normalization(x, scale)",
    "The axes from `axis` on divided by the root of their mean square, and scaled.",
    infer=_rms_infer,
    evaluate=_rms_evaluate,
    attrs={
        "axis": Attr("int", -1),
        "epsilon": Attr("float", EPSILON),
        "stash_type": Attr("int", 1),
    },
    traits=[Trait.REDUCTION],
    onnx="RMSNormalization",
    since=23,
)
