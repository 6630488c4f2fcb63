"""Convolutions of bytes with a constant weight, summed in 32 bits."""

from __future__ import annotations

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.ops.blocked import pack_array, packed_type, unpack_array, unpacked_type
from leptonc.ir.ops.broadcasting import check_dtype
from leptonc.ir.ops.conv import CONV_ATTRS, conv_shape, convolve
from leptonc.ir.ops.integer_linear import WEIGHTS, dense_weight
from leptonc.ir.ops.windows import resolve_window
from leptonc.ir.table import Attr, Evaluation, Inference, Trait, define
from leptonc.ir.types import DType, TensorType

FILLER = {"filler": Attr("int", 0)}
TOGETHER = 4
"""The channels of a plain operand that are multiplied at once."""


def _check(call: Inference) -> None:
    check_dtype(call, "x", {DType.U8})
    check_dtype(call, "w", WEIGHTS)
    _check_point(call)
    if not 0 <= call.int("filler") <= 255:
        raise LeptonError(
            f"{call.definition.name}.filler is {call.int('filler')}, should be a byte", code="E108"
        )


def _check_point(call: Inference) -> None:
    point = call.type("point")
    if point is not None and point != TensorType(DType.U8, ()):
        raise LeptonError(f"{call.definition.name}.point is {point}, should be a byte", code="E103")


def _infer(call: Inference) -> TensorType:
    _check(call)
    return TensorType(DType.I32, conv_shape(call, call.types[0], call.types[1]))


def _sums(call: Evaluation, x: Array, w: Array) -> Array:
    """The sums modulo 2^32."""
    point = call.get("point")
    filler = call.int("filler") if point is None else np.int32(point)
    window = resolve_window(call, x.shape[2:], w.shape[2:])
    sums = convolve(x.astype(np.int32) - filler, w.astype(np.int32), window, call.int("group"))
    if point is not None:
        return np.asarray(sums, np.int32)
    whole = w.sum(tuple(range(1, w.ndim)), dtype=np.int32) * np.int32(filler)
    return np.asarray(sums + whole.reshape(-1, *(1,) * (x.ndim - 2)), np.int32)


INTEGER_CONV = define(
    "integer_conv(x, w, point?)",
    "Convolution of bytes with a weight of 8 or 16 bits, exact; around the operand stands "
    "`filler`, or it is bytes less `point`, with zeros around them.",
    infer=_infer, evaluate=lambda call: _sums(call, call[0], call[1]),
    attrs={**CONV_ATTRS, **FILLER}, traits=[Trait.PRODUCT],
)  # fmt: skip


def _blocked_infer(call: Inference) -> TensorType:
    _check(call)
    x, w, lanes = call.types[0], call.types[1], call.int("lanes")
    channels = w.shape[1] * call.int("group")
    if not isinstance(channels, int):
        raise LeptonError("integer_conv_blocked needs a weight of known extents", code="E103")
    plain = x if call.attrs["plain"] else unpacked_type(x, channels)
    return packed_type(TensorType(DType.I32, conv_shape(call, plain, w)), lanes)


def _blocked_evaluate(call: Evaluation) -> Array:
    x = call[0]
    if not call.attrs["plain"]:
        x = unpack_array(x, call[1].shape[1] * call.int("group"))
    return pack_array(_sums(call, x, call[1]), call.int("lanes"))


INTEGER_CONV_BLOCKED = define(
    "integer_conv_blocked(x, w, point?)",
    "`integer_conv` over planes of a blocked operand (plain if `plain`) to a blocked result.",
    infer=_blocked_infer, evaluate=_blocked_evaluate,
    attrs={
        **CONV_ATTRS, **FILLER, "lanes": Attr("int", required=True), "plain": Attr("bool", False),
    },
    traits=[Trait.PRODUCT],
)  # fmt: skip


def _packed_infer(call: Inference) -> TensorType:
    _check(call)
    x, space = call.types[0], call.types[0].shape[2:4]
    window = resolve_window(call, space, call.ints("kernel_shape") or ())
    plain = TensorType(DType.I32, (x.shape[0], call.int("filters"), *window.out))
    return packed_type(plain, call.int("lanes"))


