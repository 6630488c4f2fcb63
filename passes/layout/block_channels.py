"""block-channels: convolutional regions get their channels in blocks of one vector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.graph import Graph, Op, Region, Value
from leptonc.ir.ops.blocked import pack_array
from leptonc.ir.table import Trait
from leptonc.ir.types import DType
from leptonc.passes.base import Pass, option
from leptonc.passes.context import PassContext
from leptonc.passes.contract import REASSOCIATES, Contract
from leptonc.passes.layout.blocked_factor import multiplied
from leptonc.passes.layout.blocked_transposed import kept_transposed, spread

FEW_CHANNELS, FEW_BYTES = 4, 7
"""A convolution of up to this many channels reads them plain: filling a block would cost more."""
MAKES_INFINITY = ("div", "reciprocal", "log", "pow", "mod")
"""Elementwise operations that may make Inf or NaN of the zeros that fill up a block."""
EXTREMES = ("reduce_max", "reduce_min")
"""Reductions of all elements for which their order is nothing."""
POOLS = {
    "max_pool": "max_pool_blocked",
    "average_pool": "average_pool_blocked",
    "global_average_pool": "global_average_pool_blocked",
}
FLOATS = frozenset({DType.F32})
BYTES = FLOATS | {DType.U8}


Rewrite = Callable[[Op, Builder], Value]


@dataclass(frozen=True)
class BlockChannels(Pass):
    """Gives convolutions, and what stands between them, the layout [N, C / lanes, H, W, lanes].

    Operands are packed where such a region begins and unpacked where something else reads it.
    Convolutions of f32 images with constant weights take part, transposed ones whose windows do not
    overlap, and so do elementwise operations, poolings and concatenations of their results. With
    `lanes` of 0 nothing changes.
    """

    name: ClassVar[str] = "block-channels"
    numbers: ClassVar[Contract] = REASSOCIATES
    lanes: int = option(0, "channels in a block: the f32 numbers in a vector of the target")

    def run(self, graph: Graph, context: PassContext) -> None:
        """Rewrite every convolutional part of each region."""
        regions: list[Region] = [graph]
        regions += [region for op in graph.walk() if op.name != "group" for region in op.regions]
        for region in regions if self.lanes else ():
            _Layout(region, context, self.lanes).run()


class _Layout:
    """One walk in dependency order; `blocked` knows the blocked form of each plain value."""

    def __init__(self, region: Region, context: PassContext, lanes: int) -> None:
        self.region, self.context, self.lanes = region, context, lanes
        self.blocked: dict[Value, Value] = {}

    def run(self) -> None:
        for op in self.region:
            if self._is_whole(op) and self.context.grant("block-channels", op.location):
                op.set_operand(0, self.blocked[op.operands[0]])
            if op.name == "dynamic_quantize_linear":
                self._quantize(op)
                continue
            if op.name == "conv_transpose":
                self._conv_transpose(op)
                continue
            rewrite = self._rewrite_of(op)
            if rewrite is not None and self.context.grant("block-channels", op.location):
                build = Builder(self.region, before=op, location=op.location)
                self._replace(op, rewrite(op, build), build)

    def _rewrite_of(self, op: Op) -> Rewrite | None:
        """How `op` is done on blocks; None where it stays as it is."""
        if op.name == "conv" and self._takes_part(op):
            return self._conv
        if op.name == "integer_conv" and self._is_known(op):
            return self._integer_conv
        if not any(value in self.blocked for value in op.operands) or len(op.results) == 0:
            return None
        if (
            op.name in POOLS
            and op.results[0].type.rank == 4
            and op.operands[0].type.dtype in (BYTES if op.name == "max_pool" else FLOATS)
            and not any(v.is_used for v in op.results[1:])
        ):
            return self._pool
        if op.definition.has(Trait.ELEMENTWISE) and self._is_blockable(op):
            return self._elementwise
        if op.name == "concat" and self._is_aligned_concat(op):
            return self._concat
        return None

    def _replace(self, op: Op, result: Value, build: Builder) -> None:
        """The plain form of `result` takes the place of `op`; it goes where nothing needs it."""
        old = op.results[0]
        channels = old.type.shape[1]
        plain = build.unpack_channels(result, channels=channels)
        if (
            old.type.shape[2:] == (1, 1)
            and isinstance(channels, int)
            and channels % self.lanes == 0
        ):
            self.region.erase(plain.producer)  # pyright: ignore[reportArgumentType]
            plain = self._flattened(result, old, build)
        plain.type = old.type
        result.name, plain.name = f"{old.name}.blocked" if old.name else "", old.name
        self.blocked[plain] = result
        old.replace_uses_with(plain)
        self.region.erase(op)

    def _flattened(self, result: Value, old: Value, build: Builder) -> Value:
        """One pixel's channels lie in plain order already."""
        content = (*old.type.shape,)
        shape = build.dims(value=content, shape=(len(content),))
        return build.reshape(result, shape)

    def _pack(self, value: Value, build: Builder) -> Value:
        """The blocked form of `value`."""
        if value not in self.blocked:
            blob = value.blob
            if blob is not None:
                self.blocked[value] = build.const(pack_array(blob.array, self.lanes))
            else:
                self.blocked[value] = build.pack_channels(value, lanes=self.lanes)
        return self.blocked[value]

    # ------------------------------------------------------------ convolutions

    def _takes_part(self, op: Op) -> bool:
        x, w = op.operands[0].type, op.operands[1]
        if x.rank != 4 or x.dtype is not DType.F32 or w.blob is None:
            return False
        bias = op.operand("bias")
        if (bias is not None and bias.blob is None) or op.attrs["auto_pad"] not in (
            "NOTSET",
            "VALID",
        ):
            return False
        group = op.int("group")
        outputs, inputs, *_ = w.type.extents
        depthwise = inputs == 1 and outputs == group
        whole = inputs % self.lanes == 0 and (outputs // group) % self.lanes == 0
        if not (group == 1 or depthwise or whole):
            self.context.miss(
                "block-channels", op.location, f"{group} groups do not split into blocks"
            )
            return False
        return 0 not in w.type.extents

    def _is_known(self, op: Op) -> bool:
        """True for convolutions of planes of bytes, together or each alone, whose pads are told."""
        x, w = op.operands[0].type, op.operands[1]
        pads = op.attrs["auto_pad"] in ("NOTSET", "VALID")
        if x.rank != 4 or w.blob is None or not pads:
            return False
        group, (filters, inputs, *_) = op.int("group"), w.type.extents
        return group == 1 or (inputs == 1 and filters == group)

    def _integer_conv(self, op: Op, build: Builder) -> Value:
        x, *others = op.operands
        plain = self._is_of_few(op) and x not in self.blocked
        attrs = {**op.attrs, "lanes": self.lanes, "plain": plain}
        operands = [x if plain else self._pack(x, build), *others]
        return build.op("integer_conv_blocked", operands, attrs, names=op.operand_names).result

    def _is_of_few(self, op: Op) -> bool:
        return op.int("group") == 1 and op.operands[1].type.extents[1] <= FEW_BYTES

    def _quantize(self, op: Op) -> None:
        """Bytes by the range of a blocked operand, or of one that is in blocks where it is read."""
        x, y = op.operands[0], op.results[0]
        reads = any(
            user.name == "integer_conv" and self._is_known(user) and not self._is_of_few(user)
            for user in y.users
        )
        channels = x.type.shape[1] if x.type.rank == 4 else None
        if not isinstance(channels, int) or not (x in self.blocked or reads):
            return
        if not self.context.grant("block-channels", op.location):
            return
        build = Builder(self.region, before=op, location=op.location)
        operands = multiplied(x, self._pack(x, build))
        names, attrs = ("x", "factor")[: len(operands)], {"channels": channels}
        new = build.op("dynamic_quantize_blocked", operands, attrs, names=names).results
        for old, result in zip(op.results[1:], new[1:], strict=True):
            result.name = old.name
            old.replace_uses_with(result)
        self._replace(op, new[0], build)

    def _conv(self, op: Op, build: Builder) -> Value:
        x, w = op.operands[0], op.operands[1]
        bias = op.operand("bias")
        plain = x not in self.blocked and op.int("group") == 1 and w.type.extents[1] <= FEW_CHANNELS
        source = x if plain else self._pack(x, build)
        attrs = {**op.attrs, "lanes": self.lanes, "plain": plain}
        operands = [source, w] if bias is None else [source, w, bias]
        return build.op("conv_blocked", operands, attrs).result

    def _conv_transpose(self, op: Op) -> None:
        reason = kept_transposed(op, self.lanes)
        if reason is not None:
            self.context.miss("block-channels", op.location, reason)
        elif self.context.grant("block-channels", op.location):
            build = Builder(self.region, before=op, location=op.location)
            result, is_blocked = spread(op, self._pack(op.operands[0], build), build, self.lanes)
            if is_blocked:
                self._replace(op, result, build)
                return
            result.type, result.name = op.result.type, op.result.name
            op.result.replace_uses_with(result)
            self.region.erase(op)

    # ------------------------------------------------------------ what stands between

    def _pool(self, op: Op, build: Builder) -> Value:
        row = POOLS[op.name]
        attrs = {key: value for key, value in op.attrs.items() if key != "storage_order"}
        return build.op(row, [self.blocked[op.operands[0]]], attrs).result

    def _is_blockable(self, op: Op) -> bool:
        """True where each operand is blocked, or is small enough to be brought into blocks."""
        result = op.results[0].type
        if result.rank != 4 or len(op.results) != 1:
            return False
        channels = result.shape[1]
        if not isinstance(channels, int) or (channels % self.lanes and op.name in MAKES_INFINITY):
            return False
        return all(self._is_bringable(value, channels) for value in op.operands)

    def _is_whole(self, op: Op) -> bool:
        """True for an extreme of all elements, where the blocks hold no others."""
        if op.name not in EXTREMES or op.int("noop_with_empty_axes") or op.operand("axes"):
            return False
        value = op.operands[0]
        channels = value.type.shape[1] if value in self.blocked else None
        whole = isinstance(channels, int) and channels % self.lanes == 0
        return whole and not op.int("keepdims")

    def _is_bringable(self, value: Value, channels: int) -> bool:
        shape = value.type.shape
        if value in self.blocked:
            return shape[1] == channels
        if value.type.rank == 0 or (value.blob is not None and value.blob.size == 1):
            return True
        if value.type.rank > 4 or (len(shape) >= 3 and shape[-3] not in (1, channels)):
            return False
        per_channel = len(shape) >= 3 and shape[-2:] == (1, 1)
        return per_channel or (len(shape) == 4 and value.blob is not None)

    def _elementwise(self, op: Op, build: Builder) -> Value:
        operands = [self._bring(value, build) for value in op.operands]
        return build.op(op.definition, operands, op.attrs, names=op.operand_names).result

    def _bring(self, value: Value, build: Builder) -> Value:
        if value in self.blocked:
            return self.blocked[value]
        if not value.type.rank:
            return value
        if value.blob is not None and value.blob.size == 1:
            return build.const(value.blob.array.reshape(()))
        if value.blob is not None:
            array = value.blob.array
            array = array.reshape((1,) * (4 - array.ndim) + array.shape)
            return build.const(
                np.expand_dims(array, -1) if array.shape[1] == 1 else pack_array(array, self.lanes)
            )
        shape = (1,) * (4 - value.type.rank) + value.type.shape
        if shape[1] == 1:
            return build.reshape(value, build.dims(value=(*shape, 1), shape=(5,)))
        if value.type.rank < 4:
            value = build.reshape(value, build.dims(value=shape, shape=(4,)))
        return self._pack(value, build)

    def _is_aligned_concat(self, op: Op) -> bool:
        if op.results[0].type.rank != 4 or op.int("axis") % 4 != 1:
            return False
        whole = all(
            isinstance(v.type.shape[1], int) and v.type.shape[1] % self.lanes == 0
            for v in op.operands
        )
        return whole and all(value in self.blocked for value in op.operands)

    def _concat(self, op: Op, build: Builder) -> Value:
        return build.op(
            "concat", [self.blocked[value] for value in op.operands], {"axis": 1}
        ).result
