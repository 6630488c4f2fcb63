"""Weights of a few bits in blocks with scales of their own, as com.microsoft stores them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from leptonc.ir.blob import Array, Blob
from leptonc.ir.build import Builder
from leptonc.ir.graph import Value
from leptonc.ir.types import DType, TensorType
from leptonc.onnx_contrib_parts import (
    Results,
    Rule,
    cast,
    part,
    refuse,
)
from leptonc.onnx_scope import Call

UNSIGNED: Mapping[int, DType] = MappingProxyType({2: DType.U2, 4: DType.U4, 8: DType.U8})

# The 16 values that 4 bits stand for: a float with an exponent of two bits, and quantiles of the
# normal distribution.
FP4 = (0.0, 0.005208333, 0.66666667, 1.0, 0.33333333, 0.5, 0.16666667, 0.25)
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
)  # fmt: skip


def unpacked(packed: Blob, bits: int, rows: int, columns: int) -> Blob:
    """The numbers of `bits` each in the bytes of `packed`, the lowest first, row by row."""
    dtype = UNSIGNED[bits]

    def load() -> Array:
        data = packed.array.reshape(rows, -1).view(np.uint8)
        shifts = np.arange(0, 8, bits, dtype=np.uint8)
        codes = (data[:, :, None] >> shifts) & np.uint8(2**bits - 1)
        return codes.reshape(rows, -1)[:, :columns].astype(dtype.numpy)

    return Blob(TensorType(dtype, (rows, columns)), load)


def known(call: Call, index: int, what: str) -> Blob:
    """The data of an operand that has to be constant."""
    blob = call.required(index).blob
    if blob is None:
        raise refuse(call, f"{what} that are not constant")
    return blob


def _matmul_n_bits(call: Call) -> Results:
    """A product with rows of a weight, each in blocks that share a scale."""
    build, bits = call.build, call.take("bits", "int", 4)
    columns, depth = call.take("N", "int", 0), call.take("K", "int", 0)
    call.take("accuracy_level", "int")  # the least precision asked for: this is more
    if call.take("weight_prepacked", "int", 0):
        raise refuse(call, "weights packed for one processor")
    if bits not in UNSIGNED:
        raise refuse(call, f"{bits} bits")
    x = cast(build, call.required(0), DType.F32)
    result = _product(call, x, bits, columns, depth)
    bias = call.operand(5)
    if bias is not None:
        result = build.add(result, cast(build, bias, DType.F32))
    return [cast(build, result, call.required(0).type.dtype)]


def _product(call: Call, x: Value, bits: int, columns: int, depth: int) -> Value:
    """The product with the weight in bytes, or in floats where its zero points forbid those."""
    build = call.build
    size: int = call.take("block_size", "int", 0)
    blocks = -(-depth // size)
    codes = unpacked(known(call, 1, "weights"), bits, columns, depth)
    scales = known(call, 2, "scales")
    groups = known(call, 4, "groups") if call.operand(4) is not None else None
    zero = known(call, 3, "zero points") if call.operand(3) is not None else None
    if zero is not None and zero.type.dtype is DType.U8:
        zero = unpacked(zero, bits, columns, blocks)

    def load() -> Array:
        index = np.arange(depth) // size if groups is None else groups.array.reshape(-1)
        factors = scales.array.astype(np.float32).reshape(columns, blocks)
        points = np.full((columns, blocks), 2 ** (bits - 1), np.float32)
        if zero is not None:
            points = zero.array.astype(np.float32).reshape(columns, blocks)
        centred = codes.array.astype(np.float32) - points[:, index]
        return centred * factors[:, index]

    if groups is not None or (zero is not None and (bits == 8 or zero.type.dtype.is_float)):
        weight = build.const(Blob(TensorType(DType.F32, (columns, depth)), load))
        return build.op("linear", [x, weight], {"transposed": True}).result

    def load_bytes() -> Array:
        points = np.int16(2 ** (bits - 1)) if zero is None else _points(zero, depth, size)
        return (codes.array.astype(np.int16) - points).astype(np.int8).T.copy()

    data = build.const(Blob(TensorType(DType.I8, (depth, columns)), load_bytes))
    rows = Blob(
        TensorType(DType.F32, (blocks, columns)),
        lambda: scales.array.astype(np.float32).reshape(columns, blocks).T.copy(),
    )
    return build.op("linear_bytes", [x, data, build.const(rows)], {"block_size": size}).result


def _points(zero: Blob, depth: int, size: int) -> Array:
    """The zero point of each element, by column."""
    return np.repeat(zero.array.astype(np.int16), size, axis=1)[:, :depth]


def _matmul_bnb4(call: Call) -> Results:
    """A product with a weight whose elements stand in a table of 16, in blocks that are scaled."""
    build = call.build
    columns, depth = call.take("N", "int", 0), call.take("K", "int", 0)
    size, kind = call.take("block_size", "int", 0), call.take("quant_type", "int", 0)
    turned = bool(call.take("transB", "int", 1))
    call.take("training_mode", "int")
    packed, largest = known(call, 1, "weights"), known(call, 2, "scales")
    table = np.array(NF4 if kind else (*FP4, *(-number for number in FP4)), np.float32)

    def load() -> Array:
        data = packed.array.reshape(-1)
        codes = np.stack([data >> 4, data & 15], axis=-1).reshape(-1)[: columns * depth]
        scales = np.repeat(largest.array.reshape(-1).astype(np.float32), size)[: codes.size]
        return (table[codes] * scales).reshape(columns, depth)

    weight = build.const(Blob(TensorType(DType.F32, (columns, depth)), load))
    x = cast(build, call.required(0), DType.F32)
    if not turned:
        raise refuse(call, "a weight that is not transposed")
    result = build.op("linear", [x, weight], {"transposed": True}).result
    return [cast(build, result, call.required(0).type.dtype)]


def _gather_block_quantized(call: Call) -> Results:
    """Rows of a table in blocks that share a scale, made real after they are looked up."""
    build, data = call.build, call.required(0)
    size = call.take("block_size", "int", 128)
    rank = data.type.rank
    axis = call.take("gather_axis", "int", 0) % rank
    along = call.take("quantize_axis", "int", 1) % rank
    bits = call.take("bits", "int", 4)
    packed = data.type.dtype is DType.U8 and bits < 8
    if packed and along != rank - 1:
        raise refuse(call, "bytes that are packed along another axis than the last")
    if axis == along:
        raise refuse(call, "blocks along the axis that is looked up")
    scales, zero = call.required(2), call.operand(3)
    if data.type.dtype is DType.U8:
        data = _codes(call, 0, bits) if packed else data
        if zero is None:
            zero = build.const(np.full(scales.type.extents, 2 ** (bits - 1), np.uint8))
        elif packed:
            zero = part(build, _codes(call, 3, bits), 0, scales.type.shape[-1], along)
    indices = call.required(1)
    # whole bytes from here on, which every target reads
    sources = [data, scales] if zero is None else [data, scales, zero]
    parts = [build.gather(_in_bytes(build, x), indices, axis=axis) for x in sources]
    shifted = along + indices.type.rank - 1 if along > axis else along
    attrs = {"axis": shifted, "block_size": size}
    return [build.op("dequantize_linear", parts, attrs).result]


def _in_bytes(build: Builder, value: Value) -> Value:
    if value.type.dtype not in (DType.U4, DType.I4):
        return value
    return cast(build, value, DType.I8 if value.type.dtype.is_signed else DType.U8)


def _codes(call: Call, index: int, bits: int) -> Value:
    blob = known(call, index, "tables")
    *lead, last = blob.type.extents
    shape = (*lead, last * 8 // bits)
    codes = unpacked(blob, bits, int(np.prod(lead)), shape[-1])
    return call.build.const(
        Blob(TensorType(codes.type.dtype, shape), lambda: codes.array.reshape(shape))
    )


BLOCKS: Mapping[str, Rule] = MappingProxyType({
    "MatMulNBits": _matmul_n_bits,
    "MatMulBnb4": _matmul_bnb4,
    "GatherBlockQuantized": _gather_block_quantized,
})  # fmt: skip
"""Operators by name, and what takes them apart."""