def _packed_evaluate(call: Evaluation) -> Array:
    filters, lanes = call.int("filters"), call.int("lanes")
    kernel = call.ints("kernel_shape") or (1, 1)
    plain = bool(call.attrs["plain"])
    x = call[0] if plain else unpack_array(call[0], call[0].shape[1] * lanes)
    block = TOGETHER if plain else lanes
    matrix = dense_weight(call)[:, :filters].reshape(-1, *kernel, block, filters)
    w = matrix.transpose(4, 0, 3, 1, 2).reshape(filters, -1, *kernel)[:, : x.shape[1]]
    return pack_array(_sums(call, x, w), lanes)


PACKED_INTEGER_CONV = define(
    "packed_integer_conv(x, w, point?, extra?, places?, starts?, whole?)",
    "`integer_conv_blocked` with the weight as that of a `packed_integer_linear` whose depth is "
    "block of channels, row, column, channel of the block; four are a block of what is `plain`. "
    "With a `point`, `whole` has the sums of the filters.",
    infer=_packed_infer, evaluate=_packed_evaluate,
    attrs={
        **CONV_ATTRS, **FILLER, "lanes": Attr("int", required=True),
        "filters": Attr("int", required=True), "folds": Attr("int", 1),
        "plain": Attr("bool", False), "decision": Attr("str", ""),
    },
    traits=[Trait.PRODUCT],
)  # fmt: skip


def _filtered_evaluate(call: Evaluation) -> Array:
    """The weight at the points 0 and infinity, and between, gives back the filters."""
    filters, lanes, w = call.int("filters"), call.int("lanes"), call[1]
    x = unpack_array(call[0], call[0].shape[1] * lanes)
    points, panels, steps, panel, together = w.shape
    matrix = w.transpose(0, 2, 4, 1, 3).reshape(points, steps * together, panels * panel)
    axis = [0, 1, -1, 2, -2]
    values = np.array([[point**power for power in range(3)] for point in axis] + [[0, 0, 1]])
    inverse = np.linalg.pinv(values)
    square = matrix[..., :filters].reshape(6, 6, x.shape[1], filters)
    weight = np.rint(np.einsum("ip,pqco,jq->ocij", inverse, square, inverse))
    return pack_array(_sums(call, x, weight.astype(np.int8)), lanes)


PACKED_INTEGER_WINOGRAD = define(
    "packed_integer_winograd(x, w)",
    "`integer_conv_blocked` of 3 x 3 by tiles of 4 x 4, with the weight at the points 0, 1, -1, 2, "
    "-2 and infinity of both axes, each as that of a `packed_integer_linear` of 16 bits.",
    infer=_packed_infer, evaluate=_filtered_evaluate,
    attrs={
        **CONV_ATTRS, **FILLER, "lanes": Attr("int", required=True),
        "filters": Attr("int", required=True), "decision": Attr("str", ""),
    },
    traits=[Trait.PRODUCT],
)  # fmt: skip


def _single_infer(call: Inference) -> TensorType:
    """As that of the others; the weight is in words."""
    check_dtype(call, "x", {DType.U8})
    check_dtype(call, "w", {DType.I32})
    _check_point(call)
    x = call.types[0]
    window = resolve_window(call, x.shape[2:4], call.ints("kernel_shape") or ())
    plain = TensorType(DType.I32, (x.shape[0], call.int("filters"), *window.out))
    return packed_type(plain, call.int("lanes"))


def _single_evaluate(call: Evaluation) -> Array:
    """The weight stands in the lower halves of words, behind its rows what the filler adds."""
    filters, lanes = call.int("filters"), call.int("lanes")
    x = unpack_array(call[0], filters)
    taps = call[1][:, :-1].astype(np.uint16).astype(np.int16)
    w = np.moveaxis(taps, -1, 1).reshape(-1, 1, *(call.ints("kernel_shape") or (1, 1)))
    return pack_array(_sums(call, x, w[:filters]), lanes)


PACKED_INTEGER_DEPTHWISE = define(
    "packed_integer_depthwise(x, w, point?)",
    "`integer_conv_blocked` of each channel alone, with the weight as words i32[blocks, taps + 1, "
    "lanes] whose lower halves hold it; the last row is its sum times `filler`.",
    infer=_single_infer, evaluate=_single_evaluate,
    attrs={
        **CONV_ATTRS, **FILLER, "lanes": Attr("int", required=True),
        "filters": Attr("int", required=True), "decision": Attr("str", ""),
    },
    traits=[Trait.PRODUCT],
)  # fmt: skip
