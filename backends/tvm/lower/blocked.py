# pyright: standard
"""Tensors with channels in blocks: into that layout, out of it, and poolings in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm import tirx

from leptonc.backends.tvm.lower.parts import Tensor, compute
from leptonc.backends.tvm.lowering import LowerCall, Reason, Rule


def _pack(call: LowerCall) -> Tensor:
    x, lanes = call[0], call.index(call.known.int("lanes"))
    channels = call.dim(call.known.types[0].shape[1])
    exact = call.known.types[0].shape[1] % call.known.int("lanes") == 0

    def element(batch: Any, block: Any, *rest: Any) -> Any:
        *space, lane = rest
        channel = block * lanes + lane
        if exact:
            return x(batch, channel, *space)
        inside = tirx.min(channel, channels - call.index(1))
        zero = tirx.const(0, call.dtype())
        return tirx.if_then_else(channel < channels, x(batch, inside, *space), zero)

    return compute(call.shape(), element, name="packed")


def _unpack(call: LowerCall) -> Tensor:
    x = call[0]
    lanes = call.dim(call.known.types[0].shape[-1])

    def element(batch: Any, channel: Any, *space: Any) -> Any:
        return x(batch, tirx.floordiv(channel, lanes), *space, tirx.floormod(channel, lanes))

    return compute(call.shape(), element, name="unpacked")


RULES: Mapping[str, Rule] = {"pack_channels": _pack, "unpack_channels": _unpack}
REASONS: Mapping[str, Reason] = {}
