"""Operations with weights in the order that kernels read them; made before code generation.

Their `decision` is what was decided of the kernel in place of formulas; it changes rounding alone.
"""

from __future__ import annotations

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.ops.bf16 import from_bits, to_bf16
from leptonc.ir.ops.blocked import pack_array, packed_type, unpack_array
from leptonc.ir.ops.conv import CONV_ATTRS, add_bias, convolve
from leptonc.ir.ops.extents import natural
from leptonc.ir.ops.tiles import convolve_by_tiles
from leptonc.ir.ops.windows import resolve_window
from leptonc.ir.table import Attr, Evaluation, Inference, Trait, define
from leptonc.ir.types import DType, TensorType


def _linear_infer(call: Inference) -> TensorType:
    x, w = call.types[0], call.types[1]
    if w.rank != 3 or x.shape[-1] != w.shape[1]:
        raise LeptonError(f"packed_linear of {x} and {w}: the depths differ", code="E103")
    return x.with_shape(*x.shape[:-1], call.int("columns"))


def _linear_evaluate(call: Evaluation) -> Array:
    x, w, bias = call[0], call[1], call.get("bias")
    wide = natural(x.dtype)
    matrix = np.moveaxis(w, 0, 1).reshape(w.shape[1], -1)[:, : call.int("columns")]
    y = np.matmul(x.astype(wide), matrix.astype(wide))
    return (y if bias is None else y + bias.astype(wide)).astype(x.dtype)


PACKED_LINEAR = define(
    "packed_linear(x, w, bias?)",
    "Rows times a weight of [panels, depth, panel width] with `columns` real columns, plus a bias.",
    infer=_linear_infer, evaluate=_linear_evaluate,
    attrs={"columns": Attr("int", required=True), "decision": Attr("str", "")},
    traits=[Trait.PRODUCT],
)  # fmt: skip


def _sum_of(dtype: DType) -> DType:
    """The type of sums of products of a type."""
    return DType.F32 if dtype is DType.BF16 else dtype


def _conv_infer(call: Inference) -> TensorType:
    x, lanes = call.types[0], call.int("lanes")
    channels, space = call.int("channels"), x.shape[2:4]
    plain = TensorType(_sum_of(x.dtype), (x.shape[0], channels, *space))
    window = resolve_window(call, space, call.ints("kernel_shape") or ())
    return packed_type(plain.with_shape(x.shape[0], call.int("filters"), *window.out), lanes)


def _conv_evaluate(call: Evaluation) -> Array:
    x, bias, lanes = call[0], call.get("bias"), call.int("lanes")
    x = x.astype(_sum_of(DType.of(x.dtype)).numpy)
    filters = call.int("filters")
    if not call.attrs["plain"]:
        x = unpack_array(x, call.int("channels"))
    wide = natural(x.dtype)
    window = resolve_window(call, x.shape[2:], call.ints("kernel_shape") or ())
    w = call[1]
    if w.dtype == np.uint16:
        x, pairs = to_bf16(x), np.moveaxis(from_bits(w), 3, 2)
        w = pairs.reshape(w.shape[0], -1, w.shape[2])
    weight = _unpacked_weight(call, w).astype(wide)
    y = convolve(x.astype(wide), weight, window, call.int("group"))
    return pack_array(add_bias(y, None if bias is None else bias[:filters]).astype(x.dtype), lanes)


