"""How convolutions over blocks of channels take their weights."""

from __future__ import annotations

from collections.abc import Mapping

from leptonc.backends.cpu.bf16_packing import (
    bf16_conv_weight_shape,
    bf16_winograd_weight_shape,
    pack_bf16_conv_weight,
    pack_bf16_winograd_weight,
)
from leptonc.backends.cpu.decision import Decision
from leptonc.backends.cpu.halved_packing import VECTORS, halved_weight_shape, pack_halved_weight
from leptonc.backends.cpu.packed import Packing, decided_panel, floats
from leptonc.backends.cpu.packing import (
    ConvWeight,
    channel_blocks,
    conv_weight_shape,
    pack_channels,
    pack_conv_weight,
    pack_depthwise_weight,
)
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.cpu.tiles import conv_panel, is_single
from leptonc.backends.cpu.winograd_tables import (
    PAIRS,
    TAPS,
    band_tiles,
    pack_winograd_weight,
    transform_of,
    winograd_weight_shape,
)
from leptonc.ir.blob import Array, Blob
from leptonc.ir.dims import ceildiv, product
from leptonc.ir.graph import Op
from leptonc.ir.types import DType, TensorType

_KEPT_BY_CONV = ("strides", "dilations", "pads", "group", "plain", "lanes")


def conv(op: Op, blobs: Mapping[str, Blob], cpu: CpuTarget, decision: Decision) -> Packing | None:
    """A convolution over blocks: by Winograd's tiles, depthwise, or direct."""
    blob, group, lanes = blobs["w"], op.int("group"), op.int("lanes")
    filters, part, height, width = blob.type.extents
    tile = op.int("tile")
    if decision.tile is not None and may_filter(op):
        tile = decision.tile if decision.tile in PAIRS else 0
    if tile:
        return _winograd(op, blobs, tile, cpu, decision)
    if op.attrs["halved"]:
        return _halved(op, blobs, cpu, decision)
    depthwise = part == 1 and group == filters and group > 1
    sizes = ConvWeight(part * group, filters, (height, width), group, bool(op.attrs["plain"]))
    pixels = product(op.result.type.shape[2:4])
    # an image of bf16 is a fifth faster in tiles of two vectors, however few its products
    depth = None if op.attrs["rounds"] and sizes.plain else part * height * width
    panel = decided_panel(decision, cpu) or conv_panel(
        filters // group, pixels if isinstance(pixels, int) else None, cpu, depth
    )
    kept = sizes.plain or op.attrs["rounds"] or decision.vectors
    if not kept and is_single(filters, part, height * width, cpu):
        panel = 1

    def pack() -> Array:
        weight = blob.array
        return (
            pack_depthwise_weight(weight, lanes)
            if depthwise
            else pack_conv_weight(weight, sizes, panel, lanes)
        )

    blocks = channel_blocks(filters, lanes)
    shape = (blocks, height, width, lanes) if depthwise else conv_weight_shape(sizes, panel)
    packed = {"w": floats(shape, pack), **_bias(blobs, filters, lanes)}
    if op.attrs["rounds"]:
        bits = TensorType(DType.U16, bf16_conv_weight_shape(sizes, panel))
        packed["w"] = Blob(bits, lambda: pack_bf16_conv_weight(blob.array, sizes, panel, lanes))
    attrs = {
        **{name: op.attrs[name] for name in _KEPT_BY_CONV},
        "kernel_shape": (height, width),
        "channels": sizes.channels,
        "filters": filters,
        "depthwise": depthwise,
        "decision": decision.text,
    }  # fmt: skip
    return Packing("packed_conv_bf16" if op.attrs["rounds"] else "packed_conv", attrs, packed)


def may_filter(op: Op) -> bool:
    """Whether Winograd's tiles can compute a blocked convolution with a constant weight."""
    dense = all(n == 1 for n in op.ints("dilations") or ())
    weight = op.operands[1].type
    return (
        weight.dtype is DType.F32 and weight.extents[2:] == (TAPS, TAPS) and dense
        and tuple(op.ints("strides") or (1, 1)) in ((1, 1), (2, 2))
        and op.int("group") == 1 and not op.attrs["plain"] and not op.attrs["rounds"]
    )  # fmt: skip


def stride_of(op: Op) -> int:
    """The stride, in both directions, of what the tiles can compute."""
    return (op.ints("strides") or (1,))[0]


def _bias(blobs: Mapping[str, Blob], filters: int, lanes: int) -> dict[str, Blob]:
    """The bias filled up to whole blocks, if there is one."""
    if "bias" not in blobs:
        return {}
    bias = blobs["bias"]
    shape = (channel_blocks(filters, lanes) * lanes,)
    return {"bias": floats(shape, lambda: pack_channels(bias.array, lanes))}


def _halved(op: Op, blobs: Mapping[str, Blob], cpu: CpuTarget, decision: Decision) -> Packing:
    blob, lanes = blobs["w"], op.int("lanes")
    filters, channels = blob.type.extents[:2]
    sizes, panel = ConvWeight(channels, filters, (1, 1)), VECTORS * cpu.lanes
    shape = halved_weight_shape(sizes, panel)
    packed = floats(shape, lambda: pack_halved_weight(blob.array, sizes, panel, lanes))
    attrs = {
        "kernel_shape": (1, 1), "strides": op.attrs["strides"], "lanes": lanes,
        "channels": channels, "filters": filters, "decision": decision.text,
    }  # fmt: skip
    return Packing("packed_halved_conv", attrs, {"w": packed, **_bias(blobs, filters, lanes)})


def _winograd(
    op: Op, blobs: Mapping[str, Blob], outputs: int, cpu: CpuTarget, decision: Decision
) -> Packing:
    blob, lanes, rounds = blobs["w"], op.int("lanes"), bool(op.attrs["rounds"])
    filters, channels = blob.type.extents[:2]
    stride = stride_of(op)
    transform = transform_of(outputs, stride)
    rows = decision.band or band_tiles(channels, filters, transform, cpu, 2 if rounds else 4)
    all_rows = product(ceildiv(extent, outputs) for extent in op.result.type.shape[2:4])
    if isinstance(all_rows, int):
        rows = min(rows, all_rows)
    panel = decided_panel(decision, cpu) or conv_panel(filters, rows, cpu)
    attrs = {
        "pads": op.attrs["pads"], "kernel_shape": (3, 3), "lanes": lanes,
        "channels": channels, "filters": filters, "decision": decision.text,
    }  # fmt: skip
    bias = _bias(blobs, filters, lanes)
    if rounds:
        bits = TensorType(DType.U16, bf16_winograd_weight_shape(channels, filters, panel))
        words = Blob(bits, lambda: pack_bf16_winograd_weight(blob.array, panel))
        return Packing("packed_winograd_bf16", attrs, {"w": words, **bias})
    shape = winograd_weight_shape(transform.points, channels, filters, panel)
    packed = floats(shape, lambda: pack_winograd_weight(blob.array, outputs, panel, stride))
    values = tuple(float(v) for v in transform.weight_matrix().reshape(-1))
    attrs |= {"outputs": outputs, "values": values, "strides": (stride, stride)}
    return Packing("packed_winograd", attrs, {"w": packed, **bias})
