# pyright: standard
"""Conversion between N, C, H, W and blocks of channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.emit import Extent, Register
from leptonc.backends.cpu.packing import channel_blocks
from leptonc.backends.cpu.sharing import shares_channels
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.cpu.transpose import transposed
from leptonc.backends.tvm.binding import Buffer, PrimExpr, tirx


@dataclass(frozen=True)
class LayoutSpec:
    """A tensor f32[batch, channels, height, width], or its form in blocks of channels."""

    batch: Extent
    channels: int
    height: Extent
    width: Extent


def pack(name: str, spec: LayoutSpec, cpu: CpuTarget) -> PrimFunc:
    """The kernel (x[N, C, H, W], out[N, C / lanes, H, W, lanes]); unused lanes become zero."""
    return convert(name, spec, cpu, packing=True)


def unpack(name: str, spec: LayoutSpec, cpu: CpuTarget) -> PrimFunc:
    """The kernel (x[N, C / lanes, H, W, lanes], out[N, C, H, W])."""
    return convert(name, spec, cpu, packing=False)


def convert(name: str, spec: LayoutSpec, cpu: CpuTarget, *, packing: bool) -> PrimFunc:
    """The kernel of one direction."""
    lanes, blocks = cpu.lanes, channel_blocks(spec.channels, cpu.lanes)
    plain = (spec.batch, spec.channels, spec.height, spec.width)
    blocked = (spec.batch, blocks, spec.height, spec.width, lanes)
    parameters = [
        ("x", plain if packing else blocked, "float32"),
        ("out", blocked if packing else plain, "float32"),
    ]
    pixels = emit.product((spec.height, spec.width))
    parallel = shares_channels(cpu, blocks * lanes, (spec.height, spec.width), 10)

    def body(x: Buffer, out: Buffer) -> None:
        flat = {
            "plain": emit.view(x if packing else out, (spec.batch, spec.channels, pixels)),
            "blocked": emit.view(out if packing else x, (spec.batch, blocks, pixels, lanes)),
        }
        move = pack_pixels if packing else unpack_pixels
        full, rest = divmod(spec.channels, lanes)
        if full:
            with emit.outer_loop(emit.product((spec.batch, full)), parallel=parallel) as step:
                image, block = tirx.floordiv(step, full), tirx.floormod(step, full)
                tiles(pixels, lanes, lambda at, n: move(flat, (image, block), at, n, lanes, lanes))
        if rest:
            with emit.serial(spec.batch) as image:
                block = emit.integer(full)
                tiles(pixels, lanes, lambda at, n: move(flat, (image, block), at, n, rest, lanes))

    return emit.function(name, parameters, body)


def tiles(pixels: Extent, lanes: int, move: Callable[[PrimExpr, int], None]) -> None:
    """Moves all pixels: whole vectors of them, the last moved to where it ends at the end."""
    total = emit.integer(pixels)
    with T.If(total >= lanes):
        with T.Then(), emit.serial(emit.ceildiv(pixels, lanes)) as step:
            move(emit.let(tirx.min(step * lanes, total - lanes)), lanes)
        with T.Else(), emit.serial(pixels) as step:
            move(step, 1)


def pack_pixels(
    flat: dict[str, Buffer],
    place: tuple[PrimExpr, PrimExpr],
    pixel: PrimExpr,
    count: int,
    channels: int,
    lanes: int,
) -> None:
    """Moves so many pixels of the channels that a block has."""
    image, block = place
    rows = [Register(count) for _ in range(lanes)]
    for channel, row in enumerate(rows):
        source = [image, block * lanes + channel, pixel]
        zero = emit.broadcast(emit.const(0.0), count)
        row.set(emit.load(flat["plain"], source, count) if channel < channels else zero)
    if count == 1:
        for channel, row in enumerate(rows):
            emit.store(flat["blocked"], row.get(), [image, block, pixel, channel])
        return
    for offset, row in enumerate(transposed(rows)):
        emit.store(flat["blocked"], row.get(), [image, block, pixel + offset, 0], lanes)


def unpack_pixels(
    flat: dict[str, Buffer],
    place: tuple[PrimExpr, PrimExpr],
    pixel: PrimExpr,
    count: int,
    channels: int,
    lanes: int,
) -> None:
    """Moves so many pixels of the channels that a block has."""
    image, block = place
    if count == 1:
        for channel in range(channels):
            value = emit.load(flat["blocked"], [image, block, pixel, channel])
            emit.store(flat["plain"], value, [image, block * lanes + channel, pixel])
        return
    rows = [Register(lanes) for _ in range(count)]
    for offset, row in enumerate(rows):
        row.set(emit.load(flat["blocked"], [image, block, pixel + offset, 0], lanes))
    for channel, row in enumerate(transposed(rows)[:channels]):
        emit.store(flat["plain"], row.get(), [image, block * lanes + channel, pixel], count)