def _unpacked_weight(call: Evaluation, w: Array) -> Array:
    """The weight as [filters, channels / group, rows, columns]."""
    group, filters = call.int("group"), call.int("filters")
    height, width = call.ints("kernel_shape") or (1, 1)
    if call.attrs["depthwise"]:
        return np.moveaxis(w, -1, 1).reshape(-1, 1, height, width)[:filters]
    depth = w.shape[1]
    rows = w.reshape(group, -1, depth, w.shape[2]).swapaxes(2, 3).reshape(group, -1, depth)
    rows = rows[:, : filters // group].reshape(filters, depth)
    block = 1 if call.attrs["plain"] else call.int("lanes")
    channels = call.int("channels") // group
    taps = depth // channels
    parts: list[Array] = []
    for start in range(0, channels, block):
        count = min(block, channels - start)
        part = rows[:, start * taps : (start + count) * taps]
        parts.append(np.moveaxis(part.reshape(filters, height, -1, count), -1, 1))
    return np.concatenate(parts, axis=1)[..., :width]


PACKED_CONV = define(
    "packed_conv(x, w, bias?)",
    "`conv_blocked` with a weight of [panels, products, panel width] "
    "([blocks, rows, columns, lanes] if `depthwise`) and a bias filled up to whole blocks.",
    infer=_conv_infer, evaluate=_conv_evaluate,
    attrs={
        "channels": Attr("int", required=True), "filters": Attr("int", required=True),
        "lanes": Attr("int", required=True), "plain": Attr("bool", False),
        "depthwise": Attr("bool", False), "decision": Attr("str", ""), **CONV_ATTRS,
    },
    traits=[Trait.PRODUCT],
)  # fmt: skip

PACKED_CONV_BF16 = define(
    "packed_conv_bf16(x, w, bias?)",
    "`packed_conv` of operands rounded to bf16, with the weight's bits as "
    "[panels, pairs of products, panel width, 2]: of channels, or if `plain` of columns, whose "
    "number is made even by zeros. Blocks of channels may be bf16 already.",
    infer=_conv_infer, evaluate=_conv_evaluate, attrs=PACKED_CONV.attrs, traits=[Trait.PRODUCT],
)  # fmt: skip


def _halved_evaluate(call: Evaluation) -> Array:
    x, bias, filters = call[0], call.get("bias"), call.int("filters")
    wide = natural(x.dtype)
    # the seven factors that follow each other, as `backends/cpu/halved_packing.py` has them
    factors = call[1].astype(wide).transpose(1, 2, 0, 3)
    _, above, b11, _, b22, left, _ = factors.reshape(*factors.shape[:2], -1)
    weight = np.block([[b11, above + b22], [left + b11, b22]]).T[:, :, np.newaxis, np.newaxis]
    plain = unpack_array(x, call.int("channels")).astype(wide)
    y = convolve(plain, weight, resolve_window(call, plain.shape[2:], (1, 1)), 1)
    y = add_bias(y, None if bias is None else bias[:filters])
    return pack_array(y.astype(x.dtype), call.int("lanes"))


PACKED_HALVED_CONV = define(
    "packed_halved_conv(x, w, bias?)",
    "`conv_blocked` of 1 x 1 by Strassen's seven products of halves, with a weight of [panels of "
    "half of the filters, 7, half of the channels, panel width].",
    infer=_conv_infer, evaluate=_halved_evaluate,
    attrs={
        "channels": Attr("int", required=True), "filters": Attr("int", required=True),
        "lanes": Attr("int", required=True), "decision": Attr("str", ""), **CONV_ATTRS,
    },
    traits=[Trait.PRODUCT],
)  # fmt: skip


def _winograd_evaluate(call: Evaluation) -> Array:
    x, bias, filters = call[0], call.get("bias"), call.int("filters")
    wide = natural(x.dtype)
    plain = unpack_array(x, call.int("channels")).astype(wide)
    window = resolve_window(call, plain.shape[2:], call.ints("kernel_shape") or ())
    y = convolve(plain, _weight_at_points(call).astype(wide), window, 1)
    y = add_bias(y, None if bias is None else bias[:filters])
    return pack_array(y.astype(x.dtype), call.int("lanes"))


def _weight_at_points(call: Evaluation) -> Array:
    """The weight as [filters, channels, 3, 3], from its values at 0 and at infinity and between."""
    w, filters = call[1].astype(np.float64), call.int("filters")
    values = np.array(call.attrs["values"], np.float64).reshape(-1, 3)
    points = np.moveaxis(w, 1, 2).reshape(*w.shape[:1], w.shape[2], -1)[..., :filters]
    square = points.reshape(len(values), len(values), *points.shape[1:])
    inverse = np.linalg.pinv(values)
    return np.einsum("ip,pqco,jq->ocij", inverse, square, inverse)


PACKED_WINOGRAD = define(
    "packed_winograd(x, w, bias?)",
    "`conv_blocked` of 3 x 3, with stride 1 or 2, by tiles of `outputs` squared, with a weight of "
    "[points, panels, channels, panel width] whose `values` at the points of an axis are rows of "
    "three.",
    infer=_conv_infer, evaluate=_winograd_evaluate,
    attrs={
        "channels": Attr("int", required=True), "filters": Attr("int", required=True),
        "lanes": Attr("int", required=True), "outputs": Attr("int", required=True),
        "values": Attr("floats", required=True), "decision": Attr("str", ""), **CONV_ATTRS,
    },
    traits=[Trait.PRODUCT],
)  # fmt: skip


def _winograd_bf16_evaluate(call: Evaluation) -> Array:
    x, w, bias, filters = call[0], call[1], call.get("bias"), call.int("filters")
    plain = unpack_array(x, call.int("channels"))
    at_points = w.transpose(0, 1, 3, 2, 4).reshape(w.shape[0], w.shape[1] * w.shape[3], -1)
    window = resolve_window(call, plain.shape[2:], call.ints("kernel_shape") or ())
    y = convolve_by_tiles(plain, from_bits(at_points[:, :filters]), window)
    y = add_bias(y, None if bias is None else bias[:filters])
    return pack_array(y.astype(x.dtype), call.int("lanes"))


PACKED_WINOGRAD_BF16 = define(
    "packed_winograd_bf16(x, w, bias?)",
    "`conv_blocked` of 3 x 3 by tiles of 2 x 2 outputs, rounded to bf16 at the points, with the "
    "weight's bits as [points, panels, pairs of channels, panel width, 2].",
    infer=_conv_infer, evaluate=_winograd_bf16_evaluate,
    attrs={
        "channels": Attr("int", required=True), "filters": Attr("int", required=True),
        "lanes": Attr("int", required=True), "decision": Attr("str", ""), **CONV_ATTRS,
    },
    traits=[Trait.PRODUCT],
)  # fmt: skip
