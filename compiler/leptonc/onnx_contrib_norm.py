"""Normalisations that onnxruntime fuses with what stands around them, taken apart again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.graph import Value
from leptonc.ir.types import DType
from leptonc.onnx_contrib_parts import (
    Results,
    Rule,
    as_row,
    cast,
    counted,
    integers,
    present,
    reshaped,
)
from leptonc.onnx_contrib_quantized import channels_first, channels_last
from leptonc.onnx_scope import Call


def _skip_normalization(call: Call) -> Results:
    """Normalises a sum and gives the sum as fourth result; nobody reads the two before it."""
    simplified = call.op_type == "SkipSimplifiedLayerNormalization"
    build = call.build
    total = build.add(call.required(0), call.required(1))
    bias = call.operand(3 if simplified else 4)
    if bias is not None:
        total = build.add(total, bias)
    epsilon = call.take("epsilon", "float", 1e-12)
    if simplified:
        values = [total, call.required(2)]
        return [_in_f32(build, "rms_normalization", values, epsilon)[0], None, None, total]
    normal = _in_f32(
        build, "layer_normalization", present(total, call.required(2), call.operand(3)), epsilon
    )
    return [*normal, *[None] * (3 - len(normal)), total]


def _in_f32(build: Builder, row: str, values: Sequence[Value], epsilon: float) -> list[Value]:
    """A normalisation of narrow floats is computed in f32, where small squares do not vanish."""
    dtype = values[0].type.dtype
    if dtype not in (DType.F16, DType.BF16):
        return list(build.op(row, values, {"epsilon": epsilon}).results)
    wide = [cast(build, value, DType.F32) for value in values]
    return [cast(build, build.op(row, wide, {"epsilon": epsilon}).results[0], dtype)]


def _embed_layer_normalization(call: Call) -> Results:
    tables = [call.required(2), call.required(3), call.operand(4)]
    call.take("mask_index_type", "int")  # the mask itself says whether there is an index
    affine = [call.required(5), call.required(6)]
    normal, total = _embedded(call, tables, affine, call.operand(8))
    return [normal, _lengths(call), total]


def _quantized_embed(call: Call) -> Results:
    """The same on tables of bytes."""

    def real(index: int, scale: int, zero: int) -> Value | None:
        value = call.operand(index)
        if value is None:
            return None
        parts = [value, call.required(scale), call.required(zero)]
        return call.build.op("dequantize_linear", parts).result

    tables = [real(2 + table, 8 + table, 13 + table) for table in range(3)]
    affine = present(real(5, 11, 16), real(6, 12, 17))
    return [_embedded(call, tables, affine, None)[0], _lengths(call)]


def _embedded(
    call: Call, tables: Sequence[Value | None], affine: Sequence[Value], place_ids: Value | None
) -> tuple[Value, Value]:
    """The sum of the rows that are looked up, normalised, and the sum itself."""
    build, ids, segments = call.build, call.required(0), call.operand(1)
    words, places, kinds = tables
    assert words is not None
    assert places is not None
    if place_ids is None:
        place_ids = counted(build, ids.type.shape[1])
    total = build.add(build.gather(words, ids), build.gather(places, place_ids))
    if segments is not None and kinds is not None:
        total = build.add(total, build.gather(kinds, segments))
    epsilon = call.take("epsilon", "float", 1e-12)
    return _in_f32(build, "layer_normalization", [total, *affine], epsilon)[0], total


def _lengths(call: Call) -> Value | None:
    """How many elements of each row the mask lets through; 0 without a mask."""
    if not call.wants(1):
        return None
    build, mask = call.build, call.operand(7)
    if mask is None:
        zero = build.const(np.zeros(1, np.int32))
        return build.expand(zero, build.dims(value=call.required(0).type.shape[:1], shape=(1,)))
    ones = cast(build, build.equal(mask, build.const(np.array(1, np.int32))), DType.I32)
    return build.op("reduce_sum", [ones, integers(build, [1])], {"keepdims": 0}).result


def _group_norm(call: Call) -> Results:
    """Group normalisation of images, whose channels come last unless it says otherwise."""
    build, x, rest = call.build, call.required(0), list[Value | None]()
    last = bool(call.take("channels_last", "int", 1))
    if call.op_type == "SkipGroupNorm":
        skip, bias = call.required(3), call.operand(4)
        if skip.type.rank == 2:
            batch, channels = skip.type.shape
            skip = reshaped(build, skip, batch, 1, 1, channels)
            skip = skip if last else channels_first(build, skip)
        x = build.add(x, skip)
        if bias is not None:
            shape = bias.type.shape if last else (*bias.type.shape, 1, 1)
            x = build.add(x, reshaped(build, bias, *shape))
        rest = [x]
    dtype = x.type.dtype
    groups, epsilon = call.take("groups", "int", 1), call.take("epsilon", "float", 1e-5)
    source = channels_first(build, x) if last else x
    values = [cast(build, value, DType.F32) for value in (source, *call.operands[1:3]) if value]
    attrs = {"num_groups": groups, "epsilon": epsilon}
    result = build.op("group_normalization", values, attrs).result
    if call.take("activation", "int", 0):
        result = build.mul(result, build.sigmoid(result))
    result = channels_last(build, result) if last else result
    return [cast(build, result, dtype), *rest]


NORMALIZATIONS: Mapping[str, Rule] = MappingProxyType({
    "LayerNormalization": as_row("layer_normalization"),
    "SimplifiedLayerNormalization": as_row("rms_normalization"),
    "SkipLayerNormalization": _skip_normalization,
    "SkipSimplifiedLayerNormalization": _skip_normalization,
    "EmbedLayerNormalization": _embed_layer_normalization,
    "QEmbedLayerNormalization": _quantized_embed,
    "GroupNorm": _group_norm,
    "SkipGroupNorm": _group_norm,
})  # fmt: skip
"""Operators by name, and what takes them apart."""
