"""Operations on tensors with channels in blocks of one vector: [N, C / lanes, H, W, lanes].

The optimiser makes them; no model has them. The last block of a channel count that is no multiple
of the lanes is filled up: `pack_channels` puts zeros there, later operations whatever they compute
from them, and no operation reads them back.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import ceildiv
from leptonc.ir.graph import Attribute, Value
from leptonc.ir.ops.bf16 import OPERANDS, ROUNDED, rounded
from leptonc.ir.ops.conv import CONV_ATTRS, add_bias, conv_shape, convolve, window_at
from leptonc.ir.ops.extents import natural
from leptonc.ir.ops.pool import AVERAGE_POOL, GLOBAL_AVERAGE_POOL, MAX_POOL, POOL_ATTRS
from leptonc.ir.ops.tiles import convolve_by_tiles, weight_at_points
from leptonc.ir.table import Attr, Evaluation, Inference, OpDef, Trait, define
from leptonc.ir.types import DType, TensorType


def pack_array(x: Array, lanes: int) -> Array:
    """`x` with its channels, axis 1, in blocks; the last one filled with zeros."""
    batch, channels, *space = x.shape
    blocks = math.ceil(channels / lanes)
    full = np.zeros((batch, blocks * lanes, *space), x.dtype)
    full[:, :channels] = x
    return np.ascontiguousarray(np.moveaxis(full.reshape(batch, blocks, lanes, *space), 2, -1))


def unpack_array(x: Array, channels: int) -> Array:
    """The inverse of `pack_array`."""
    plain = np.moveaxis(x, -1, 2)
    batch, blocks, lanes, *space = plain.shape
    return np.ascontiguousarray(plain.reshape(batch, blocks * lanes, *space)[:, :channels])


def packed_type(type: TensorType, lanes: int) -> TensorType:
    """The type of `type` with its channels in blocks."""
    return type.with_shape(type.shape[0], ceildiv(type.shape[1], lanes), *type.shape[2:], lanes)


def unpacked_type(type: TensorType, channels: int) -> TensorType:
    """The type of a blocked tensor in plain order."""
    return type.with_shape(type.shape[0], channels, *type.shape[2:-1])


PACK_CHANNELS = define(
    "pack_channels(x)",
    "Channels (axis 1) split into blocks of `lanes`, which become the last axis.",
    infer=lambda call: packed_type(call.types[0], call.int("lanes")),
    evaluate=lambda call: pack_array(call[0], call.int("lanes")),
    attrs={"lanes": Attr("int", required=True)}, traits=[Trait.INJECTIVE],
)  # fmt: skip
UNPACK_CHANNELS = define(
    "unpack_channels(x)", "The first `channels` of a blocked tensor in plain order.",
    infer=lambda call: unpacked_type(call.types[0], call.int("channels")),
    evaluate=lambda call: unpack_array(call[0], call.int("channels")),
    attrs={"channels": Attr("int", required=True)}, traits=[Trait.INJECTIVE],
)  # fmt: skip


def _plain_input(call: Inference) -> TensorType:
    """The type of `x` as the plain convolution would read it."""
    x, w = call.types[0], call.types[1]
    if call.attrs["plain"]:
        return x
    channels = w.shape[1] * call.int("group")
    if not isinstance(channels, int):
        raise LeptonError("conv_blocked needs a weight of known extents", code="E103")
    return unpacked_type(x, channels)


def _conv_infer(call: Inference) -> TensorType:
    x, w = _plain_input(call), call.types[1]
    by_pairs = call.attrs["rounds"] == OPERANDS and not call.attrs["plain"] and not call.int("tile")
    if x.dtype is DType.BF16 and not by_pairs:
        raise LeptonError("conv_blocked of bf16 multiplies no pairs of bf16", code="E103")
    y = TensorType(w.dtype, conv_shape(call, x, w))
    return packed_type(y, call.int("lanes"))


def _conv_evaluate(call: Evaluation) -> Array:
    w, bias = call[1], call.get("bias")
    x = call[0].astype(w.dtype)
    if not call.attrs["plain"]:
        x = unpack_array(x, w.shape[1] * call.int("group"))
    window, wide = window_at(call, x, w), natural(x.dtype)
    if call.attrs["rounds"] and call.int("tile"):
        y = convolve_by_tiles(x, weight_at_points(w), window)
    else:
        x, w = rounded(x, w, call.attrs["rounds"])
        y = convolve(x.astype(wide), w.astype(wide), window, call.int("group"))
    return pack_array(add_bias(y, bias).astype(w.dtype), call.int("lanes"))


CONV_BLOCKED = define(
    "conv_blocked(x, w, bias?)",
    "Two-dimensional convolution of a blocked operand (plain if `plain`) to a blocked result; by "
    "Winograd's tiles of `tile` squared outputs unless that is 0. What it `rounds`, its weight or "
    "both operands, is bf16 when it is multiplied: with a tile of 2 that is what the tile's points "
    "take of them; without tiles x may be bf16 already. What is `halved` is computed by Strassen's "
    "seven products of halves.",
    infer=_conv_infer, evaluate=_conv_evaluate,
    attrs={
        **CONV_ATTRS, "lanes": Attr("int", required=True),
        "plain": Attr("bool", False), "tile": Attr("int", 0), "rounds": ROUNDED,
        "halved": Attr("bool", False),
    },
    traits=[Trait.PRODUCT],
)  # fmt: skip


def _blocked_pool(
    row: OpDef,
) -> tuple[Callable[[Inference], TensorType], Callable[[Evaluation], Array]]:
    """Typing and meaning of a pooling on blocked tensors, from its plain form."""

    def infer(call: Inference) -> TensorType:
        x = call.types[0]
        lanes = x.shape[-1]
        if not isinstance(lanes, int):
            name = call.definition.name
            raise LeptonError(f"{name} of {x}: the last axis should be a block", code="E103")
        plain = TensorType(x.dtype, (x.shape[0], x.shape[1] * lanes, *x.shape[2:-1]))
        types = row.infer(Inference(row, [Value(plain)], ["x"], {**_defaults(row), **call.attrs}))
        first = types if isinstance(types, TensorType) else types[0]
        return first.with_shape(x.shape[0], x.shape[1], *first.shape[2:], lanes)

    def evaluate(call: Evaluation) -> Array:
        x = call[0]
        plain = unpack_array(x, x.shape[1] * x.shape[-1])
        assert row.evaluate is not None
        result = row.evaluate(Evaluation(row, [plain], ["x"], {**_defaults(row), **call.attrs}))
        return pack_array(result if isinstance(result, np.ndarray) else result[0], x.shape[-1])

    return infer, evaluate


def _defaults(row: OpDef) -> dict[str, Attribute]:
    return {name: attr.default for name, attr in row.attrs.items()}


_max = _blocked_pool(MAX_POOL)
MAX_POOL_BLOCKED = define(
    "max_pool_blocked(x)", "The largest element of each window of a blocked tensor.",
    infer=_max[0], evaluate=_max[1], attrs=POOL_ATTRS, traits=[Trait.REDUCTION],
)  # fmt: skip
_average = _blocked_pool(AVERAGE_POOL)
AVERAGE_POOL_BLOCKED = define(
    "average_pool_blocked(x)", "The mean of each window of a blocked tensor.",
    infer=_average[0], evaluate=_average[1],
    attrs={**POOL_ATTRS, "count_include_pad": Attr("int", 0)},
    traits=[Trait.REDUCTION],
)  # fmt: skip
_global_average = _blocked_pool(GLOBAL_AVERAGE_POOL)
GLOBAL_AVERAGE_POOL_BLOCKED = define(
    "global_average_pool_blocked(x)", "The mean over the space of a blocked tensor.",
    infer=_global_average[0], evaluate=_global_average[1], traits=[Trait.REDUCTION],
)  # fmt: skip
